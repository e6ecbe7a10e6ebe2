"""Checkpoints: their names, the keys of what we put into them, how one is found, and the one way to open it."""

from __future__ import annotations

import glob
import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from fer_lightning.errors import CheckpointError
from fer_lightning.runs.folder import run_folders, versions
from fer_lightning.runs.model_folder import WEIGHTS, is_in_model_folder, is_model_folder, read_model_folder, released
from fer_lightning.text import excerpt

__all__ = [
    "BEST",
    "CALIBRATION_KEY",
    "CHECKPOINTS",
    "CONFIG_KEY",
    "LINEAGE_KEY",
    "MEMBERS_KEY",
    "NETWORK_PREFIX",
    "RESUME",
    "SAVED_KEY",
    "STOPPED_KEY",
    "TASK_KEY",
    "check_checkpoint",
    "checkpoint_in",
    "epochs_in",
    "find_checkpoint",
    "named_models",
    "other_file",
    "read_checkpoint",
    "run_folder_of",
    "weights_digest",
]

CHECKPOINTS = "checkpoints"
"""The folder in a run folder that its checkpoints are in."""

BEST = "best.ckpt"
"""The checkpoint of the best validation so far."""

RESUME = "resume.ckpt"
"""The checkpoint from which a run goes on exactly."""

CALIBRATION_KEY = "fer_calibration"
"""Key of the calibration in a checkpoint that was made of a model folder; that of a run lies in its folder."""

CONFIG_KEY = "fer_config"
"""Key of the configuration of the run, as plain values."""

LINEAGE_KEY = "fer_lineage"
"""Key of what wrote the checkpoint: ``node``, the id of the start of the run, and ``data``, ``counts`` and
``fingerprints`` of its splits, and ``STOPPED_KEY``."""

MEMBERS_KEY = "fer_members"
"""Key of what the models of an ensemble were read from: of each, ``checkpoint``, a path, and its ``sha256``."""

STOPPED_KEY = "stopped"
"""Key in ``LINEAGE_KEY`` of why a callback ended the training with the epoch just done, empty if none did."""

SAVED_KEY = "fer"
"""Key of how the checkpoint was saved: ``exact`` is false in a dump of an interrupted step; ``written`` is the time,
seconds since 1970; ``world``, ``batch`` and ``accumulate`` say which samples a step had."""

NETWORK_PREFIX = "classifier."
"""Begins the names of the network's weights; others are of the loss and the like."""

TASK_KEY = "fer_task"
"""Key of what the weights mean: ``class_names``, ``preprocessing``, ``class_counts`` and more."""


_AGAIN = "copy or download it again"


def other_file(path: Path) -> str:
    """Return what a file is instead of weights, and what to do; empty if its beginning does not tell."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        return f"cannot be read ({error.strerror}): check its permissions"
    if not head:
        return f"is empty: {_AGAIN}"
    if head.startswith(b"version https://git-lfs"):
        return "is the pointer of git-lfs and not the file itself: run `git lfs pull` in its repository"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "is a web page, so the download has failed (a login, or an error): download it again"
    if head[:2] in (b"\x1f\x8b", b"BZ", b"7z") or head[257:262] == b"ustar":
        return "is a packed archive: unpack it, and give the file in it"
    text = head.decode("utf-8", "replace")
    if text[:-1].replace("\n", " ").replace("\r", " ").replace("\t", " ").isprintable() and "\ufffd" not in text[:-1]:
        return f"is a text, {excerpt(text)}, and holds no weights: if it was downloaded, {_AGAIN}"
    return ""


def check_checkpoint(path: Path) -> None:
    """Read a checkpoint file through and compare its checksums, which loading it does not do.

    Raises:
        CheckpointError: if the file is missing, cut off, something else, or has a flipped bit.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    if reason := other_file(path):
        raise CheckpointError(f"{path} {reason}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint: {_AGAIN}") from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged, the checksum of '{damaged}' does not match: {_AGAIN}")


def read_checkpoint(path: Path, *, map_location: Any = "cpu", mapped: bool = False) -> dict[str, Any]:
    """Open a checkpoint, ours or one of Lightning's, or a model folder. No code in it is run.

    Args:
        path: a file that ``torch.save`` wrote, or the weights in a model folder, which are given as a checkpoint of no
            steps: it can be evaluated and started from, and not gone on from.
        map_location: where the tensors go, as in ``torch.load``.
        mapped: compare no checksums, and leave the tensors on the disk until they are used: for what else is in it.

    Returns:
        What is in it: plain data and tensors by key.

    Raises:
        CheckpointError: if it is missing, damaged, no mapping, or holds more than plain data and tensors.
    """
    import torch  # listing runs must not wait for it

    if is_in_model_folder(path):
        return _of_model_folder(path.parent)
    if not mapped:
        check_checkpoint(path)
    try:
        content = torch.load(
            path, map_location=map_location, weights_only=True, mmap=mapped and zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged or holds more than plain data and tensors, which may run code when it is read: start "
            f"from its weights, --model.weights {path}"
        ) from error
    except Exception as error:  # torch, pickle and zip each have their own; all are about this file
        raise CheckpointError(f"{path} is damaged or no checkpoint: {_AGAIN}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is no checkpoint: it holds a {type(content).__name__}, not values by name")
    return content


def _of_model_folder(folder: Path) -> dict[str, Any]:
    values, weights = read_model_folder(folder)
    config: dict[str, Any] = {"model": dict(values["architecture"]), "trainer": {"precision": "32-true"}}
    if data := values.get("training", {}).get("data"):
        config["data"] = {"class_path": data, "init_args": dict(values["preprocessing"])}
    meaning = {name: values[name] for name in ("class_names", "preprocessing")}
    return {
        "state_dict": {f"{NETWORK_PREFIX}{name}": value for name, value in weights.items()},
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": metadata.version("lightning"),  # so that Lightning has nothing to convert
        CONFIG_KEY: config,
        TASK_KEY: {**meaning, "class_counts": None, "plateau": None},
        CALIBRATION_KEY: values.get("calibration"),
    }


def weights_digest(state: Mapping[str, Any]) -> str:
    """Return a digest of a network's weights, 32 hexadecimal digits, the same in whatever file they are.

    Args:
        state: tensors by name; in a checkpoint the names begin with ``NETWORK_PREFIX``, and others are left out.
    """
    import torch  # listing runs must not wait for it

    inside = {name.removeprefix(NETWORK_PREFIX): name for name in state if name.startswith(NETWORK_PREFIX)}
    digest = hashlib.blake2b(digest_size=16)
    for name, key in sorted((inside or {name: name for name in state}).items()):
        tensor = state[key].detach().cpu().contiguous()
        if name == "shift" and not tensor.any():
            continue  # which older checkpoints do not have
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def epochs_in(checkpoint: Mapping[str, Any]) -> int:
    """Return how many epochs are done in a checkpoint."""
    progress = checkpoint.get("loops", {}).get("fit_loop", {}).get("epoch_progress", {})
    return int(progress.get("current", {}).get("processed", checkpoint.get("epoch", 0)))


def run_folder_of(checkpoint: Path) -> Path | None:
    """Return the run folder that a checkpoint lies in, ``None`` if it lies elsewhere."""
    folder = checkpoint.parent
    return folder.parent if folder.name == CHECKPOINTS else None


def find_checkpoint(wanted: str, root: Path, name: str | None, file: str) -> Path:
    """Find a checkpoint file.

    Args:
        wanted: a file, a run folder, a model folder, the name of a released model, or ``best`` or ``last`` of the
            newest run that has one.
        root: the folder of all runs.
        name: name of the experiment, for ``best`` and ``last``; ``None`` for all: the one written last.
        file: which file of a run folder to take where ``wanted`` is a folder.

    Raises:
        CheckpointError: if there is none; the message lists what there is.
    """
    path = Path(wanted).expanduser()
    if path.is_file():
        return path
    if is_model_folder(path):
        return path / WEIGHTS
    if path.is_dir():
        return checkpoint_in(path, file)
    if wanted in (ours := released()):
        return ours[wanted] / WEIGHTS
    if wanted not in ("best", "last"):
        raise CheckpointError(f"there is no checkpoint {wanted}{_what_there_is(root)}")
    file = BEST if wanted == "best" else RESUME
    runs = run_folders(root) if name is None else versions(root / name)
    found = [path for run in runs if (path := run / CHECKPOINTS / file).is_file()]
    if found:
        return found[-1] if name is not None else max(found, key=lambda path: path.stat().st_mtime)
    raise CheckpointError(
        f"no run in {root if name is None else root / name} has a '{wanted}' checkpoint ({file}){_what_there_is(root)}"
    )


def named_models(given: str | Path | Sequence[str | Path]) -> list[str]:
    """Return the models that an option names: one, or several whose probabilities are to be averaged.

    Args:
        given: of one model; or of several a list, or a text: ``a.ckpt,b.ckpt``, ``[a.ckpt, b.ckpt]``, or a pattern such
            as ``runs/study/arm/*/version_0``. A path that exists is taken as it is.

    Raises:
        CheckpointError: if nothing is named, or nothing matches a pattern.
    """
    if not isinstance(given, (str, Path)):
        found = [name for each in given for name in named_models(each)]
    elif Path(given).expanduser().exists():
        return [str(given)]
    else:
        text = str(given).strip()
        text = text[1:-1] if text.startswith("[") and text.endswith("]") and "," in text else text
        parts = [part.strip().strip("'\"") for part in text.split(",")]
        if len(parts) > 1:
            return named_models([part for part in parts if part])
        if not set("*?[") & set(text):
            return [text]
        found = sorted(glob.glob(str(Path(text).expanduser())))
    if not found:
        raise CheckpointError(f"no model is there: {given}" if given else "no model is named")
    return found


def checkpoint_in(folder: Path, file: str) -> Path:
    """Return a checkpoint of a folder of a run or of checkpoints; raise ``CheckpointError`` if it has none."""
    for candidate in (folder / file, folder / CHECKPOINTS / file):
        if candidate.is_file():
            return candidate
    inside = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*.ckpt"), key=_order)[:5]]
    found = f"; it holds {', '.join(inside)}" if inside else ""
    of = f": give the run that it is of, {folder.parent}" if (folder.parent / CHECKPOINTS / file).is_file() else ""
    raise CheckpointError(f"the folder {folder} holds no {file}{found}{of}")


def _what_there_is(root: Path) -> str:
    found = sorted(root.glob(f"*/version_*/{CHECKPOINTS}/*.ckpt"), key=lambda path: path.stat().st_mtime)[-5:]
    found = sorted(found, key=_order)
    return f"; there is: {', '.join(map(str, found))}" if found else f"; there is no checkpoint under {root}"


def _order(checkpoint: Path) -> tuple[Path, int, list[int]]:
    """Return what sorts checkpoints: by run, then the best one, the last one, and the others by their numbers."""
    rank = {BEST: 0, RESUME: 1}.get(checkpoint.name, 2)
    return checkpoint.parent, rank, [int(number) for number in re.findall(r"\d+", checkpoint.stem)]
