"""``fer crossval``: reads its command line; what a study does is in :mod:`fer_lightning.studies.crossval`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from fer_lightning.cli.verbs import OneLineParser
from fer_lightning.errors import ConfigError
from fer_lightning.studies.crossval.options import Arm, Options

__all__ = ["crossval", "parse"]

_USAGE = "fer crossval ARM [ARM ...] [--folds K] [--seeds 0,1,2] [options] [options of fer fit]"
_DESCRIPTION = """\
Train each arm with several seeds, on several folds or both, and compare them.

An arm is a config file of `fer fit`, or several joined by '+', and may be named:
  fer crossval plain.yaml focus.yaml --seeds 0,1,2 --data.root DIR
  fer crossval plain=base.yaml weighted=base.yaml+weighted.yaml --folds 5
Arms stand before all options. Options that are not listed below are those of `fer fit`, for all arms: a --config is
read before the files of an arm, flags have the last word.

Each run is an ordinary one, in runs/STUDY/ARM/. The same command goes on where it was interrupted, and with more seeds
or arms it runs what is lacking. Results are in runs/STUDY: crossval.html, crossval.csv, runs.csv, pictures.
"""
_OWN = {
    "ckpt_path": "its runs start afresh, and go on by themselves",
    "seed_everything": "say --seeds",
    "trainer.fast_dev_run": "it leaves nothing to compare; --trainer.max_epochs 1 is short, too",
    "data.folds": "say --folds",
    "data.fold": "each fold has its turn",
}
_NAME = re.compile(r"\w[\w.-]*")


def crossval(args: list[str]) -> int:
    """Run, or go on with, a comparison of arms.

    Args:
        args: the command line behind ``fer crossval``.

    Returns:
        0 if all runs are finished, 1 if some failed.

    Raises:
        FERError: for whatever a user can mend.
    """
    options = parse(args)
    from fer_lightning.studies.crossval.study import run_study  # here, because it imports torch and lightning

    return run_study(options)


def parse(args: Sequence[str]) -> Options:
    """Read the command line.

    Raises:
        ConfigError: for what is wrong with it.
    """
    count = next((place for place, argument in enumerate(args) if argument.startswith("-")), len(args))
    parser = OneLineParser(
        prog="fer crossval",
        usage=_USAGE,
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--folds", type=int, metavar="K", help="divide the training images into K parts, each validated on in turn")
    add("--seeds", default="0", metavar="0,1,2", help="seeds of the runs (default: 0)")
    add("--name", default="crossval", metavar="STUDY", help="its folder in runs/ (default: crossval)")
    add(
        "--evaluate",
        choices=("val", "test"),
        default="val",
        help="test: score the chosen checkpoints on the test split, too (default: val)",
    )
    add(
        "-c",
        "--config",
        action="append",
        default=[],
        metavar="FILE",
        help="config that all arms share, may be given again",
    )
    own, flags = parser.parse_known_args(args[count:])
    _check_flags(flags)
    arms = [_arm(text) for text in args[:count]]
    if not arms and own.config:  # one config alone is an arm, too
        arms, own.config = [_arm(own.config[-1])], own.config[:-1]
    if not arms:
        raise ConfigError("fer crossval needs an arm: a config file of fer fit, before all options (see --help)")
    names = [arm.name for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"fer crossval: two arms are called '{name}'; name them: first=FILE second=FILE")
    for file in (*own.config, *(file for arm in arms for file in arm.files)):
        if not Path(file).is_file():
            raise ConfigError(f"fer crossval: there is no config file {file}")
    if own.folds is not None and own.folds < 2:
        raise ConfigError(f"fer crossval: --folds must be at least 2, not {own.folds}")
    if not _NAME.fullmatch(own.name):
        raise ConfigError(f"fer crossval: --name is the name of a folder, not '{own.name}'")
    return Options(
        tuple(arms), own.folds, _seeds(own.seeds), own.name, own.evaluate == "test", tuple(own.config), tuple(flags)
    )


def _arm(text: str) -> Arm:
    """Read ``FILE``, ``FILE+FILE`` or ``NAME=FILE+FILE``; a file may have these signs in its name."""
    name, equals, files = text.partition("=")
    if not equals or Path(text).is_file():
        name, files = "", text
    parts = (files,) if Path(files).is_file() else tuple(files.split("+"))
    if not all(parts):
        raise ConfigError(f"fer crossval: '{text}' is no arm; expected FILE, FILE+FILE or NAME=FILE+FILE")
    name = name or Path(parts[-1]).stem
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"fer crossval: '{name}' cannot name an arm: letters, digits, '_', '-' and '.' only; say NAME={files}"
        )
    return Arm(name, parts)


def _seeds(text: str) -> tuple[int, ...]:
    """Read ``0,1,2``."""
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"fer crossval: --seeds must be whole numbers like 0,1,2, not '{text}'") from None
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ConfigError(f"fer crossval: --seeds must be different numbers of at least 0, not '{text}'")
    return seeds


def _check_flags(flags: Sequence[str]) -> None:
    """Refuse what a study sets itself, and arms that stand too late."""
    before = "-"
    for flag in flags:
        if not flag.startswith("-") and (not before.startswith("--") or "=" in before):
            raise ConfigError(f"fer crossval: '{flag}' belongs to no option; arms stand before all options")
        before = flag
        key = flag.partition("=")[0].removeprefix("--")
        if flag.startswith("--") and key in _OWN:
            raise ConfigError(f"fer crossval takes no --{key}: {_OWN[key]}")
