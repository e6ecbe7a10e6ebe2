"""When a run is complete, and what makes it go on.

The rule looks at the newest checkpoint and at the configuration of now, never at how often the run was started. Nothing
heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fer_lightning.runs.changes import flat
from fer_lightning.runs.checkpoint import LINEAGE_KEY, STOPPED_KEY, epochs_in
from fer_lightning.runs.lineage import Change
from fer_lightning.runs.lock import LOCK
from fer_lightning.runs.records import Run

__all__ = ["NO_BETTER", "completion", "has_ended"]

NO_BETTER = "did not get better"
"""Stands in the reason of a run that early stopping has ended for want of patience."""

_PATIENCE = "trainer.callbacks.EarlyStopping.patience"


def completion(
    checkpoint: Mapping[str, Any], config: Mapping[str, Any], changes: Iterable[Change], folder: Path
) -> str:
    """Return why nothing is left to train and what goes on, as one line; empty if there is something left.

    A run is complete when ``max_epochs`` or ``max_steps`` are done, or when a callback such as early stopping has ended
    it. It no longer is when the limit is raised, when ``min_epochs`` or ``min_steps`` ask for more than there is, or
    when the callback is changed; less patience than before is no such change.

    Args:
        checkpoint: what is in the newest checkpoint.
        config: the configuration with which the run is started now.
        changes: how that differs from the checkpoint's.
        folder: of the run, for the command that goes on.
    """
    trainer = config.get("trainer", {})
    done = {"epochs": epochs_in(checkpoint), "steps": int(checkpoint.get("global_step", 0))}
    reached = [unit for unit in done if 0 <= _limit(trainer, f"max_{unit}") <= done[unit]]
    reasons = [f"{done[unit]:,} of {_limit(trainer, f'max_{unit}'):,} {unit}" for unit in reached]
    ways = [f"--trainer.max_{unit} {2 * max(_limit(trainer, f'max_{unit}'), done[unit], 1)}" for unit in reached]
    stopped = checkpoint.get(LINEAGE_KEY, {}).get(STOPPED_KEY, "")
    enough = all(_limit(trainer, f"min_{unit}") <= done[unit] for unit in done)
    if stopped and enough and not any(_lets_go_on(change) for change in changes):
        reasons.append(f"{stopped} (after {done['epochs']:,} epochs)")
        patience = dict(flat(config)).get(_PATIENCE)
        if NO_BETTER in stopped and patience is not None:
            ways.append(f"--trainer.callbacks.patience {patience + max(patience, 1)}")
            ways[0] = f"fer fit --ckpt_path {folder} {ways[0]}"  # where a config file has callbacks, it is their last
        else:
            ways.append(f"--trainer.min_epochs {done['epochs'] + 1}")
    return f"{folder} is already complete: {', '.join(reasons)}; {' '.join(ways)} goes on" if reasons else ""


def has_ended(folder: Path) -> bool:
    """Tell whether the last start of a run has come to its own end, reports included, and nobody writes any more."""
    nodes = Run(folder).lineage
    return bool(nodes) and nodes[-1].status == "finished" and not (folder / LOCK).exists()


def _limit(trainer: Mapping[str, Any], name: str) -> int:
    value = trainer.get(name)
    return -1 if value is None else int(value)


def _lets_go_on(change: Change) -> bool:
    """Tell whether a change may let a run go on that a callback has ended."""
    if change.key == _PATIENCE and change.before is not None and change.after is not None:
        return bool(change.after > change.before)
    return change.key.startswith("trainer.callbacks")
