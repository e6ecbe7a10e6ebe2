"""Where an evaluation is written, and what it has changed against its checkpoint; ``test_integrity.py`` runs some."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fer_lightning.cli.evaluation import _settings, changed_network, evaluation_folder
from fer_lightning.runs.lineage import Change

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
