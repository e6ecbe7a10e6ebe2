"""Run folders: where a run writes, and how a checkpoint is found again.

A run lives in ``<root>/<name>/version_<k>``: ``config.yaml``, ``checkpoints/best.ckpt`` and ``resume.ckpt``,
TensorBoard's event files, and the report of its best validation. Evaluations of a checkpoint write beside it
(``test/``, ...).
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.errors import CheckpointError, ConfigError

__all__ = ["BEST", "RESUME", "Claim", "claim_run_folder", "find_checkpoint", "run_folder_of"]

BEST = "best.ckpt"
RESUME = "resume.ckpt"


def _versions(folder: Path) -> list[Path]:
    """Return the ``version_<k>`` folders in a folder, oldest first."""
    numbered = [(int(match[1]), path) for path in folder.glob("version_*") if (match := _NUMBER.fullmatch(path.name))]
    return [path for _, path in sorted(numbered)]


_NUMBER = re.compile(r"version_(\d+)")


@dataclass(frozen=True)
class Claim:
    """A run folder that this process has created.

    Attributes:
        folder: the folder.
        above: the nearest folder above it that was there before, absolute.
    """

    folder: Path
    above: Path

    def discard(self) -> None:
        """Remove the folder and what was written into it, and the folders that were created for it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        path = self.folder.absolute().parent
        while path != self.above:
            try:
                path.rmdir()
            except OSError:
                return  # another run is in it
            path = path.parent


def claim_run_folder(root: Path, name: str) -> Claim:
    """Create the next free ``<root>/<name>/version_<k>``.

    Raises:
        ConfigError: if the folder cannot be created.
    """
    target = (root / name).absolute()
    above = next(path for path in (target, *target.parents) if path.exists())
    used = _versions(root / name)
    number = int(used[-1].name.removeprefix("version_")) + 1 if used else 0
    while True:
        folder = root / name / f"version_{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if not folder.is_dir():
                raise ConfigError(f"the run folder {folder} cannot be created: a file is in the way") from None
            number += 1  # another process was faster
        except OSError as error:
            raise ConfigError(f"the run folder {folder} cannot be created: {error.strerror}") from error
        else:
            return Claim(folder, above)


def run_folder_of(checkpoint: Path) -> Path | None:
    """Return the run folder that a checkpoint lies in, ``None`` if it lies elsewhere."""
    folder = checkpoint.parent
    return folder.parent if folder.name == "checkpoints" else None


def find_checkpoint(wanted: str, root: Path, name: str, file: str) -> Path:
    """Find a checkpoint file.

    Args:
        wanted: a file, a run folder, or ``best`` or ``last`` of the newest run that has one.
        root: the folder of all runs.
        name: name of the experiment, for ``best`` and ``last``.
        file: which file of a run folder to take where ``wanted`` is a folder.

    Raises:
        CheckpointError: if there is none; the message lists what there is.
    """
    path = Path(wanted).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return _in_run(path, file)
    if wanted not in ("best", "last"):
        raise CheckpointError(f"there is no checkpoint {wanted}{_what_there_is(root)}")
    file = BEST if wanted == "best" else RESUME
    for version in reversed(_versions(root / name)):
        if (version / "checkpoints" / file).is_file():
            return version / "checkpoints" / file
    raise CheckpointError(f"no run in {root / name} has a '{wanted}' checkpoint ({file}){_what_there_is(root)}")


def _in_run(folder: Path, file: str) -> Path:
    for candidate in (folder / file, folder / "checkpoints" / file):
        if candidate.is_file():
            return candidate
    inside = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.ckpt"))[:5]
    found = f"; it holds {', '.join(inside)}" if inside else ""
    raise CheckpointError(f"the folder {folder} holds no {file}{found}")


def _what_there_is(root: Path) -> str:
    found = sorted(root.glob("*/version_*/checkpoints/*.ckpt"), key=lambda path: path.stat().st_mtime)[-5:]
    return f"; there is: {', '.join(map(str, found))}" if found else f"; there is no checkpoint under {root}"
