from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from jsonargparse import ArgumentParser

from fer_lightning.__main__ import main
from fer_lightning.cli.early_check import check_command_line
from fer_lightning.cli.known_options import FAMILIES, SHORT, plain_options
from fer_lightning.cli.parsing import prepare_parsing
from fer_lightning.cli.signatures import class_signature
from fer_lightning.cli.trainer_cli import FERCLI
from fer_lightning.errors import ConfigError, FERError

CONFIGS = Path(__file__).parents[2] / "configs"
QUICKSTART = f"--config {CONFIGS}/quickstart.yaml"
SKETCH = "--data SketchDataModule --model.backbone fer_b_fast"

FILES = {
    "list.yaml": "data: {class_path: SketchDataModule}\nmodel: {backbone: fer_a}\ntrainer: [1, 2]\n",
    "listed.yaml": "trainer:\n  callbacks:\n  - EarlyStopping:\n      monitor: val_loss\n",
    "key.yaml": "data: {class_path: SketchDataModule}\nmodel: {backbonne: fer_a}\n",
    "section.yaml": "data: {class_path: SketchDataModule}\nmodell: {backbone: fer_a}\n",
    "loss.yaml": "model:\n  loss: {class_path: CrossEntropyLoss, init_args: {gama: 2}}\n",
    "value.yaml": "data: {class_path: SketchDataModule}\ntrainer: {max_epochs: three}\n",
    "callback.yaml": "trainer:\n  callbacks:\n  - class_path: EarlyStoping\n    init_args: {monitor: val_loss}\n",
    "inner.yaml": "backbone: fer_a\npretraind: true\n",
    "outer.yaml": "data: {class_path: SketchDataModule}\nmodel: inner.yaml\n",
    "text.yaml": "just words\n",
    "broken.yaml": "model: [\n",
    "own_parts.py": "class MyLoss:\n    def __init__(self, scale=1.0):\n        pass\n",
}

# Wrong command lines behind `fer`, and what the answer says.
WRONG = {
    "fit": "fer fit needs data and a network, for example: fer fit --data SketchDataModule",
    "fit --model.backbone fer_a": "fer fit needs data: --data CLASS --data.root PATH, or, to try it: fer fit --data Sk",
    f"fit --confg {CONFIGS}/quickstart.yaml": "no option --confg; did you mean --config /",
    f"fit {QUICKSTART} --trainer.max_epoch 3": "no option --trainer.max_epoch; did you mean --trainer.max_epochs 3?",
    f"fit {QUICKSTART} --max_epochs 3": "did you mean --trainer.max_epochs 3?",
    f"fit {QUICKSTART} --trainer.batch_size 8": "did you mean --data.batch_size 8?",
    f"fit {QUICKSTART} --model.lr 0.1": "did you mean --model.optimizer.lr 0.1?",
    f"fit {QUICKSTART} --backbone resnet18": "did you mean --model.backbone resnet18?",
    f"fit {QUICKSTART} --model resnet18": "there is none called 'resnet18'; did you mean --model.backbone resnet18?",
    f"fit {QUICKSTART} --checkpoint best.ckpt": "did you mean --ckpt_path best.ckpt?",
    f"fit {QUICKSTART} --optimizer adamw": "did you mean --model.optimizer AdamW?",
    f"fit {QUICKSTART} --lr_scheduler_type cosine": "did you mean --model.lr_scheduler WarmupCosine?",
    f"fit {QUICKSTART} --pretrained": "did you mean --model.pretrained true?",
    f"fit {QUICKSTART} -b 8": "there is no option -b; did you mean --data.batch_size 8?",
    f"fit {QUICKSTART} -name x": "there is no option -name; did you mean --name x?",
    f"fit {QUICKSTART} --hflip 0.5": "did you mean --data.augment BatchAugment --data.augment.flip 0.5?",
    f"fit {SKETCH} --momentum 0.9": "did you mean --model.optimizer SGD --model.optimizer.momentum 0.9?",
    f"fit {SKETCH} --trainer.max_time 5m": "--trainer.max_time must be DD:HH:MM:SS, not '5m'; an hour is --trainer.ma",
    f"fit {SKETCH} --trainer.max_epochs -3": "--trainer.max_epochs must be 0 or more, or -1 for no limit, not -3",
    f"fit {SKETCH} --trainer.devices two": "must be their number, a list as [0,1], or auto, not 'two'",
    f"fit {SKETCH} --trainer.devices 0": "--trainer.devices must be their number, a list as [0,1], or auto, not '0'",
    "fit --config listed.yaml": "write class_path: EarlyStopping, and its arguments below init_args:",
    "fit --config list.yaml": "list.yaml: trainer: expected keys with their values, as {a: b}, found a list",
    f"fit {QUICKSTART} --frobnicate": "there is no option --frobnicate (fer fit --help lists them)",
    f"fit {QUICKSTART} extra": "'extra' belongs to no option",
    f"fit {QUICKSTART} --name": "--name needs a value",
    f"fit {QUICKSTART} --model.num_classes 3": "--model.num_classes",
    f"fit {SKETCH} --lr 0.1": "did you mean --model.optimizer AdamW --model.optimizer.lr 0.1?",
    f"fit {SKETCH} --model.optimizer.lr 0.1": "say for example --model.optimizer AdamW --model.optimizer.lr 0.1",
    f"fit {SKETCH} --model.optimizer.lr abc": "--model.optimizer.lr must be a number, not 'abc'",
    f"fit {SKETCH} --model.optimizer AdamW --model.optimizer.learning_rate 1": "AdamW has no argument 'learning_rate'; "
    "did you mean 'lr'?",
    f"fit {SKETCH} --model.optimizer AdamWW": "there is no optimizer 'AdamWW'; did you mean 'AdamW'?",
    f"fit {SKETCH} --model.lr_scheduler CosineAnealingLR": "no schedule 'CosineAnealingLR'; did you mean 'CosineAnneal",
    f"fit {SKETCH} --model.loss FocalLos": "--model.loss: there is no loss 'FocalLos'; did you mean 'FocalLoss'?",
    f"fit {SKETCH} --model.loss torch.nn.CrossEntropyLos": "torch.nn has no 'CrossEntropyLos'; did you mean 'CrossEn",
    f"fit {SKETCH} --model.loss my_parts.MyLoss": "no module 'my_parts' for 'my_parts.MyLoss'; put my_parts.py into",
    f"fit {SKETCH} --model.loss own_parts.MyLos": "own_parts has no 'MyLos'; did you mean 'MyLoss'?",
    f"fit {SKETCH} --model.loss subprocess.Popen": "'subprocess.Popen' may not be named in a configuration",
    f"fit {SKETCH} --model.head CosinHead": "there is no head 'CosinHead'; did you mean 'CosineHead'?",
    f"fit {SKETCH} --model.backbone resnet81": "unknown backbone 'resnet81'; did you mean 'resnet18'",
    f"fit {SKETCH} --model.pretrained maybe": "--model.pretrained must be true or false, not 'maybe'",
    f"fit {SKETCH} --trainer.callbacks EarlyStoping": "no callback 'EarlyStoping'; did you mean 'EarlyStopping'?",
    f"fit {SKETCH} --trainer.callbacks EarlyStopping --trainer.callbacks.pateince 3": "did you mean 'patience'?",
    f"fit {SKETCH} --trainer.max_epochs three": "--trainer.max_epochs must be a whole number, not 'three'",
    f"fit {SKETCH} --trainer.precision 12": "--trainer.precision must be 64 or 32 or 16",
    f"fit {SKETCH} --data.batch_size eight": "--data.batch_size must be a whole number, not 'eight'",
    f"fit {SKETCH} --data.batchsize 8": "SketchDataModule has no argument 'batchsize'; did you mean 'batch_size'?",
    f"fit {SKETCH} --data.interpolation cubic": "--data.interpolation must be area or bilinear, not 'cubic'",
    "fit --data ImageFolder --data.root .": "no data module 'ImageFolder'; did you mean 'ImageFolderDataModule'?",
    "fit --config nowhere.yaml": "there is no config file nowhere.yaml",
    "fit --config keys.yaml": "there is no config file keys.yaml; did you mean 'key.yaml'?",
    "fit --config key.yaml": "key.yaml: model.backbonne: there is no such key; did you mean model.backbone?",
    "fit --config section.yaml": "section.yaml: modell: there is no such key; did you mean model?",
    "fit --config loss.yaml": "loss.yaml: model.loss.init_args.gama: CrossEntropyLoss has no argument 'gama'",
    "fit --config value.yaml": "value.yaml: trainer.max_epochs must be a whole number, not 'three'",
    "fit --config callback.yaml": "callback.yaml: trainer.callbacks: there is no callback 'EarlyStoping'; did you mean",
    "fit --config outer.yaml": "inner.yaml: model.pretraind: there is no such key; did you mean model.pretrained?",
    "fit --config text.yaml": "text.yaml: expected sections such as 'model:' and 'data:', found a text",
    "fit --config broken.yaml": "broken.yaml is no YAML",
    "test --data SketchDataModule": "fer test needs --ckpt_path",
    "validate --ckpt_path runs/nowhere.ckpt": "there is no checkpoint runs/nowhere.ckpt; there is no checkpoint under",
    "data inspect nowhere": "nowhere does not exist; expected a folder, a table or an archive",
    "data inspect faces --mapping x": "did you mean '--data.mapping'?",
    "data inspect faces --data.on_eror skip": "did you mean data.on_error?",
    "data inspect faces --data.on_error skp": "--data.on_error must be raise or skip, not 'skp'; did you mean 'skip'?",
    "data inspect --data ImageFoldr --data.root faces": "did you mean 'ImageFolderDataModule'?",
    f"bench train {SKETCH} --epochs 3": "did you mean --trainer.max_epochs 3?",
    f"tune --space x.yaml {SKETCH} --model.loss FocalLos": "did you mean 'FocalLoss'?",
    "crossval key.yaml --lr 3": "did you mean --model.optimizer.lr 3?",
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_line_is_refused_at_once(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def is_late(*args: object, **options: object) -> None:
        raise AssertionError("the parser that needs torch was asked")

    for late in ("cli.trainer_verbs.run_trainer_verb", "cli.data_set.data_module", "studies.rehearsal.rehearsed"):
        monkeypatch.setattr(f"fer_lightning.{late}", is_late)
    assert main(line.split()) == 2
    said = capsys.readouterr().err
    assert WRONG[line] in said
    assert said.count("\n") == 1
    assert not any(word in said for word in ("Namespace", "Parser key", "allowlist", "denylist", "<class"))


# What other programs call it, a value, and what else belongs to the command line.
PASTED = {
    **dict.fromkeys(("lr", "learning_rate", "init_lr", "weight_decay", "wd", "clip", "dropout", "momentum"), "0.1"),
    **dict.fromkeys(("ema_decay", "model_ema_decay", "fliplr", "hflip", "reprob", "erasing", "warmup_ratio"), "0.1"),
    **dict.fromkeys(("max_grad_norm", "grad_accum_steps", "gradient_accumulation_steps", "save_period"), "2"),
    **dict.fromkeys(("b", "j", "train_batch_size", "num_train_epochs", "log_interval", "logging_steps"), "3"),
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), "3"),
    **dict.fromkeys(("label_smoothing", "smoothing", "mixup", "cutmix", "grad_clip", "clip_grad"), "0.1"),
    **dict.fromkeys(("val_split", "test_split"), "0.2"),
    **dict.fromkeys(("batch", "bs", "epochs", "epoch", "num_epochs", "n_epochs", "workers", "patience", "seed"), "3"),
    **dict.fromkeys(("gpu", "gpus", "num_gpus", "accumulate"), "1"),
    **dict.fromkeys(("img_size", "imgsz", "input_size", "size"), "64"),
    **dict.fromkeys(("opt", "optim"), "SGD"),
    **dict.fromkeys(("sched", "scheduler"), "OneCycle"),
    **dict.fromkeys(("network", "arch"), "resnet18"),
    "criterion": "FocalLoss",
    "classes": "[happy,sad]",
    "dataset": "ImageFolderDataModule",
    "device": "cuda:0",
    "cfg": f"{CONFIGS}/quickstart.yaml",
}


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("name", SHORT)
def test_what_is_proposed_works(name: str) -> None:
    data = "ImageFolderDataModule" if SHORT[name] in ("data.class_names", "data.root") or "split" in name else ""
    line = f"--data={data} --model.backbone fer_b_fast" if data else SKETCH
    with pytest.raises(ConfigError, match=r"did you mean (--.*)\?$") as caught:
        check_command_line("fit", [*line.split(), f"--{name.replace('_', '-')}", PASTED.get(name, "x")])
    pasted = str(caught.value).partition("did you mean ")[2].rstrip("?").split()
    check_command_line("fit", [*line.split(), *pasted])
    if name in ("lr", "gpus", "patience", "mixup", "device"):  # a parser for each would take too long
        parsed([*line.split(), *pasted])


class Parsed(FERCLI):
    """The parser of ``fer fit``, which makes nothing."""

    def instantiate_classes(self) -> None:
        """Make nothing."""


def parsed(args: list[str]) -> Parsed:
    prepare_parsing()
    return Parsed("fit", args)


def options_in(parser: ArgumentParser) -> set[str]:
    """Return the options of a parser, without those that print and those of a class's own."""
    strings = {text for action in parser._actions for text in action.option_strings if text.startswith("--")}
    return {text[2:].rstrip("+") for text in strings if not text.endswith((".help", "--help", "print_shtab"))}


def test_the_options_are_those_of_the_parser() -> None:
    assert set(plain_options()) == options_in(parsed(SKETCH.split()).parser)


@pytest.mark.parametrize(
    ("option", "name"),
    [
        *(
            ("data", name)
            for name in ("FER2013DataModule", "HybridDataModule", "ImageFolderDataModule", "ShardsDataModule")
        ),
        ("model.loss", "FocalLoss"),
        ("model.loss", "CrossEntropyLoss"),
        ("model.head", "CosineHead"),
        ("model.optimizer", "AdamW"),
        ("model.lr_scheduler", "WarmupCosine"),
        ("model.lr_scheduler", "CosineAnnealingLR"),
        ("trainer.callbacks", "EMA"),
        ("trainer.callbacks", "EarlyStopping"),
        ("trainer.logger", "CSVLogger"),
    ],
)
def test_the_arguments_of_a_class_are_those_of_the_parser(option: str, name: str) -> None:
    family = FAMILIES[option]
    module, _, _ = family.classes[name].rpartition(".")
    parser = ArgumentParser()
    kind = getattr(importlib.import_module(module), name)
    parser.add_class_arguments(kind, "x", skip={family.first} if family.first else None, fail_untyped=False)
    signature = class_signature(family.classes[name])
    assert signature is not None
    assert not signature.open
    assert set(list(signature.arguments)[family.first :]) == {
        key.partition(".")[2] for key in options_in(parser) if key.count(".") == 1
    }


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_our_configs_pass(path: Path) -> None:
    kind = path.parent.name
    if kind == "tune":
        pytest.skip("a search space")
    option = kind if kind in ("data", "model", "trainer") else "config"
    check_command_line("fit", [f"--{option}", str(path)], complete=False)


@pytest.mark.parametrize(
    "line",
    [
        "--model.loss own_parts.MyLoss --model.loss.scale 3",
        "--model.loss own_parts.MyLoss --model.head MyHead",  # a class of a file that has been imported by then
        "--model.loss torch.nn.HuberLoss --model.loss.delta 2",
        "--model.head torch.nn.Linear",
        "--model.backbone torchvision.models.ResNet",
        "--model.backbone resnet18.a1_in1k --model.backbone_args.drop_rate 0.1",
        "--model.backbone hf-hub:timm/resnet18",
        "--model.optimizer timm.optim.Lamb --model.optimizer.lr 1e-3",
        "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val_loss",
        "--trainer.callbacks=lightning.pytorch.callbacks.ThroughputMonitor --trainer.callbacks.window_size=3",
        "--trainer.logger=false --trainer.max_epochs=null --trainer.max_time=00:01:00:00 --trainer.devices=[0]",
        "--trainer.logger=TensorBoardLogger --trainer.logger.flush_secs=3",
        '--trainer.callbacks=[{"class_path":"EarlyStopping","init_args":{"monitor":"val_loss"}}]',
        "--data.augment=BatchAugment --data.augment.flip=0 --data.mean=[0.5] --data.batch_size=1_0",
        "--model.lr_scheduler=null --model.tau=1e-1 --trainer.limit_val_batches=1.0 --trainer.strategy=mine",
        "--print_config",
        "--model.loss.help=FocalLoss",
        "--ckpt_path=last --model.optimizer.lr=0.1 --model.loss=MyLoss",
    ],
)
@pytest.mark.usefixtures("files")
def test_what_may_be_right_is_left_to_the_parser(line: str) -> None:
    check_command_line("fit", [*SKETCH.split(), *line.split()])


def test_short_names_of_plug_ins_may_be_right(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FERError):
        check_command_line("fit", ["--data=TheirDataModule"])
    plugin = SimpleNamespace(value="theirs:data")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [plugin])
    check_command_line("fit", ["--data=TheirDataModule"])


@pytest.mark.usefixtures("files")
def test_torch_is_not_imported() -> None:
    code = (
        "import sys, time; from fer_lightning.__main__ import main; code = main(sys.argv[1:]);"
        "sys.exit(', '.join({'torch', 'lightning', 'jsonargparse', 'numpy'} & set(sys.modules)) or code)"
    )
    line = f"fit {QUICKSTART} --model.loss FocalLos"
    done = subprocess.run([sys.executable, "-c", code, *line.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
