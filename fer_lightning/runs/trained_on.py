"""Which images a model was trained on and chosen on, as digests that travel with its weights.

A checkpoint holds them under ``TRAINED_ON_KEY``, a model folder in a file, ``trained_on.npy``. They say of any
image whether the model has seen it, on a machine that does not have the training data.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import CheckpointError
from fer_lightning.files import file_digest
from fer_lightning.runs.checkpoint import read_checkpoint
from fer_lightning.runs.model_folder import CONFIG, TRAINED_ON, is_in_model_folder, read_values

__all__ = [
    "TRAINED_ON_KEY",
    "TrainedOn",
    "digest_numbers",
    "joined",
    "read_trained_on",
    "text_numbers",
    "trained_on_in",
    "without_digests",
]

TRAINED_ON_KEY = "fer_trained_on"
"""Key of what a model was trained on: ``train`` and ``val``, int64 tensors of the bits of the digests, and
``unknown``."""

_BYTES = 8  # of each digest; of 28,709 images and 3,589 others, 6e-12 are expected to be the same by chance
_ROLES = ("train", "val")
_ROW = np.dtype([("digest", "<u8"), ("role", "u1")])  # of the file; the role is a place in _ROLES


def _none() -> NDArray[np.uint64]:
    return np.zeros(0, np.uint64)


def digest_numbers(digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the first 8 bytes of digests, uint8 ``(N, D)``, as numbers, uint64 ``(N,)``."""
    numbers: NDArray[np.uint64] = np.ascontiguousarray(digests[:, :_BYTES]).view(">u8").reshape(-1).astype(np.uint64)
    return numbers


def text_numbers(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Return digests of 16 hexadecimal digits as numbers, uint64 ``(N,)``; raise a ValueError for other texts."""
    return np.array([int(text, 16) for text in texts], np.uint64)


@dataclass(frozen=True, eq=False)  # arrays have no equality that is one answer
class TrainedOn:
    """Which images a model was trained on and chosen on, and what is not known of that.

    Attributes:
        train: of the images it was trained on, those of the models that it learned from included: the first 8 bytes of
            their digests, uint64 ``(N,)``, sorted, each once.
        val: likewise, of the images by which its epoch, its weights or its settings were chosen.
        unknown: where more images may come from that are not known, such as ``timm resnet18.a1_in1k``.
    """

    train: NDArray[np.uint64] = field(default_factory=_none)
    val: NDArray[np.uint64] = field(default_factory=_none)
    unknown: tuple[str, ...] = ()

    def roles(self, numbers: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return of digests ``(N,)`` which the model was trained on, and which it was chosen on only, bool ``(N,)``."""
        trained: NDArray[np.bool_] = np.isin(numbers, self.train)
        return trained, np.isin(numbers, self.val) & ~trained

    def state(self) -> dict[str, Any]:
        """Return the value for a checkpoint: tensors and a list."""
        import torch  # listing runs must not wait for it

        kept = {role: torch.from_numpy(getattr(self, role).view(np.int64).copy()) for role in _ROLES}
        return {**kept, "unknown": list(self.unknown)}

    def npy_bytes(self) -> bytes:
        """Return the content of the file in a model folder: rows of ``digest`` and ``role``, 9 bytes each."""
        rows = np.zeros(len(self.train) + len(self.val), _ROW)
        rows["digest"] = np.concatenate([self.train, self.val])
        rows["role"][len(self.train) :] = 1
        buffer = io.BytesIO()
        np.save(buffer, rows, allow_pickle=False)
        return buffer.getvalue()


def joined(records: Iterable[TrainedOn]) -> TrainedOn:
    """Return the union of several records."""
    listed = list(records)
    parts = {role: np.unique(np.concatenate([_none(), *(getattr(each, role) for each in listed)])) for role in _ROLES}
    return TrainedOn(**parts, unknown=tuple(dict.fromkeys(name for each in listed for name in each.unknown)))


def without_digests(record: TrainedOn) -> TrainedOn:
    """Return a record that says how many images there were and no more, for data that must stay private."""
    counts = f"{len(record.train):,} training and {len(record.val):,} validation images"
    return TrainedOn(unknown=(*record.unknown, f"{counts} whose digests were left out"))


def trained_on_in(content: Mapping[str, Any], path: Path) -> TrainedOn | None:
    """Return the record in what ``read_checkpoint`` gives of a file; ``None`` if it has none: of older versions.

    Raises:
        CheckpointError: if it is damaged.
    """
    state = content.get(TRAINED_ON_KEY)
    if state is None:
        return None
    try:
        parts = {role: np.unique(state[role].numpy().view(np.uint64)) for role in _ROLES}
        return TrainedOn(**parts, unknown=tuple(map(str, state["unknown"])))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{path}: what it says of its training images is damaged: {error!r}") from error


def read_trained_on(path: Path) -> TrainedOn | None:
    """Return which images a model was trained on, by its checkpoint or the weights in a model folder.

    Returns:
        ``None`` if the file does not say, as those of older versions.

    Raises:
        CheckpointError: if it cannot be read.
    """
    if is_in_model_folder(path):
        return _of_folder(path.parent)
    return trained_on_in(read_checkpoint(path, mapped=True), path)


def _of_folder(folder: Path) -> TrainedOn | None:
    values, path = read_values(folder), folder / TRAINED_ON
    said = values.get("trained_on")
    if not isinstance(said, dict):
        return None
    unknown = tuple(map(str, said.get("unknown", ())))
    if TRAINED_ON not in values["sha256"]:
        return TrainedOn(unknown=unknown)
    try:
        if file_digest(path, "sha256") != values["sha256"][TRAINED_ON]:
            raise ValueError(f"it is not the one that {folder / CONFIG} was written with")
        rows = np.load(path, allow_pickle=False)
        parts = {role: np.unique(rows["digest"][rows["role"] == place]) for place, role in enumerate(_ROLES)}
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}: fetch the folder again") from error
    except (ValueError, IndexError, EOFError) as error:
        raise CheckpointError(f"{path} is damaged: {error}: fetch the folder again") from error
    return TrainedOn(**parts, unknown=unknown)
