"""``fer tune``: reads its command line; what a study does is in :mod:`fer_lightning.studies.tune`."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from fer_lightning.cli.verbs import OneLineParser
from fer_lightning.errors import ConfigError, MissingExtraError
from fer_lightning.studies.tune.options import PRUNERS, SAMPLERS, Options

__all__ = ["tune"]

_USAGE = "fer tune --config FILE --space FILE [--trials N] [options] [options of fer fit]"
_DESCRIPTION = """\
Search the settings of a training: each trial is an ordinary run of `fer fit`, in a process of its own.

A search space is a YAML file of flags of `fer fit`:
  model.optimizer.init_args.lr: {low: 1e-4, high: 1e-2, log: true}
  model.head.init_args.dropout: {low: 0.0, high: 0.5, step: 0.05}
  data.batch_size: {choices: [32, 64, 128]}

The same command goes on where a study was interrupted; given twice at the same time, on one machine or on several with
one storage, it shares the work. Results are in runs/STUDY: trials.csv, best.yaml, study.json and pictures.
"""


def tune(args: list[str]) -> int:
    """Run or resume a study.

    Args:
        args: the command line behind ``fer tune``.

    Returns:
        0 if the study has all its trials, 130 or 143 if it was interrupted.

    Raises:
        FERError: for whatever a user can mend.
    """
    options, of_fit = _parse(args)
    for package, name in (("optuna", "optuna"), ("sklearn", "scikit-learn")):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(f"fer tune needs {name}: pip install 'fer_lightning[tune]'")
    from fer_lightning.studies.tune.study import run_study  # here, because it imports torch, lightning and optuna

    return run_study(options, of_fit)


def _parse(args: list[str]) -> tuple[Options, list[str]]:
    parser = OneLineParser(
        prog="fer tune",
        usage=_USAGE,
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--space", type=Path, required=True, metavar="FILE", help="the search space")
    add("--trials", type=int, default=50, metavar="N", help="how many the study shall have in all (default: 50)")
    add("--study", metavar="NAME", help="its name (default: that of the config with _tune)")
    add("--storage", metavar="WHERE", help="a file, or an Optuna URL such as sqlite:///x.db (default: STUDY/study.log)")
    add("--metric", default="val_f1_macro", metavar="val_...", help="what to improve (default: val_f1_macro)")
    add("--mode", choices=("max", "min"), help="its better direction (default: min for loss and ece, else max)")
    add("--sampler", choices=SAMPLERS, default="tpe", help="what proposes settings (default: tpe)")
    add("--pruner", choices=PRUNERS, default="median", help="what ends hopeless trials early (default: median)")
    add("--warmup", type=int, default=1, metavar="N", help="epochs before a trial may be pruned (default: 1)")
    add("--seed", type=int, default=0, metavar="N", help="of the sampler (default: 0)")
    add("--timeout", type=float, metavar="SECONDS", help="begin no trial after this time")
    own, of_fit = parser.parse_known_args(args)
    if not own.metric.startswith("val_"):
        raise ConfigError(
            f"fer tune: --metric must be measured on validation data (val_...), not '{own.metric}': "
            "a search that looks at other data finds what fits them alone"
        )
    for name, least in (("trials", 1), ("warmup", 0), ("seed", 0)):
        if getattr(own, name) < least:
            raise ConfigError(f"fer tune: --{name} must be at least {least}, not {getattr(own, name)}")
    if own.study is not None and (not own.study or {"/", "\\"} & set(own.study) or own.study.startswith(".")):
        raise ConfigError(f"fer tune: --study is the name of a folder, not '{own.study}'")
    own.mode = own.mode or ("min" if own.metric.endswith(("loss", "_ece")) else "max")
    return Options(**vars(own)), of_fit
