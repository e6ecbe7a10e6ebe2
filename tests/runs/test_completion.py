"""When a run is complete, in numbers; ``tests/test_ends.py`` has it with runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fer_lightning.runs.checkpoint import LINEAGE_KEY, STOPPED_KEY
from fer_lightning.runs.completion import completion, has_ended
from fer_lightning.runs.lineage import LINEAGE, Change, Node, lineage_text
from fer_lightning.runs.lock import LOCK

FOLDER = Path("runs/a/version_0")
EARLY = "early stopping: val_acc did not get better for 3 validations"
PATIENCE = "trainer.callbacks.EarlyStopping.patience"
STOPPING = {"class_path": "EarlyStopping", "init_args": {"patience": 3}}


def said(epochs: int, steps: int, *changes: Change, stopped: str = "", **trainer: Any) -> str:
    """Return what is said of a run with so many epochs and steps, behind the name of its folder."""
    progress = {"current": {"processed": epochs}}
    checkpoint = {
        "loops": {"fit_loop": {"epoch_progress": progress}},
        "global_step": steps,
        LINEAGE_KEY: {STOPPED_KEY: stopped},
    }
    line = completion(checkpoint, {"trainer": trainer}, changes, FOLDER)
    assert line == "" or line.startswith(f"{FOLDER} is already complete: ")
    return line.removeprefix(f"{FOLDER} is already complete: ")


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        ({"max_epochs": 7}, "7 of 7 epochs; --trainer.max_epochs 14 goes on"),
        ({"max_epochs": 5}, "7 of 5 epochs; --trainer.max_epochs 14 goes on"),
        ({"max_steps": 1234}, "1,234 of 1,234 steps; --trainer.max_steps 2468 goes on"),
        ({"max_epochs": 0}, "7 of 0 epochs; --trainer.max_epochs 14 goes on"),
        (
            {"max_epochs": 6, "max_steps": 1000},
            "7 of 6 epochs, 1,234 of 1,000 steps; --trainer.max_epochs 14 --trainer.max_steps 2468 goes on",
        ),
        ({"max_epochs": 8, "max_steps": 1235}, ""),
        ({"max_epochs": -1, "max_steps": -1}, ""),
        ({"max_epochs": None}, ""),
        ({"max_epochs": 8, "min_epochs": 9}, ""),
    ],
)
def test_a_limit_that_is_reached_completes_a_run(limits: dict[str, Any], line: str) -> None:
    assert said(7, 1234, **limits) == line


def test_the_proposed_limit_is_never_the_same() -> None:
    assert said(0, 0, max_epochs=0) == "0 of 0 epochs; --trainer.max_epochs 2 goes on"


@pytest.mark.parametrize(
    ("patience", "changes", "limits", "goes_on"),
    [
        (3, [], {}, False),
        (3, [Change(PATIENCE, 4, 3)], {}, False),
        (3, [Change(PATIENCE, 3, 3)], {}, False),
        (3, [Change(PATIENCE, 2, 3)], {}, True),
        (3, [Change("trainer.callbacks.EarlyStopping.min_delta", 0.1, 0.0)], {}, True),
        (3, [Change("trainer.callbacks.EarlyStopping", "EarlyStopping", None)], {}, True),
        (3, [Change("trainer.max_epochs", 9, 99), Change("model.tau", 1, 2)], {}, False),
        (3, [Change(PATIENCE, 4, 3), Change("trainer.callbacks.EarlyStopping.mode", "min", "max")], {}, True),
        (3, [], {"min_epochs": 7, "min_steps": 1234}, False),
        (3, [], {"min_epochs": 8}, True),
        (3, [], {"min_steps": 1235}, True),
    ],
)
def test_a_run_that_a_callback_ended_goes_on_when_that_is_changed(
    patience: int, changes: list[Change], limits: dict[str, int], goes_on: bool
) -> None:
    stopping = {**STOPPING, "init_args": {"patience": patience}}
    line = said(7, 1234, *changes, stopped=EARLY, max_epochs=99, callbacks=[stopping], **limits)
    ended = f"{EARLY} (after 7 epochs); fer fit --ckpt_path {FOLDER} --trainer.callbacks.patience 6 goes on"
    assert line == ("" if goes_on else ended)


def test_what_lets_a_run_go_on_that_a_callback_ended() -> None:
    stopping = {**STOPPING, "init_args": {"patience": 0}}
    assert said(1234, 5, stopped=EARLY, callbacks=[stopping]) == (
        f"{EARLY} (after 1,234 epochs); fer fit --ckpt_path {FOLDER} --trainer.callbacks.patience 1 goes on"
    )
    for line in (said(7, 5, stopped="Timer: enough", callbacks=[STOPPING]), said(7, 5, stopped=EARLY)):
        assert line.endswith(" (after 7 epochs); --trainer.min_epochs 8 goes on")
    assert said(7, 5, stopped=EARLY, max_epochs=7, callbacks=[STOPPING]) == (
        f"7 of 7 epochs, {EARLY} (after 7 epochs); "
        f"fer fit --ckpt_path {FOLDER} --trainer.max_epochs 14 --trainer.callbacks.patience 6 goes on"
    )


def test_a_run_has_ended_when_its_last_start_has_and_nobody_writes(tmp_path: Path) -> None:
    def written(*statuses: str) -> bool:
        (tmp_path / LINEAGE).write_text(lineage_text([Node(str(n), "t", one) for n, one in enumerate(statuses)]))
        return has_ended(tmp_path)

    assert not has_ended(tmp_path)
    assert [written("finished"), written("failed", "finished")] == [True, True]
    assert [written("finished", "stopped"), written("running"), written("incomplete")] == [False, False, False]
    (tmp_path / LOCK).touch()
    assert not written("finished")
