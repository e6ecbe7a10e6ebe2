"""What turns logits into probabilities that can be believed, and says which of them are uncertain."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.runs.checkpoint import CALIBRATION_KEY, TASK_KEY, run_folder_of
from fer_lightning.text import excerpt

__all__ = ["CALIBRATION", "Calibration", "calibration_in", "calibration_of", "plain_calibration"]

CALIBRATION = "calibration.json"
"""Name of the file in a run folder that ``fer calibrate`` writes."""


@dataclass(frozen=True)
class Calibration:
    """How the logits of a network become probabilities: ``softmax(logits / temperature)``, perhaps scaled linearly.

    Attributes:
        temperature: a number above 0.
        weight: ``(K, K)``, rows for the classes that come in: the probabilities are those of
            ``log_softmax(logits / temperature) weight + bias``; empty for none.
        bias: ``(K,)``, empty for none.
        threshold: below this confidence an answer is marked as uncertain; 0 for never.
        sets: by coverage, such as ``"0.9"``, the least probability with which each class is in the prediction set,
            ``(K,)``; empty where nobody has measured them.
        risk: share of wrong answers that the threshold was chosen for; 0 where that is not known.
        origin: whose predictions it was fitted on, if not the validation predictions of the model itself; else empty.
    """

    temperature: float = 1.0
    weight: tuple[tuple[float, ...], ...] = ()
    bias: tuple[float, ...] = ()
    threshold: float = 0.0
    sets: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    risk: float = 0.0
    origin: str = ""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the calibrated probabilities, float32 ``(N, K)``, of logits float32 ``(N, K)``."""
        scaled = logits / self.temperature
        if self.weight:
            weight, bias = (torch.tensor(each, dtype=torch.float32) for each in (self.weight, self.bias))
            scaled = scaled.log_softmax(dim=1) @ weight + bias
        return scaled.softmax(dim=1)

    def is_uncertain(self, probabilities: Sequence[float]) -> bool:
        """Tell whether the largest of the probabilities is below the threshold."""
        return max(probabilities) < self.threshold

    def check_coverage(self, coverage: float) -> None:
        """Raise ``ConfigError`` if there are no prediction sets for a coverage."""
        if not 0 < coverage < 1:
            raise ConfigError(f"the coverage of prediction sets must be between 0 and 1, such as 0.9, not {coverage:g}")
        if f"{coverage:g}" not in self.sets:
            known = f"this model has them for {', '.join(self.sets)}" if self.sets else "this model has none"
            raise ConfigError(
                f"no prediction sets for a coverage of {coverage:g} ({known}): "
                f"fer calibrate RUN --coverage {coverage:g} measures them"
            )

    def prediction_set(self, probabilities: Mapping[str, float], coverage: float) -> tuple[str, ...]:
        """Return the classes that hold the true one with a probability of ``coverage``, the most probable first.

        Args:
            probabilities: of each class, by name, in label order.
            coverage: for which there are sets; see ``check_coverage``.
        """
        least = dict(zip(probabilities, self.sets[f"{coverage:g}"], strict=True))
        inside = [name for name in probabilities if probabilities[name] >= least[name]]
        return tuple(sorted(inside, key=lambda name: -probabilities[name]))


def plain_calibration(calibration: Calibration) -> dict[str, Any]:
    """Return a calibration as plain values for a file."""
    return asdict(calibration)


def calibration_in(values: Mapping[str, Any] | None, classes: int, where: Path) -> Calibration:
    """Return the calibration that ``plain_calibration`` has made plain values of; ``None`` is none.

    Args:
        values: read from a file.
        classes: number of classes.
        where: the file, for the message.

    Raises:
        CheckpointError: if they are something else.
    """
    try:
        given = dict(values or {})
        found = Calibration(
            _finite(given.pop("temperature", 1.0), ()),
            tuple(_finite(row, (classes,)) for row in given.pop("weight", ())),
            _finite(bias, (classes,)) if (bias := given.pop("bias", ())) else (),
            _finite(given.pop("threshold", 0.0), ()),
            {str(name): _finite(each, (classes,)) for name, each in given.pop("sets", {}).items()},
            _finite(given.pop("risk", 0.0), ()),
            str(given.pop("origin", "")),
        )
        if (
            given
            or found.temperature <= 0
            or len(found.weight) not in (0, classes)
            or bool(found.weight) != bool(found.bias)
        ):
            raise ValueError(f"{excerpt(str(given or found))}")
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{where}: the calibration is damaged: {error}") from error
    return found


def _finite(value: Any, shape: tuple[int, ...]) -> Any:
    """Return a finite number, or a tuple of such."""
    numbers = np.asarray(value, np.float64)
    if numbers.shape != shape or not np.isfinite(numbers).all():
        raise ValueError(f"{excerpt(str(value))}")
    return tuple(numbers.tolist()) if shape else float(numbers)


def calibration_of(path: Path, content: Mapping[str, Any]) -> Calibration:
    """Return the calibration of a checkpoint: what ``fer calibrate`` has found for it, or that of its model folder.

    Args:
        path: of the checkpoint.
        content: of it, or of the model folder that it lies in; see ``read_checkpoint``.

    Raises:
        CheckpointError: if the calibration is damaged.
    """
    if TASK_KEY not in content:
        return Calibration()
    classes = len(content[TASK_KEY]["class_names"])
    if CALIBRATION_KEY in content:
        return calibration_in(content[CALIBRATION_KEY], classes, path.parent)
    run = run_folder_of(path)
    file = None if run is None else run / CALIBRATION
    if file is None or not file.is_file():
        return Calibration()
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if values["step"] == content["global_step"]:
            return calibration_in(values["calibration"], classes, file)
        print(f"{file} is of other weights of the run and not used here: fer calibrate {run}", file=sys.stderr)
        return Calibration()
    except (OSError, ValueError, TypeError, KeyError, CheckpointError) as error:
        raise CheckpointError(f"{file} is damaged: delete it, or fer calibrate {run}") from error
