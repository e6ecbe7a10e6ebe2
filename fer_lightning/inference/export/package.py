"""Exporting a model in several forms, each compared with the original before it is kept."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_lightning.errors import ConfigError
from fer_lightning.files import json_text, part_beside, write_atomically
from fer_lightning.inference.export.int8 import quantized
from fer_lightning.inference.export.onnx_file import OnnxBackend, onnx_bytes
from fer_lightning.inference.export.program import ProgramBackend, program_bytes
from fer_lightning.inference.model import Backend, Model
from fer_lightning.inference.model_folder import write_model_folder
from fer_lightning.inference.timing import milliseconds, using_threads
from fer_lightning.outputs import place_to_write
from fer_lightning.runs.model_folder import WEIGHTS
from fer_lightning.text import table_lines

__all__ = ["INT8", "ONNX", "PROGRAM", "Check", "Samples", "export", "export_table"]

ONNX, INT8, PROGRAM = "model.onnx", "model.int8.onnx", "model.pt2"
LARGEST = 1e-4
"""Largest difference of a probability that a form in float32 may have."""
LEAST_AGREEMENT = 0.98
"""Share of images on which int8 must give the same label."""
_FIXTURE = 64  # random images on which the forms are compared where no others are given
_TURNS = 30  # of the measurement of time


@dataclass(frozen=True)
class Samples:
    """Images of a data set, prepared for the network but for the normalisation.

    Attributes:
        calibration: float32 ``(N, c, S, S)`` in 0..1, of the training split: int8 gets its ranges from them.
        images: likewise, of the validation split: the forms are compared on them.
        labels: int64 ``(M,)``, of ``images``.
    """

    calibration: Tensor
    images: Tensor
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Check:
    """How one form compares with the original.

    Attributes:
        file: of the form.
        bytes: its size.
        largest: difference of a probability.
        agreement: share of images with the same label.
        accuracy: on the validation split, ``None`` without one.
        ms: median time for one face, one thread, in milliseconds.
    """

    file: str
    bytes: int
    largest: float
    agreement: float
    accuracy: float | None
    ms: float


def export(model: Model, folder: Path, samples: Samples | None = None, program: bool = True) -> list[Check]:
    """Write a model as a folder with an ONNX file, a program of ``torch.export`` and, given samples, int8 in it.

    The folder is complete or not there: it is made beside its place and renamed.

    Args:
        model: with a PyTorch network.
        folder: to write; one that was exported before is replaced.
        samples: to compare on, and for int8.
        program: also write a program of ``torch.export``.

    Returns:
        A check of each form, the original first; they are also in ``export.json``.

    Raises:
        ConfigError: if a form differs by more than ``LARGEST``, or int8 agrees less than ``LEAST_AGREEMENT``,
            or there is something else in the folder.
        MissingExtraError: without the packages for it.
    """
    _check_place(folder)
    images = _fixture(model) if samples is None else samples.images
    labels = None if samples is None else samples.labels
    reference = _probabilities(model, model.backend, images)
    with part_beside(folder) as part:
        write_model_folder(model, part)
        checks = [_check(WEIGHTS, part, model, model.backend, images, labels, reference)]
        content = onnx_bytes(model)
        made: list[tuple[str, bytes, Callable[[bytes], Backend]]] = [(ONNX, content, OnnxBackend)]
        if program:
            made.append((PROGRAM, program_bytes(model), ProgramBackend))
        if samples is not None:
            made.append((INT8, quantized(content, samples.calibration), OnnxBackend))
        for file, form, backend in made:
            write_atomically(part / file, form)
            checks.append(_check(file, part, model, backend(form), images, labels, reference))
            _accept(checks[-1])
        write_atomically(part / "export.json", json_text({"images": len(images), "forms": [asdict(c) for c in checks]}))
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    return checks


def export_table(checks: list[Check]) -> list[str]:
    """Return the checks as lines of text."""
    rows = [("form", "kB", "largest difference", "same label", "accuracy", "ms a face")]
    for check in checks:
        accuracy = "" if check.accuracy is None else f"{check.accuracy:.2%}"
        size, time_ms = f"{check.bytes / 1000:,.0f}", f"{check.ms:.2f}"
        rows.append((check.file, size, f"{check.largest:.1e}", f"{check.agreement:.2%}", accuracy, time_ms))
    return table_lines(rows)


def _check_place(folder: Path) -> None:
    place_to_write(folder)
    if folder.exists() and not (folder / "export.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists and was not written by fer export: give another --out")


def _fixture(model: Model) -> Tensor:
    """Return smooth random images, float32 ``(N, c, S, S)`` in 0..1: white noise would tell networks nothing apart."""
    size, channels = model.preprocessing["image_size"], model.preprocessing["channels"]
    coarse = torch.rand(_FIXTURE, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)


def _probabilities(model: Model, backend: Backend, images: Tensor) -> Tensor:
    logits = torch.cat([backend(part) for part in torch.split(images, 256)])
    return model.calibration.probabilities(logits)


def _check(
    file: str,
    folder: Path,
    model: Model,
    backend: Backend,
    images: Tensor,
    labels: NDArray[np.int64] | None,
    reference: Tensor,
) -> Check:
    found = _probabilities(model, backend, images)
    chosen = found.argmax(dim=1)
    with using_threads(1):
        took = statistics.median(milliseconds(backend, images[:1], _TURNS))
    return Check(
        file,
        (folder / file).stat().st_size,
        float((found - reference).abs().max()),
        float((chosen == reference.argmax(dim=1)).double().mean()),
        None if labels is None else float((chosen.numpy() == labels).mean()),
        took,
    )


def _accept(check: Check) -> None:
    if check.file == INT8:
        if check.agreement < LEAST_AGREEMENT:
            raise ConfigError(
                f"int8 gives the label of the original on {check.agreement:.1%} of the images only, "
                f"less than {LEAST_AGREEMENT:.0%}: export without --int8"
            )
    elif check.largest > LARGEST:
        raise ConfigError(f"{check.file} differs from the original by {check.largest:.1e}, more than {LARGEST:.0e}")
