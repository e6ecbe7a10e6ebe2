"""What is proposed in place of words that fit no option, in whole sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer_lightning.cli.proposals import data_options, lacking_arguments, no_callback, no_option

STEPS = "needs the number of steps, which the run knows: --m.lr OneCycle"
RATES = "needs base_lr, max_lr: pass --m.lr.base_lr VALUE --m.lr.max_lr 0.01"
FACES = "--data ImageFolderDataModule --data.root faces? (fer data inspect faces tells the class)"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        *((f"faces.{end}", "ManifestDataModule") for end in ("csv", "tsv", "parquet", "json", "jsonl")),
        *((name, "ImageFolderDataModule") for name in ("faces", "faces.zip", "a.csv.gz", "csv")),
    ],
)
def test_a_path_is_read_by_the_module_of_its_kind(path: str, kind: str) -> None:
    said = f"; did you mean --data {kind} --data.root {path}? (fer data inspect {path} tells the class)"
    assert data_options(path) == said


def test_a_config_file_is_given_as_one_and_spaces_are_quoted() -> None:
    for path in ("a.yaml", "a.yml"):
        assert data_options(path) == f"; did you mean --config {path}?"
    assert data_options("my faces").startswith("; did you mean --data ImageFolderDataModule --data.root 'my faces'? (")


@pytest.mark.parametrize(
    ("option", "kind", "names", "said"),
    [
        ("m.lr", "OneCycleLR", ("total_steps",), f"OneCycleLR {STEPS}"),
        ("m.lr", "StepLR", ("step_size",), "StepLR needs step_size: pass for example --m.lr.step_size 10"),
        ("m.lr", "CosineAnnealingLR", ("T_max",), "CosineAnnealingLR needs T_max: pass for example --m.lr.T_max 30"),
        ("m.lr", "ExponentialLR", ("gamma",), "ExponentialLR needs gamma: pass for example --m.lr.gamma 0.1"),
        ("m.lr", "CyclicLR", ("base_lr", "max_lr"), f"CyclicLR {RATES}"),
        ("data", "ImageFolderDataModule", ("root",), "ImageFolderDataModule needs root: pass --data.root PATH"),
        ("t.c", "EarlyStopping", ("monitor",), "EarlyStopping needs monitor: pass for example --t.c.monitor val_loss"),
    ],
)  # fmt: skip
def test_what_a_class_cannot_do_without(option: str, kind: str, names: tuple[str, ...], said: str) -> None:
    assert lacking_arguments(option, kind, names) == said


@pytest.mark.parametrize(
    ("name", "value", "pasted"),
    [
        ("patience", "5", "EarlyStopping --trainer.callbacks.monitor val_loss --trainer.callbacks.patience 5"),
        ("monitor", "val_acc", "EarlyStopping --trainer.callbacks.monitor val_acc"),
        ("monitor", None, "EarlyStopping"),
        ("decay", "a b", "EMA --trainer.callbacks.decay 'a b'"),
        ("rho", "0.1", "SAM --trainer.callbacks.rho 0.1"),
    ],
)
def test_an_argument_of_a_callback_names_the_one_that_has_it(name: str, value: str | None, pasted: str) -> None:
    where = f"--trainer.callbacks.{name}"
    assert no_callback(name, where, value) == (
        f"{where} is an argument of a callback that nothing names; did you mean --trainer.callbacks+={pasted}?"
    )
    assert no_callback("xyzzy", "x", value) == ("x: name the callback before its arguments: --trainer.callbacks+=CLASS")


@pytest.mark.parametrize(
    ("word", "before", "said"),
    [
        ("–name", "", "'–name' begins with a long dash; did you mean --name?"),
        ("—name", "", "'—name' begins with a long dash; did you mean --name?"),
        ("name=a b", "", "'name=a b' belongs to no option; did you mean --name='a b'?"),
        ("my.own=3", "", "'my.own=3' belongs to no option; did you mean --my.own=3?"),
        ("own=3", "", "'own=3' belongs to no option (see fer fit --help)"),
        ("b,", "--data.class_names a,", "'b,' belongs to no option; did you mean --data.class_names '[a, b]'?"),
        ("b", "--data.class_names", "'b' belongs to no option (see fer fit --help)"),
        ("b!", "--data.class_names a", "'b!' belongs to no option (see fer fit --help)"),
        ("5", "--trainer.max_epochs 3", "'5' belongs to no option (see fer fit --help)"),
        ("faces", "", f"'faces' belongs to no option; did you mean {FACES}"),
        ("data=faces", "", f"'data=faces' belongs to no option; did you mean {FACES}"),
    ],
)  # fmt: skip
def test_a_word_that_belongs_to_no_option(
    word: str, before: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faces").mkdir()
    assert no_option("fit", word, before) == said
