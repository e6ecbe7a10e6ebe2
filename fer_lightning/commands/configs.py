"""``fer configs``: the config files that come with the package. Nothing heavy is imported."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten

from fer_lightning.cli.config_files import read_config
from fer_lightning.cli.named_configs import config_file, shipped_configs, with_fragments
from fer_lightning.errors import ConfigError
from fer_lightning.files import write_atomically
from fer_lightning.outputs import folder_to_write, writing_errors
from fer_lightning.shipped import shipped
from fer_lightning.text import did_you_mean, short_path

__all__ = ["copy", "list_configs", "show"]

_COMPLETE = (".", "experiment", "reports")  # folders of files that `fer fit --config` takes alone


def list_configs() -> None:
    """List the config files that come with the package, and what each is for."""
    rows: list[tuple[str, ...]] = []
    folder = ""
    for name, path in sorted(shipped_configs().items(), key=lambda item: _order(item[0])):
        if Path(name).parent.name != folder:
            folder = Path(name).parent.name
            rows += [("",), (f"{folder}/  {_USES.get(folder, '')}".rstrip(),)]
        rows.append((f"  {name}", _about(path)))
    widest = max(len(row[0]) for row in rows if len(row) > 1)
    for row in rows:
        print(f"{row[0]:<{widest}}  {row[1]}" if len(row) > 1 else row[0])


_USES = {
    "experiment": "complete runs: fer fit --config experiment/fer2013_a --data.root PATH",
    "reports": "complete runs that follow published reports",
    "data": "one part of a run: --data data/fer2013.yaml",
    "model": "one part of a run: --model model/resnet18.yaml",
    "trainer": "one part of a run: --trainer trainer/ema.yaml",
    "focus": "arms of a comparison: fer crossval focus/plain focus/regret --data.root PATH",
    "groups": "arms of a comparison of groups of people, likewise",
    "tune": "search spaces: fer tune --space tune/optimizer ...",
}


def _order(name: str) -> tuple[int, str]:
    folder = name.rpartition("/")[0]
    return (list(_USES).index(folder) if folder in _USES else -1, name)


def _about(path: Path) -> str:
    """Return what the first comment of a config file says: its first sentence."""
    first = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
    return shorten(first.partition(": see ")[0].partition(". ")[0].rstrip(".,"), 90, placeholder=" ...")


def show(name: str) -> None:
    """Print a config file and the fragments that it names.

    Args:
        name: such as quickstart or experiment/fer2013_a; fer configs list has them all.

    Raises:
        ConfigError: if there is no such file.
    """
    for index, path in enumerate(_with_fragments(_found(name))):
        print(f"{chr(10) if index else ''}# {short_path(path, 200)}\n{path.read_text(encoding='utf-8').rstrip()}")


def copy(name: str, folder: str) -> None:
    """Copy a config file and the fragments that it names into a folder, to be changed there.

    Args:
        name: such as quickstart or experiment/fer2013_a; fer configs list has them all.
        folder: is made if it is missing; files that are there are not overwritten.

    Raises:
        ConfigError: if there is no such file, or the folder cannot be written to or holds another file of that name.
    """
    root, target = shipped("configs"), folder_to_write(folder)
    paths = _with_fragments(_found(name))
    copies = {target / (path.relative_to(root) if path.is_relative_to(root) else path.name): path for path in paths}
    for to, path in copies.items():
        if to.exists() and to.read_bytes() != path.read_bytes():
            raise ConfigError(f"{short_path(to)} is there already and differs: name another folder, or remove it first")
    with writing_errors(target):
        for to, path in copies.items():
            write_atomically(to, path.read_bytes())
            print(to)
    first = next(iter(copies))
    if first.parent.relative_to(target).as_posix() in _COMPLETE:
        print(f"use it: fer fit --config {first}")


def _found(name: str) -> Path:
    path = config_file(name)
    if path is None:
        known = shipped_configs()
        hint = did_you_mean(name.removeprefix("configs/").removesuffix(".yaml"), known)
        raise ConfigError(f"there is no config '{name}'{hint} (fer configs list has them all)")
    return path


def _with_fragments(path: Path) -> list[Path]:
    """Return a config file and the files that it names, itself first."""
    values = with_fragments(read_config(path), path.parent, Path())
    named = [
        path.parent / each for each in values.values() if isinstance(each, str) and each.endswith((".yaml", ".yml"))
    ]
    return [path, *(each.resolve() for each in named if each.is_file())]
