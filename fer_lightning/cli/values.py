"""Which values an option takes: those of its type, of a closed set of words, or of a range; nothing heavy is imported.

Lightning and torch say the same of many of these, but late and in their own words.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fer_lightning.cli.lightning_parts import PROFILERS
from fer_lightning.cli.signatures import Types
from fer_lightning.errors import ConfigError
from fer_lightning.text import did_you_mean, nearest

__all__ = ["LIMITS", "Numbers", "Words", "check_limit", "check_type", "typed"]

_KINDS: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}
_TRUTH = ("true", "false", "yes", "no", "on", "off")
_NOTHING = ("", "null", "none", "~")


@dataclass(frozen=True)
class Words:
    """A closed set of words.

    Attributes:
        known: the words.
        means: what other programs call one of them.
        others: words that are right, too, but not listed in a message.
    """

    known: tuple[str, ...]
    means: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Numbers:
    """A range of numbers, with its ends.

    Attributes:
        low: the smallest.
        high: the largest.
        above: ``low`` itself is too small.
        share: a number with a dot is a share in 0..1, and ``high`` holds for it alone; others are counts.
        then: the end of a message, such as what a special number stands for.
    """

    low: float = 0
    high: float = math.inf
    above: bool = False
    share: bool = False
    then: str = ""

    def holds(self, text: str) -> bool | None:
        """Tell whether a number lies in the range, ``None`` if the text is no number."""
        try:
            number = float(text)
        except ValueError:
            return None
        high = math.inf if self.share and re.fullmatch(r"[-+\d_]+", text) else self.high
        return self.low <= number <= high and not (self.above and number == self.low)

    def described(self) -> str:
        """Return what a number must be."""
        if self.share:
            return f"a share {'above 0 and at most 1' if self.above else 'in 0..1'}, or a whole number of batches"
        if self.high < math.inf:
            return (
                f"above {self.low:g} and at most {self.high:g}" if self.above else f"in {self.low:g}..{self.high:.0f}"
            )
        return f"above {self.low:g}" if self.above else f"at least {self.low:g}"

    def nearest(self, text: str) -> str:
        """Return the nearest right value, empty if there is no nearest."""
        number = float(text)
        if math.isnan(number):
            return ""
        if self.share:
            return f"{number:.0f}" if number > 1 and number.is_integer() else "1.0" if number > 1 or self.above else "0"
        if number < 0 == self.low and self.holds(text[1:]) and "." in text:
            return text[1:]  # without its sign
        end = self.high if number > self.low else self.low
        return "" if (self.above and end == self.low) or math.isinf(end) else f"{end:.0f}"


_MODES = Words(
    ("min", "max"),
    {
        **dict.fromkeys(("up", "higher", "increase", "maximize", "maximum"), "max"),
        **dict.fromkeys(("down", "lower", "decrease", "minimize", "minimum"), "min"),
    },
)
_PRECISION = Words(
    ("32-true", "bf16-mixed", "16-mixed"),
    {
        **dict.fromkeys(("fp16", "float16", "half", "amp", "mixed", "mixed_float16", "16-true"), "16-mixed"),
        **dict.fromkeys(("bfloat16", "bf16-true"), "bf16-mixed"),
        **dict.fromkeys(("fp32", "float32", "float", "full", "64", "64-true", "float64", "tf32"), "32-true"),
    },
    ("32", "16", "bf16"),
)
_SPAWNED = ("spawn", "fork", "notebook")  # refused later, with the reason
_STRATEGIES = Words(
    ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false", "fsdp", "deepspeed"),
    {"dp": "ddp", "distributed": "ddp", "horovod": "ddp", "none": "auto", "single": "auto"},
    (
        *("fsdp_cpu_offload", "single_device", "single_tpu", "single_xla", "xla", "xla_debug", "deepspeed_stage_1"),
        *("deepspeed_stage_2", "deepspeed_stage_2_offload", "deepspeed_stage_3", "deepspeed_stage_3_offload"),
        "deepspeed_stage_3_offload_nvme",
        *(f"ddp_{how}" for how in _SPAWNED),
        *(f"ddp_{how}_find_unused_parameters_{word}" for how in _SPAWNED for word in ("true", "false")),
    ),
)
_DEVICES = Words(("cpu", "cuda"), {"gpu": "cuda"}, ("mps",))
_SHARES = Numbers(0, 1, share=True)

LIMITS: dict[str, Words | Numbers] = {
    "CrossEntropyLoss.label_smoothing": Numbers(0, 1),
    "CrossEntropyLoss.reduction": Words(("mean", "sum"), {"avg": "mean", "average": "mean", "none": "mean"}),
    "EMAWeightAveraging.decay": Numbers(0, 1),
    "EMAWeightAveraging.device": _DEVICES,
    "EarlyStopping.mode": _MODES,
    "EarlyStopping.patience": Numbers(0),
    "ModelSummary.max_depth": Numbers(-1, then=" (-1 for all layers)"),
    "OnExceptionCheckpoint.mode": _MODES,
    "RichModelSummary.max_depth": Numbers(-1, then=" (-1 for all layers)"),
    "RichProgressBar.refresh_rate": Numbers(0),
    "StepLR.step_size": Numbers(1),
    "TQDMProgressBar.refresh_rate": Numbers(0),
    "WeightAveraging.device": _DEVICES,
    "checkpoint.mode": _MODES,
    "checkpoint.save_top_k": Numbers(-1, then=" (-1 for all)"),
    "model.optimizer.lr": Numbers(0),
    "model.optimizer.momentum": Numbers(0),
    "model.optimizer.weight_decay": Numbers(0),
    "model.teacher_weight": Numbers(0, 1),
    "model.temperature": Numbers(0, above=True),
    "model.tau": Numbers(-5, 5, then=" (-1 decides for classes equally frequent, 0 as trained)"),
    "seed_everything": Numbers(0, 2**32 - 1),
    "trainer.accumulate_grad_batches": Numbers(1),
    "trainer.check_val_every_n_epoch": Numbers(1),
    "trainer.fast_dev_run": Numbers(0),
    "trainer.gradient_clip_algorithm": Words(("norm", "value"), {"l2": "norm", "agc": "norm", "clip": "value"}),
    "trainer.gradient_clip_val": Numbers(0),
    "trainer.limit_predict_batches": _SHARES,
    "trainer.limit_test_batches": _SHARES,
    "trainer.limit_train_batches": Numbers(0, 1, above=True, share=True),
    "trainer.limit_val_batches": _SHARES,
    "trainer.log_every_n_steps": Numbers(0),
    "trainer.max_epochs": Numbers(-1, then=" (-1 for no limit)"),
    "trainer.max_steps": Numbers(-1, then=" (-1 for no limit)"),
    "trainer.min_epochs": Numbers(0),
    "trainer.min_steps": Numbers(0),
    "trainer.num_nodes": Numbers(1),
    "trainer.num_sanity_val_steps": Numbers(-1, then=" (-1 for all)"),
    "trainer.precision": _PRECISION,
    "trainer.profiler": Words(
        ("simple", "advanced", "pytorch"), {"torch": "pytorch", "true": "simple"}, tuple(PROFILERS)
    ),
    "trainer.reload_dataloaders_every_n_epochs": Numbers(0),
    "trainer.strategy": _STRATEGIES,
    "trainer.val_check_interval": Numbers(0, 1, above=True, share=True),
}
"""What an option takes, or an argument of a class by its name, where their types do not say it."""


def typed(where: str, value: str) -> str:
    """Return a value as it is typed: with its option, if a message begins with one, else in quotes."""
    return f"{where} {shlex.quote(value)}" if where.startswith("--") else f"'{value}'"


def check_limit(key: str, value: Any, where: str) -> None:
    """Refuse a value that is certainly outside of what an option takes although it may have the right type.

    Args:
        key: an option, such as ``trainer.strategy``, or the name of a class and its argument.
        value: what was given, as text or as YAML has read it.
        where: the beginning of a message.

    Raises:
        ConfigError: with what to type instead.
    """
    text = str(value).strip()
    limit = LIMITS.get(key)
    if isinstance(value, dict | list | bool | None) or text.lower() in _NOTHING or text[0] in "{['\"":
        return
    if key in ("trainer.max_time", "trainer.val_check_interval") and re.search("[a-z:]", text, re.IGNORECASE):
        if isinstance(value, str) and not re.fullmatch(r"\d+(:\d\d){3}", text):
            raise ConfigError(f"{where} must be DD:HH:MM:SS, not '{text}'; an hour is {typed(where, '00:01:00:00')}")
    elif key == "trainer.devices":
        if re.fullmatch(r"0|-[02-9]\d*|-1\d+|[A-Za-z]+|\d*\.\d+", text) and text != "auto":
            raise ConfigError(f"{where} must be their number, a list as [0,1], or auto, not '{text}'")
    elif isinstance(limit, Numbers) and limit.holds(text) is False:
        number = limit.nearest(text)
        hint = f"; did you mean {typed(where, number)}?" if number else ""
        raise ConfigError(f"{where} must be {limit.described()}{limit.then}, not {text}{hint}")
    elif isinstance(limit, Words) and text not in (*limit.known, *limit.others) and not {".", ":"} & set(text):
        word = limit.means.get(text.lower()) or nearest(text, limit.known)
        hint = f"; did you mean {typed(where, word)}?" if word else ""
        raise ConfigError(f"{where} must be {' or '.join(limit.known)}, not '{text}'{hint}")


def check_type(types: Types, value: Any, where: str) -> None:
    """Refuse a value that is certainly not of a type: a word for a number, or one that is not among the known words.

    Raises:
        ConfigError: with what is expected.
    """
    if types.open or types.classes or str in types.scalars or isinstance(value, bool | list | dict | None):
        return
    text = str(value).strip()
    if text in types.words or any(_fits(kind, text) for kind in types.scalars):
        return
    if types.lists and (not text or text[0] in "[{("):
        return
    if isinstance(value, float) and value.is_integer():
        return
    kinds = [each for each in _KINDS if each in types.scalars and not (each is int and float in types.scalars)]
    names = [_KINDS[each] for each in kinds if each is not type(None)]
    expected = " or ".join([*names, *(["a list"] if types.lists else []), *dict.fromkeys(types.words)])
    if not expected:
        raise ConfigError(f"{where} cannot be set by a configuration; leave it out")
    hint = did_you_mean(text, types.words)
    if not hint and int in types.scalars and _fits(float, text) and float(text).is_integer():
        hint = f"; did you mean {typed(where, str(int(float(text))))}?"
    if not hint and types.lists and text:
        hint = f"; did you mean {typed(where, f'[{text}]')}?"
    raise ConfigError(f"{where} must be {expected}, not '{text}'{hint}")


def _fits(kind: type, text: str) -> bool:
    try:
        if kind is int:
            int(text, 0)
        elif kind is float:
            float(text)
        else:
            return text.lower() in (_TRUTH if kind is bool else ("null", "none", "~"))
    except ValueError:
        return False
    return True
