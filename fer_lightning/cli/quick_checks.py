"""What can be known of devices, watched metrics and names without torch: only what is certainly wrong is refused.

``fer_lightning.cli.run_checks`` looks at devices and metrics again when torch and the classes are there.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
from pathlib import Path

from fer_lightning.cli.values import typed
from fer_lightning.emotions import EIGHT
from fer_lightning.errors import ConfigError
from fer_lightning.text import nearest

__all__ = ["SCORES", "check_accelerator_name", "check_monitor_name", "check_run_name", "no_device"]

SCORES = ("loss", "acc", "balanced_acc", "f1_macro", "f1_weighted", "ece")
"""What is logged of each split besides the scores of single classes."""

_SPLITS = ("train", "val", "focus")
_OF_CLASS = ("precision", "recall", "f1")
_ACCELERATORS = {
    **dict.fromkeys(("cuda", "gpu"), "gpu"),
    **{name: name for name in ("auto", "cpu", "mps", "tpu")},
}


def check_accelerator_name(name: str, where: str, own: bool) -> None:
    """Refuse an accelerator that does not exist or that this machine certainly lacks.

    Args:
        name: what was given for ``trainer.accelerator``.
        where: the beginning of a message.
        own: plug-ins may bring accelerators along.

    Raises:
        ConfigError: with what to type instead.
    """
    kind = _ACCELERATORS.get(name)
    if kind is None and not own and "." not in name:
        found = re.match("(cuda|gpu|mps|cpu|tpu)", name)  # cuda:0
        near = found[1] if found else nearest(name, _ACCELERATORS)
        hint = f"; did you mean {typed(where, near)}?" if near else ""
        raise ConfigError(f"{where}: there is no '{name}'{hint} (there are {', '.join(sorted(_ACCELERATORS))})")
    if (kind == "gpu" and not (_has_gpu() or _has_mps())) or (kind == "mps" and not _has_mps()):
        raise ConfigError(no_device(name))
    if kind == "tpu" and importlib.util.find_spec("torch_xla") is None:
        raise ConfigError(no_device(name))


def no_device(accelerator: str) -> str:
    """Return the message for an accelerator of which there is no device."""
    name = "GPU" if accelerator in ("gpu", "cuda") else accelerator.upper()
    return (
        f"trainer.accelerator {accelerator}: there is no {name} that torch can use; leave it out, or pass "
        "--trainer.accelerator cpu (fer doctor looks for the cause)"
    )


def _has_gpu() -> bool:
    """Tell whether there may be a GPU: only without any driver there is certainly none."""
    if sys.platform != "linux" or Path("/dev/kfd").exists():  # AMD's
        return True
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return False
    try:
        ctypes.CDLL("libcuda.so.1")  # without which torch finds none
    except OSError:
        return False
    return True


def _has_mps() -> bool:
    return sys.platform == "darwin"


def check_monitor_name(name: str, where: str) -> None:
    """Refuse a metric that nothing logs, whatever the classes are.

    Args:
        name: the metric.
        where: the beginning of a message.

    Raises:
        ConfigError: with the nearest one.
    """
    known = {f"{split}_{score}" for split in _SPLITS for score in SCORES}
    known |= {f"{split}_{kind}_{each}" for split in _SPLITS for kind in _OF_CLASS for each in EIGHT.class_names}
    known |= {"train_loss_step", "train_loss_epoch"}
    of_class = re.fullmatch(rf"({'|'.join(_SPLITS)})_({'|'.join(_OF_CLASS)})_.+", name)  # classes may have any name
    if name not in known and not of_class:
        words = name.replace("/", "_").replace("accuracy", "acc").replace("valid_", "val_").replace("eval_", "val_")
        words = re.sub("f1$", "f1_macro", words)
        plain = words if words in known else f"val_{words}" if f"val_{words}" in known else ""
        near = plain or nearest(words, known)
        hint = (
            f"; did you mean {typed(where, near)}?" if near else "; there are val_loss, val_acc, val_f1_macro and more"
        )
        raise ConfigError(f"{where}: no metric is called '{name}'{hint}")


def check_run_name(name: str, where: str) -> None:
    """Refuse the name of an experiment that is no folder, or folders in each other, below that of all runs.

    Args:
        name: what was given for ``name``.
        where: the beginning of a message.

    Raises:
        ConfigError: with a name that would do.
    """
    parts = name.split("/")
    wrong = [part for part in parts if part in ("", ".", "..") or re.fullmatch(r"version_\d+", part)]
    if not wrong and name.isprintable() and "\\" not in name:
        return
    kept = [re.sub(r"[^\w.@+=-]+", "_", part) for part in parts if part not in wrong]
    hint = f"; did you mean {typed(where, '/'.join(kept))}?" if kept else ""
    why = f"{wrong[0]} is a folder of one run" if wrong and wrong[0].startswith("version_") else ""
    root = " (another folder for all runs: --trainer.default_root_dir PATH)" if name[:1] in ("/", ".") else ""
    expected = why or "expected a name, or names of folders in each other as a/b"
    raise ConfigError(f"{where}: '{name}' cannot be the name of an experiment: {expected}{hint}{root}")
