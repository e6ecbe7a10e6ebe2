"""A table of command lines and config files: what is certainly wrong is told, and nothing else."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from fer_lightning.cli.early_check import check_command_line
from fer_lightning.errors import FERError

DATA = "--data=SketchDataModule"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("test --ckpt_path=auto", "fer test needs --ckpt_path"),
        ("test", "fer test needs --ckpt_path"),
        ("test --print_config", ""),
        ("test --ckpt_path=last", ""),
        ("fit", "fer fit needs data and a network"),
        ("fit --ckpt_path=auto", "fer fit needs data: --data CLASS"),
        ("fit --ckpt_path=last", ""),
        ("fit --print_config", ""),
        ("fit --help", ""),
        ("fit --ckpt_path=nowhere.ckpt", "nowhere.ckpt"),
        ("fit --ckpt_path=~/there.ckpt", ""),
        (f"fit {DATA} --model.tau -0.5", ""),
        (f"fit {DATA} --model.tau -.5", ""),
        (f"fit {DATA} --model.tau", "--model.tau needs a value"),
        (f"fit {DATA} --model.tau=", "--model.tau needs a value, and has an empty one"),
        (f"fit {DATA} -c nowhere.yaml", "nowhere.yaml"),
        (f"fit {DATA} --model.num_classes=3", "how many classes there are comes from the data"),
        (f"fit {DATA} --model.monitor=val_accc", "no metric is called 'val_accc'"),
        (f"fit {DATA} --checkpoint.monitor=val_accc", "no metric is called 'val_accc'"),
        (f"fit {DATA} --trainer=cpu", "did you mean --trainer.accelerator cpu?"),
        (f"fit {DATA} '--trainer.callbacks=[EMA, EarlyStoping]'", "did you mean 'EarlyStopping'"),
        (f"fit {DATA} --trainer.callbacks+=EMA --trainer.callbacks.decai=0.5", "EMA has no argument 'decai'"),
        (f"fit {DATA} --model.lr_scheduler=StepLR --model.lr_scheduler.step_size=0", "at least 1"),
        (f"fit {DATA} --model.lr_scheduler=StepLR", "StepLR needs step_size"),
        (f"fit {DATA} --model.lr_scheduler.warmup=0.5", "say for example --model.lr_scheduler WarmupCosine"),
        (f"fit {DATA} --model.head.dropout=0.5", ""),
        (f"fit {DATA} --model.head.hidden=5", "LinearHead has no argument 'hidden'"),
        (f"fit {DATA} --model.loss.label_smoothing=0.1", ""),
        (f"fit {DATA} --trainer.enable_checkpointing=false", "does not go with a run"),
        (f"fit {DATA} --trainer.max_epochs=two", "trainer.max_epochs"),
        (f"fit {DATA} --data.dict_kwargs.any=1", ""),
        ("fit --data.root=faces", "fer fit needs a class that reads the data"),
    ],
)
def test_a_command_line(line: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "there.ckpt").touch()
    verb, *args = shlex.split(line)
    if not told:
        check_command_line(verb, args)
        return
    with pytest.raises(FERError) as caught:
        check_command_line(verb, args)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model:\n", ""),
        ("model: 3\n", "expected keys with their values, as {a: b}, found a"),
        ("data: {SketchDataModule: {train: 5}}\n", "write class_path: SketchDataModule, and its arguments below"),
        ("data: {name: SketchDataModule}\n", "there is no such key; did you mean class_path: SketchDataModule?"),
        (
            "data: {class_path: SketchDataModule, params: {train: 5}}\n",
            "params: there is no such key; did you mean init_args?",
        ),
        ("data: {class_path: SketchDataModule, init_arg: {train: 5}}\n", "did you mean init_args?"),
        ("data: {class_path: SketchDataModule, train: 5}\n", "train must stand below init_args:, beside class_path:"),
        ("data: {class_path: SketchDataModule, init_args: {trein: 5}}\n", "has no argument 'trein'"),
        ("data: {class_path: SketchDataModule, init_args: {train: 5}, dict_kwargs: {a: 1}}\n", ""),
        ("data: {class_path: SketchDataModul}\n", "did you mean 'SketchDataModule'"),
        ("trainer: {callbacks: [{class_path: EMA}, {class_path: EarlyStopping}]}\n", "EarlyStopping needs monitor"),
        ("trainer: {callbacks+: {class_path: EMA, init_args: {decai: 2}}}\n", "EMA has no argument 'decai'"),
        ("model: {num_classes: 3}\n", "model.num_classes comes from the data; leave it out"),
        ("trainer: {nothing: 1}\n", "trainer.nothing: there is no such key"),
        ("ckpt_path: last\n", ""),
    ],
)
def test_a_config_file(text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(text)
    args = ["--config=c.yaml", *([] if text.startswith("data") else [DATA])]
    if not told:
        check_command_line("fit", args)
        return
    with pytest.raises(FERError) as caught:
        check_command_line("fit", args)
    assert told in str(caught.value)
