"""Where an evaluation is written, and what it has changed against its checkpoint; ``test_integrity.py`` runs some."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fer_lightning.callbacks.evaluated import Subject
from fer_lightning.cli import evaluation
from fer_lightning.cli.evaluation import _settings, changed_network, evaluation_folder, subject_of
from fer_lightning.runs.lineage import Change
from fer_lightning.runs.looks import Look

SUBJECT: Any = SimpleNamespace(id="0123abcd")


@pytest.mark.parametrize(
    ("report", "folder"),
    [
        *((None, "test"), ({"context": {"evaluation": "0123abcd"}}, "test")),
        *(({"context": {"evaluation": "ffff"}}, "test-0123abcd"), ({"context": {}}, "test-0123abcd")),
        *(({}, "test-0123abcd"), ("{", "test-0123abcd")),
    ],
)
def test_an_evaluation_overwrites_itself_alone(report: object, folder: str, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    if report is not None:
        (tmp_path / "test/report.json").write_text(report if isinstance(report, str) else json.dumps(report))
    assert evaluation_folder(tmp_path, "test", SUBJECT) == tmp_path / folder


def test_an_evaluation_of_no_run_is_written_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluation_folder(None, "test", SUBJECT) is None
    assert evaluation_folder(tmp_path, "validate", SUBJECT) == tmp_path / "validate"
    (tmp_path / "validate").touch()
    assert evaluation_folder(tmp_path, "validate", SUBJECT) == tmp_path / "validate-0123abcd"
    asked: list[int] = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append(mode))
    assert evaluation_folder(tmp_path, "test", SUBJECT) is None
    assert asked == [os.W_OK]


def asked(verb: str, *changes: Change, **trainer: Any) -> Any:
    usual = {"precision": "32-true", **dict.fromkeys(f"limit_{name}_batches" for name in ("val", "test", "predict"))}
    return SimpleNamespace(
        verb=verb, lineage=SimpleNamespace(changes=list(changes)), config={"trainer": {**usual, **trainer}}
    )


def test_settings_are_what_decides_the_answers() -> None:
    changes = [
        *(Change("model.tau", 1, 0.5), Change("model.later", None, 1, harmless=True), Change("data.root", "a", "b")),
        *(
            Change("data.image_size", 48, 64, harmless=True),
            Change("data.mean", [0.5], [0.25]),
            Change("data.val", 1, 2),
        ),
    ]
    wanted = {"model.tau": "0.5", "data.image_size": "64", "data.mean": "[0.25]"}
    assert changed_network(asked("test", *changes)) == wanted
    found = _settings(asked("test", *changes, precision="bf16-mixed", limit_test_batches=3, limit_val_batches=7))
    assert list(found.items()) == [
        *(("data.image_size", "64"), ("data.mean", "[0.25]"), ("model.tau", "0.5")),
        *(("trainer.limit_test_batches", "3"), ("trainer.precision", "bf16-mixed")),
    ]


@pytest.mark.parametrize("precision", ["32-true", "32", 32, None])
def test_float32_and_all_batches_are_as_usual(precision: object) -> None:
    for verb, limit in (("validate", "val"), ("test", "test"), ("predict", "predict")):
        assert _settings(asked(verb, precision=precision, **{f"limit_{limit}_batches": 1.0})) == {}
        other = asked(verb, precision=precision, **{f"limit_{limit}_batches": 1})
        assert _settings(other) == {f"trainer.limit_{limit}_batches": "1"}
    assert _settings(asked("test", precision="64-true")) == {"trainer.precision": "64-true"}


@pytest.mark.parametrize(
    ("verb", "split", "images", "root"), [("validate", "val", 3, None), ("test", "test", 5, "mine")]
)
def test_what_is_evaluated_is_the_split_of_the_verb(
    verb: str, split: str, images: int, root: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[tuple[Any, ...]] = []
    done: list[str] = []
    look = Look("t", verb, split, "f0", images, "c.ckpt", "aa", "w0", {}, "n1", "")

    def look_at(*args: Any) -> tuple[Path, Look]:
        looked.append(args)
        return Path("the/runs"), look

    monkeypatch.setattr(evaluation, "look_at", look_at)
    monkeypatch.setattr(evaluation, "code_state", lambda: {"commit": None})
    monkeypatch.setattr(evaluation, "read_trained_on", lambda checkpoint: None)
    rows = {"val": range(3), "test": range(5)}
    table = SimpleNamespace(fingerprint=lambda name: f"of {name}", rows=lambda name: rows[name])
    cli = asked(verb, default_root_dir=root, precision="16-mixed")
    cli.checkpoint, cli.members = Path("c.ckpt"), [Path("a.ckpt"), Path("b.ckpt")]
    cli.datamodule = SimpleNamespace(table=table, prepare_data=lambda: done.append("prepared"), check=done.append)
    digest = hashlib.sha256(b'["f0", "w0", "{}"]').hexdigest()[:8]
    assert subject_of(cli) == Subject(look, digest, Path("the/runs"), None, ("a.ckpt", "b.ckpt"))
    settings = {"trainer.precision": "16-mixed"}
    wanted = Path("runs" if root is None else root)
    assert looked == [(Path("c.ckpt"), verb, (split, f"of {split}", images), wanted, settings, "")]
    assert done == ["prepared", verb]
