"""Where a run comes from: the command, the checkpoint before it, the code, the packages and the machine."""

from __future__ import annotations

import functools
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

import fer_lightning
from fer_lightning.errors import CheckpointError
from fer_lightning.files import file_digest
from fer_lightning.runs.changes import config_changes
from fer_lightning.runs.checkpoint import CONFIG_KEY, LINEAGE_KEY, epochs_in, read_checkpoint, run_folder_of
from fer_lightning.runs.lineage import Change, Parent

__all__ = [
    "PACKAGES",
    "changes_since",
    "code_state",
    "command_line",
    "device",
    "environment",
    "hardware",
    "origin_of_weights",
    "parent_of",
    "stored_data",
    "versions",
]

PACKAGES = ("torch", "lightning", "timm", "torchmetrics", "numpy")
"""Packages whose versions can change what a run computes."""


def command_line() -> str:
    """Return the command that this process was started by."""
    program = Path(sys.argv[0]).name
    return " ".join(["fer" if program == "__main__.py" else program, *sys.argv[1:]])  # python -m fer_lightning


def hardware() -> str:
    """Return the name of the GPU, of the processor where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of this package and of those that can change what a run computes, by name."""
    return {name: version(name) for name in ("fer_lightning", *PACKAGES)}


def environment() -> dict[str, Any]:
    """Return the versions of Python and packages, and the machine's name and system."""
    return {
        "python": platform.python_version(),
        **{name: found for name, found in versions().items() if name in PACKAGES},
        "hostname": socket.gethostname(),
        "os": platform.platform(),
    }


def device(trainer: Trainer) -> dict[str, Any]:
    """Return what a run computes on: ``hardware``, ``count`` of processes, ``precision``, ``strategy``."""
    return {
        "hardware": hardware(),
        "count": trainer.world_size,
        "precision": trainer.precision,
        "strategy": type(trainer.strategy).__name__,
    }


def stored_data(checkpoint: Path) -> dict[str, Any]:
    """Return ``counts`` and ``fingerprints`` of the splits that a checkpoint was trained with, empty if not stored."""
    data: dict[str, Any] = _content(checkpoint).get(LINEAGE_KEY, {}).get("data", {})
    return data


def code_state(folder: Path = Path(fer_lightning.__file__).parent) -> dict[str, Any]:
    """Return version, commit and whether the package was changed since, where it is part of a git repository."""
    state: dict[str, Any] = {"package": fer_lightning.__version__, "commit": None, "dirty": None}
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py"):  # installed into another's tree it is not its own
        state["commit"] = (_git(folder, "rev-parse", "HEAD") or "").strip() or None
        changed = _git(folder, "status", "--porcelain", "--", ".")
        state["dirty"] = None if changed is None else bool(changed.strip())
    return state


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def parent_of(path: Path, root: Path, **known: Any) -> Parent:
    """Return a checkpoint as a parent, with what it says of itself; ``root`` is the folder of all runs."""
    run = run_folder_of(path.absolute())
    return Parent(
        checkpoint=_under(path, root),
        sha256=file_digest(path, "sha256"),
        run=None if run is None else _under(run, root),
        **known,
    )


def _under(path: Path, root: Path) -> str:
    whole, root = path.resolve(), root.resolve()
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else str(whole)


def origin_of_weights(path: Path) -> dict[str, Any]:
    """Return ``epoch``, ``step`` and ``node`` of the checkpoint that a file of weights is, empty if it is none."""
    content = _content(path)
    if "global_step" not in content:
        return {}
    node = content.get(LINEAGE_KEY, {}).get("node")
    return {"epoch": epochs_in(content), "step": content["global_step"], "node": node}


def changes_since(path: Path, values: Mapping[str, Any]) -> list[Change]:
    """Return how a configuration differs from the one in a file of weights."""
    before = _content(path).get(CONFIG_KEY)
    changes = config_changes(before, values) if isinstance(before, dict) else []
    return [change for change in changes if change.key not in ("model.weights", "model.pretrained")]


def _content(path: Path) -> dict[str, Any]:
    """Return what a file of weights holds, without reading its tensors; empty if it is no file of torch's."""
    if path.suffix == ".safetensors":
        return {}
    try:
        return read_checkpoint(path, mapped=True)
    except CheckpointError:  # loading the weights reports what is wrong
        return {}
