"""What ``fer fit`` can be told, as tables and from source files: nothing heavy is imported.

The parser of ``fer_lightning.cli.trainer_cli`` is made of the same tables.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fer_lightning.cli.signatures import Signature, Types, class_signature, find_class, names_in

__all__ = [
    "ALLOWED_IMPORTS",
    "ARGUMENTS",
    "AUTO",
    "DEFAULT_ROOT",
    "EXAMPLES",
    "FAMILIES",
    "LINKED",
    "NEEDS_CHECKPOINT",
    "OPTIMIZER",
    "SECTIONS",
    "Family",
    "data_modules",
    "importable",
    "local_modules",
    "options_of_data",
    "plain_options",
    "plugins",
]

ALLOWED_IMPORTS = ("fer_lightning", "torch", "torchvision", "torchmetrics", "timm", "lightning", "albumentations")
"""Packages that a configuration may name classes of, beside plug-ins and modules in the working directory."""

PLUGIN_GROUP = "fer_lightning.plugins"

SECTIONS = {
    "trainer": "lightning.pytorch.Trainer",
    "model": "fer_lightning.models.task.EmotionTask",
    "checkpoint": "fer_lightning.callbacks.checkpoints.BestCheckpoint",
    "resume_checkpoint": "fer_lightning.callbacks.checkpoints.ResumeCheckpoint",
    "report": "fer_lightning.callbacks.reports.EvaluationReport",
    "card": "fer_lightning.callbacks.trained_images.TrainedImages",
}
"""Groups of options, and the class whose arguments they are."""

AUTO = "auto"
"""The value of ``--ckpt_path`` with which ``fer fit`` starts a run or goes on with it."""

NEEDS_CHECKPOINT = (
    "fer {verb} needs --ckpt_path: a file, a run folder, or 'best' or 'last' of a --name ('auto' is for fit)"
)
"""What is said where a verb that needs a checkpoint gets none."""

EXAMPLES = {"model.optimizer": "AdamW", "model.lr_scheduler": "WarmupCosine"}
"""A class for each option that has no class to begin with, but arguments of one may be given."""

OPTIMIZER = {"lr": "0.001", "weight_decay": "0.05"}
"""The arguments of AdamW with which the model's default optimizer is made."""

DEFAULT_ROOT = "runs"
"""The folder of all runs."""

LINKED = ("class_names", "num_classes", "preprocessing")
"""Arguments of the model that come from the data module."""

ARGUMENTS = {
    "seed_everything": Types(frozenset([bool, int])),
    "name": Types(frozenset([str])),
    "ckpt_path": Types(frozenset([str]), lists=True),
    "allow_changed_data": Types(frozenset([bool])),
    "mlflow": Types(frozenset([bool, str, type(None)])),
    "mlflow_checkpoints": Types(frozenset([bool])),
    "set": Types(frozenset([float, int])),
    "config": Types(frozenset([str])),
    "print_config": Types(open=True),
}
"""Options that stand alone."""


@dataclass(frozen=True)
class Family:
    """Classes that an option takes by their short names.

    Attributes:
        what: what they are called in a message.
        modules: those that define or export them.
        end: their names end so.
        first: arguments that a class is given by the program, not by the user.
        homes: packages, or folders in them, in which all classes are imported that have short names.
    """

    what: str
    modules: tuple[str, ...]
    end: str = ""
    first: int = 0
    homes: tuple[str, ...] = ("fer_lightning",)

    @functools.cached_property
    def classes(self) -> dict[str, str]:
        """Where each class is defined, by its name."""
        found: dict[str, str] = {}
        for module in self.modules:
            for name in sorted(names_in(module) or ()):
                place = find_class(module, name) if name.endswith(self.end) and name[0].isupper() else None
                if place is not None and name not in _BASES:
                    found.setdefault(name, place)
        return found


_BASES = {
    *("Callback", "Checkpoint", "CountedLoss", "EmotionDataModule", "Logger", "LRScheduler", "Optimizer"),
    *("PlateauWatch", "ScaledRates", "StepSchedule", "TakesClassCounts", "TakesClassNames", "TakesEpoch"),
}
"""Public classes that are no choice of an option."""

_NETWORKS = ("fer_lightning", "torch.nn", "torchmetrics", "torchvision")

FAMILIES = {
    "data": Family("data module", ("fer_lightning.data",), "DataModule"),
    "model.loss": Family("loss", ("fer_lightning.losses", "torch.nn.modules.loss"), homes=_NETWORKS),
    "model.head": Family("head", ("fer_lightning.models.heads",), first=2, homes=_NETWORKS),
    "model.optimizer": Family("optimizer", ("torch.optim",), first=1, homes=("fer_lightning", "torch.optim")),
    "model.lr_scheduler": Family(
        "schedule",
        ("fer_lightning.optim", "torch.optim.lr_scheduler"),
        first=1,
        homes=("fer_lightning", "torch.optim", "lightning.pytorch"),
    ),
    "trainer.callbacks": Family(
        "callback",
        ("fer_lightning.callbacks", "lightning.pytorch.callbacks"),
        homes=("fer_lightning", "lightning.pytorch"),
    ),
    "trainer.logger": Family(
        "logger", ("lightning.pytorch.loggers",), "Logger", homes=("fer_lightning", "lightning.pytorch")
    ),
}
"""Options whose value is a class."""


@functools.cache
def plain_options() -> dict[str, Types]:
    """Return what each option of ``fer fit`` accepts, and ``--set``; not those of data modules and other classes."""
    found = dict(ARGUMENTS)
    for section, path in SECTIONS.items():
        signature = class_signature(path) or Signature()
        found[section] = Types(frozenset([str]), open=True)
        given = {name: types for name, types in signature.arguments.items() if section != "model" or name not in LINKED}
        found |= {f"{section}.{name}": types for name, types in given.items()}
    return {**found, "data": Types(open=True)}


def data_modules() -> list[str]:
    """Return the names of the data modules that ``fer_lightning.data`` exports."""
    return sorted(FAMILIES["data"].classes)


@functools.cache
def options_of_data() -> dict[str, Types]:
    """Return the arguments of all our data modules, and what any of them accepts."""
    found: dict[str, Types] = {}
    for place in FAMILIES["data"].classes.values():
        signature = class_signature(place)
        for name, types in signature.arguments.items() if signature else ():
            found[name] = found.get(name, Types()) | types
    return found


@functools.cache
def plugins() -> tuple[importlib.metadata.EntryPoint, ...]:
    """Return what installed packages register to bring classes of their own; all that is installed is searched once."""
    return tuple(importlib.metadata.entry_points(group=PLUGIN_GROUP))


def local_modules(folder: Path) -> list[str]:
    """Return the modules and packages in the working directory that an import finds.

    The folder is put behind all others that are searched: a file here never hides an installed package.
    """
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    local = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    return [name for name in sorted(local) if name.isidentifier() and _comes_from(name, folder)]


def _comes_from(name: str, folder: Path) -> bool:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return found is not None and found.origin is not None and Path(found.origin).is_relative_to(folder)


def importable(folder: Path) -> Iterator[str]:
    """Yield what a configuration may import from; ``folder`` is the working directory."""
    yield from ALLOWED_IMPORTS
    for plugin in plugins():
        yield plugin.value.partition(":")[0].partition(".")[0]
    yield from local_modules(folder)
