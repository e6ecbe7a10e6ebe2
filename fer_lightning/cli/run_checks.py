"""What can be known of a run before its data are read: whether the devices are there and what is watched is logged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.accelerators import AcceleratorRegistry, CUDAAccelerator, MPSAccelerator

from fer_lightning.cli.quick_checks import no_device
from fer_lightning.errors import ConfigError
from fer_lightning.models.epoch_scores import score_names
from fer_lightning.text import did_you_mean

__all__ = ["check_accelerator", "check_monitors"]

_OURS = ("fer_lightning.", "lightning.")


def check_accelerator(accelerator: object) -> None:
    """Raise ``ConfigError`` if there is no such accelerator, or none of it that torch can use."""
    if not isinstance(accelerator, str) or accelerator == "auto":
        return
    known = ["auto", "gpu", *AcceleratorRegistry.available_accelerators()]
    if accelerator not in known:
        hint = did_you_mean(accelerator, known)
        names = ", ".join(sorted(known))
        raise ConfigError(f"trainer.accelerator: there is no '{accelerator}'{hint} (there are {names})")
    kinds = [CUDAAccelerator, MPSAccelerator] if accelerator == "gpu" else [AcceleratorRegistry.get(accelerator)]
    if not any(kind.is_available() for kind in kinds):
        raise ConfigError(no_device(accelerator))


def check_monitors(watched: Mapping[str, str], callbacks: Sequence[Callback], class_names: Sequence[str]) -> None:
    """Raise ``ConfigError`` for a metric that a callback watches and nothing logs.

    Args:
        watched: the metrics by the option that names them, such as ``checkpoint.monitor``.
        callbacks: those of the command line; one that is neither ours nor Lightning's may log metrics of its own.
        class_names: names of the classes.
    """
    if not all(type(callback).__module__.startswith(_OURS) for callback in callbacks):
        return
    watched = {**watched, **{f"{type(each).__name__}.monitor": monitor for each in callbacks if (monitor := _of(each))}}
    scores = ("loss", *score_names(class_names))
    known = {f"{split}_{name}" for split in ("train", "val", "focus") for name in scores}
    known |= {"train_loss_step", "train_loss_epoch"}
    for option, metric in watched.items():
        if metric not in known:
            hint = did_you_mean(metric, known) or "; there are val_loss, val_acc, val_f1_macro and more"
            raise ConfigError(f"{option}: no metric is called '{metric}'{hint}")


def _of(callback: Callback) -> Any:
    monitor = getattr(callback, "monitor", None)
    return monitor if isinstance(monitor, str) else None
