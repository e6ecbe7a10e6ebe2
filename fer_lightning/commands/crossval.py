"""``fer crossval``: reads its command line; what a study does is in ``fer_lightning.studies.crossval``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from fer_lightning.cli.named_configs import config_file
from fer_lightning.commands.pass_on import OfFit, refuse_flags
from fer_lightning.errors import ConfigError
from fer_lightning.studies.crossval.options import Arm, CrossvalOptions

__all__ = ["crossval", "study_options"]

_OWN = {
    "ckpt_path": "its runs start afresh, and go on by themselves",
    "seed_everything": "say --seeds",
    "trainer.fast_dev_run": "it leaves nothing to compare; --trainer.max_epochs 1 is short, too",
    "data.folds": "say --folds",
    "data.fold": "each fold has its turn",
}
_NAME = re.compile(r"\w[\w.-]*")


def crossval(
    arms: Annotated[tuple[str, ...], "ARM"] = (),
    *,
    folds: Annotated[int | None, "K"] = None,
    seeds: Annotated[str, "0,1,2"] = "0",
    name: Annotated[str, "STUDY"] = "crossval",
    evaluate: Literal["val", "test"] = "val",
    config: Annotated[tuple[str, ...], "FILE", "-c"] = (),
    of_fit: OfFit,
) -> int:
    """Train each arm with several seeds, on several folds or both, and compare them.

    An arm is a config file of `fer fit`, or several joined by '+', and may be named:
      fer crossval plain.yaml focus.yaml --seeds 0,1,2 --data.root DIR
      fer crossval plain=base.yaml weighted=base.yaml+weighted.yaml --folds 5

    Arms stand before all options. Options that are not listed below are those of `fer fit`, for all arms: a --config is
    read before the files of an arm, flags have the last word.

    Each run is an ordinary one, in runs/STUDY/ARM/. The same command goes on where it was interrupted, and with more
    seeds or arms it runs what is lacking. Results are in runs/STUDY: crossval.html, crossval.csv, runs.csv, pictures.

    Args:
        arms: what is compared; the others are compared with the first.
        folds: divide the training images into K parts, each validated on in turn.
        seeds: seeds of the runs.
        name: its folder in runs/.
        evaluate: test: score the chosen checkpoints on the test split, too.
        config: config that all arms share, may be given again.
        of_fit: for all arms.

    Returns:
        0 if all runs are finished, 1 if some failed.
    """
    options = study_options(arms, folds, seeds, name, evaluate, config, of_fit)
    from fer_lightning.studies.crossval.study import run_comparison  # here, because it imports torch and lightning

    return run_comparison(options)


def study_options(
    arms: tuple[str, ...],
    folds: int | None,
    seeds: str,
    name: str,
    evaluate: str,
    config: tuple[str, ...],
    of_fit: Sequence[str],
) -> CrossvalOptions:
    """Return the arguments of ``crossval``; raise ``ConfigError`` for what is wrong with them."""
    refuse_flags("crossval", of_fit, _OWN)
    if not arms:  # one config alone is an arm, too
        arms, config = config[-1:], config[:-1]
    if not arms:
        raise ConfigError("fer crossval needs an arm: a config file of fer fit, before all options (see --help)")
    read = [_arm(text) for text in arms]
    names = [arm.name for arm in read]
    for each in names:
        if names.count(each) > 1:
            raise ConfigError(f"fer crossval: two arms are called '{each}'; name them: first=FILE second=FILE")
    for file in (*config, *(file for arm in read for file in arm.files)):
        if not Path(file).is_file():
            raise ConfigError(f"fer crossval: there is no config file {file}")
    if folds is not None and folds < 2:
        raise ConfigError(f"fer crossval: --folds must be at least 2, not {folds}")
    if not _NAME.fullmatch(name):
        raise ConfigError(f"fer crossval: --name is the name of a folder, not '{name}'")
    return CrossvalOptions(tuple(read), folds, _seeds(seeds), name, evaluate == "test", tuple(config), tuple(of_fit))


def _arm(text: str) -> Arm:
    """Read ``FILE``, ``FILE+FILE`` or ``NAME=FILE+FILE``; a file may have these signs in its name."""
    name, equals, files = text.partition("=")
    if not equals or Path(text).is_file():
        name, files = "", text
    parts = (files,) if Path(files).is_file() else tuple(files.split("+"))
    parts = tuple(str(config_file(part) or part) if part else "" for part in parts)
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
