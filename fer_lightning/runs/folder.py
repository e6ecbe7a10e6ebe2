"""Run folders: where a run writes, and how the folders of earlier runs are found.

A run lives in ``<root>/<name>/version_<k>``: ``config.yaml``, ``checkpoints/best.ckpt`` and ``resume.ckpt``,
TensorBoard's event files, and the report of its best validation. Evaluations of a checkpoint write beside it
(``test/``, ...). While a run writes into its folder, ``run.lock`` says which process does.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.errors import ConfigError

__all__ = ["CONFIG", "Claim", "claim_run_folder", "config_files", "newest_run", "run_folders", "versions"]

CONFIG = "config.yaml"
"""Name of the configuration in the folder of a run."""
_CONFIG = re.compile(r"config(?:_(\d+))?\.yaml")
_NUMBER = re.compile(r"version_(\d+)")


def versions(folder: Path) -> list[Path]:
    """Return the ``version_<k>`` folders in a folder, oldest first."""
    numbered = [(int(match[1]), path) for path in folder.glob("version_*") if (match := _NUMBER.fullmatch(path.name))]
    return [path for _, path in sorted(numbered)]


@dataclass(frozen=True)
class Claim:
    """A run folder that this process has created; ``above`` is the nearest folder above it that was there before."""

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
    """Create the next free ``<root>/<name>/version_<k>``; raise ``ConfigError`` if that cannot be."""
    target = (root / name).absolute()
    above = next(path for path in (target, *target.parents) if path.exists())
    used = versions(root / name)
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


def newest_run(root: Path, name: str) -> Path | None:
    """Return the newest run folder ``<root>/<name>/version_<k>``, ``None`` if there is none."""
    folders = [path for path in versions(root / name) if path.is_dir()]
    return folders[-1] if folders else None


def run_folders(root: Path) -> list[Path]:
    """Return all folders ``version_<k>`` under a folder, sorted by name and version, but none inside another one."""
    found = []
    for place, names, _ in os.walk(root):
        versions = [name for name in names if _NUMBER.fullmatch(name)]
        found += [Path(place, name) for name in versions]
        names[:] = [name for name in names if name not in versions and not name.startswith(".")]
    return sorted(found, key=lambda path: (path.parent, int(path.name.removeprefix("version_"))))


def config_files(folder: Path) -> dict[int, Path]:
    """Return the configurations of a run folder by number, oldest first: ``config.yaml`` is 1, ``config_2.yaml`` 2."""
    found = {int(match[1] or 1): path for path in folder.glob("*.yaml") if (match := _CONFIG.fullmatch(path.name))}
    return dict(sorted(found.items()))
