"""``fer tune``: reads its command line; what a study does is in ``fer_lightning.studies.tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from fer_lightning.commands.pass_on import OfFit, refuse_flags
from fer_lightning.errors import ConfigError
from fer_lightning.extras import need_extra
from fer_lightning.studies.tune.options import Pruner, Sampler, TuneOptions

__all__ = ["tune"]

_OWN = {
    "ckpt_path": "its trials start afresh, and go on by themselves",
    "checkpoint.monitor": "say --metric",
    "checkpoint.mode": "say --mode",
}


def tune(
    *,
    space: Annotated[Path, "FILE"],
    trials: Annotated[int, "N"] = 50,
    study: Annotated[str | None, "NAME"] = None,
    storage: Annotated[str | None, "WHERE"] = None,
    metric: Annotated[str, "val_..."] = "val_f1_macro",
    mode: Literal["max", "min"] | None = None,
    sampler: Sampler = "tpe",
    pruner: Pruner = "median",
    warmup: Annotated[int, "N"] = 1,
    seed: Annotated[int, "N"] = 0,
    timeout: Annotated[float | None, "SECONDS"] = None,
    of_fit: OfFit,
) -> int:
    """Search the settings of a training: each trial is an ordinary run of `fer fit`, in a process of its own.

    A search space is a YAML file of flags of `fer fit`:
      model.optimizer.init_args.lr: {low: 1e-4, high: 1e-2, log: true}
      model.head.init_args.dropout: {low: 0.0, high: 0.5, step: 0.05}
      data.batch_size: {choices: [32, 64, 128]}

    The same command goes on where a study was interrupted; given twice at the same time, on one machine or on several
    with one storage, it shares the work. Results are in runs/STUDY: trials.csv, best.yaml, study.json and pictures.

    Args:
        space: the search space.
        trials: how many the study shall have in all.
        study: its name (default: that of the config with _tune)
        storage: a file, or an Optuna URL such as sqlite:///x.db (default: STUDY/study.log)
        metric: what to improve.
        mode: its better direction (default: min for loss and ece, else max)
        sampler: what proposes settings.
        pruner: what ends hopeless trials early.
        warmup: epochs before a trial may be pruned.
        seed: of the sampler.
        timeout: begin no trial after this time.
        of_fit: the configuration that all trials share.

    Returns:
        0 if the study has all its trials, 130 or 143 if it was interrupted.
    """
    _check(metric, study, trials=trials, warmup=warmup, seed=seed)
    need_extra("tune", "fer tune needs", "optuna", "sqlalchemy", "sklearn")
    refuse_flags("tune", of_fit, _OWN)
    from fer_lightning.studies.tune.search_space import check_flags, load_space  # here, because it imports optuna

    check_flags(of_fit, load_space(space), space)
    from fer_lightning.studies.tune.study import run_search  # here, because it imports torch and lightning

    direction = mode or ("min" if metric.endswith(("loss", "_ece")) else "max")
    options = TuneOptions(space, trials, study, storage, metric, direction, sampler, pruner, warmup, seed, timeout)
    return run_search(options, of_fit)


def _check(metric: str, study: str | None, **numbers: int) -> None:
    if not metric.startswith("val_"):
        raise ConfigError(
            f"fer tune: --metric must be measured on validation data (val_...), not '{metric}': "
            "a search that looks at other data finds what fits them alone"
        )
    for name, given in numbers.items():
        least = int(name == "trials")
        if given < least:
            raise ConfigError(f"fer tune: --{name} must be at least {least}, not {given}")
    if study is not None and (not study or {"/", "\\"} & set(study) or study.startswith(".")):
        raise ConfigError(f"fer tune: --study is the name of a folder, not '{study}'")
