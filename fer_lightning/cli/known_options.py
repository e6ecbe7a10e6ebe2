"""What ``fer fit`` can be told, as tables and from source files: nothing heavy is imported.

The parser of :mod:`fer_lightning.cli.trainer_cli` is made of the same tables.
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
    "FAMILIES",
    "LINKED",
    "NEEDS_CHECKPOINT",
    "PLUGIN_GROUP",
    "SECTIONS",
    "SHORT",
    "Family",
    "data_modules",
    "importable",
    "local_modules",
    "options_of_data",
    "plain_options",
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
}
"""Groups of options, and the class whose arguments they are."""

AUTO = "auto"
"""The value of ``--ckpt_path`` with which ``fer fit`` starts a run or goes on with it."""

NEEDS_CHECKPOINT = (
    "fer {verb} needs --ckpt_path: a file, a run folder, or 'best' or 'last' of a --name ('auto' is for fit)"
)

DEFAULT_ROOT = "runs"
"""The folder of all runs."""

LINKED = ("class_names", "num_classes", "preprocessing")
"""Arguments of the model that come from the data module."""

ARGUMENTS = {
    "seed_everything": Types(frozenset([bool, int])),
    "name": Types(frozenset([str])),
    "ckpt_path": Types(frozenset([str])),
    "allow_changed_data": Types(frozenset([bool])),
    "mlflow": Types(frozenset([bool, str, type(None)])),
    "mlflow_checkpoints": Types(frozenset([bool])),
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

_NETWORKS = ("fer_lightning", "torch.nn", "timm", "torchmetrics", "torchvision")

FAMILIES = {
    "data": Family("data module", ("fer_lightning.data",), "DataModule"),
    "model.loss": Family("loss", ("fer_lightning.losses", "torch.nn.modules.loss"), homes=_NETWORKS),
    "model.head": Family("head", ("fer_lightning.models.heads",), first=2, homes=_NETWORKS),
    "model.optimizer": Family("optimizer", ("torch.optim",), first=1, homes=("fer_lightning", "torch.optim", "timm")),
    "model.lr_scheduler": Family(
        "schedule",
        ("fer_lightning.optim", "torch.optim.lr_scheduler"),
        first=1,
        homes=("fer_lightning", "torch.optim", "lightning.pytorch", "timm"),
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

SHORT = {
    "accumulate": "trainer.accumulate_grad_batches",
    "amp": "trainer.precision 16-mixed",
    "arch": "model.backbone",
    "b": "data.batch_size",
    "batch": "data.batch_size",
    "bf16": "trainer.precision bf16-mixed",
    "bs": "data.batch_size",
    "cfg": "config",
    "ckpt": "ckpt_path",
    "classes": "data.class_names",
    "clip": "trainer.gradient_clip_val",
    "clip_grad": "trainer.gradient_clip_val",
    "cos_lr": "model.lr_scheduler WarmupCosine",
    "criterion": "model.loss",
    "cutmix": "data.mix BatchMix --data.mix.cutmix",
    "data_dir": "data.root",
    "data_path": "data.root",
    "data_root": "data.root",
    "dataset": "data",
    "device": "trainer.accelerator",
    "dropout": "model.head MLPHead --model.head.dropout",
    "early_stopping": "trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val_loss",
    "ema": "trainer.callbacks+=EMA",
    "ema_decay": "trainer.callbacks+=EMA --trainer.callbacks.decay",
    "epoch": "trainer.max_epochs",
    "epochs": "trainer.max_epochs",
    "erasing": "data.augment BatchAugment --data.augment.erasing",
    "exp": "name",
    "experiment": "name",
    "fliplr": "data.augment BatchAugment --data.augment.flip",
    "fp16": "trainer.precision 16-mixed",
    "gpu": "trainer.accelerator gpu --trainer.devices",
    "gpus": "trainer.accelerator gpu --trainer.devices",
    "grad_accum_steps": "trainer.accumulate_grad_batches",
    "grad_clip": "trainer.gradient_clip_val",
    "gradient_accumulation_steps": "trainer.accumulate_grad_batches",
    "half": "trainer.precision 16-mixed",
    "hflip": "data.augment BatchAugment --data.augment.flip",
    "img_size": "data.image_size",
    "imgsz": "data.image_size",
    "init_lr": "model.optimizer.lr",
    "initial_checkpoint": "model.weights",
    "input_size": "data.image_size",
    "j": "data.num_workers",
    "label_smoothing": "model.loss.label_smoothing",
    "learning_rate": "model.optimizer.lr",
    "log_dir": "trainer.default_root_dir",
    "log_interval": "trainer.log_every_n_steps",
    "logdir": "trainer.default_root_dir",
    "logging_steps": "trainer.log_every_n_steps",
    "lr": "model.optimizer.lr",
    "max_grad_norm": "trainer.gradient_clip_val",
    "mixup": "data.mix BatchMix --data.mix.mixup",
    "model_ema": "trainer.callbacks+=EMA",
    "model_ema_decay": "trainer.callbacks+=EMA --trainer.callbacks.decay",
    "momentum": "model.optimizer.momentum",
    "n_epochs": "trainer.max_epochs",
    "network": "model.backbone",
    "num_epochs": "trainer.max_epochs",
    "num_gpus": "trainer.accelerator gpu --trainer.devices",
    "num_train_epochs": "trainer.max_epochs",
    "opt": "model.optimizer",
    "optim": "model.optimizer",
    "out": "trainer.default_root_dir",
    "out_dir": "trainer.default_root_dir",
    "output": "trainer.default_root_dir",
    "output_dir": "trainer.default_root_dir",
    "patience": "trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val_loss --trainer.callbacks.patience",
    "per_device_eval_batch_size": "data.eval_batch_size",
    "per_device_train_batch_size": "data.batch_size",
    "project": "trainer.default_root_dir",
    "reprob": "data.augment BatchAugment --data.augment.erasing",
    "resume": "ckpt_path",
    "save_dir": "trainer.default_root_dir",
    "save_period": "resume_checkpoint.keep_every_n_epochs",
    "sched": "model.lr_scheduler",
    "scheduler": "model.lr_scheduler",
    "seed": "seed_everything",
    "size": "data.image_size",
    "smoothing": "model.loss.label_smoothing",
    "test_split": "data.test_fraction",
    "train_batch_size": "data.batch_size",
    "val_split": "data.val_fraction",
    "warmup_ratio": "model.lr_scheduler WarmupCosine --model.lr_scheduler.warmup",
    "wd": "model.optimizer.weight_decay",
    "weight_decay": "model.optimizer.weight_decay",
    "workers": "data.num_workers",
}
"""What other programs call an option of ours, where the last part of our name does not tell."""


@functools.cache
def plain_options() -> dict[str, Types]:
    """Return what each option of ``fer fit`` accepts, without those of data modules and of other classes."""
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
    for plugin in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        yield plugin.value.partition(":")[0].partition(".")[0]
    yield from local_modules(folder)
