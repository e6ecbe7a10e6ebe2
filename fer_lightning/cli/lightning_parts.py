"""Lightning's own callbacks, profilers and trainer options: which go with a run, and what replaces the others.

A run goes on from a checkpoint exactly, reports its best validation and reweights its classes. A part of Lightning that
breaks one of these is refused before anything is written, with the reason and what to type instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fer_lightning.errors import ConfigError

__all__ = ["CALLBACKS", "OPTIONS", "PROFILERS", "Part", "check_part", "check_parts"]


@dataclass(frozen=True)
class Part:
    """A part of Lightning.

    Attributes:
        does: what it does in a run, or why it is refused; plain Markdown, one sentence.
        instead: what to type instead, options first and an explanation in brackets; ``None`` for a part that works.
    """

    does: str
    instead: str | None = None


_ABSTRACT = "a class of your own that is derived from it: --trainer.callbacks+=my_parts.MyCallback"

CALLBACKS: dict[str, Part] = {
    "BackboneFinetuning": Part(
        "it looks for a backbone in another place, and puts layers into the optimizer on the way",
        "--trainer.callbacks+=GradualUnfreezing --trainer.callbacks.every 2",
    ),
    "BaseFinetuning": Part("it is only a base class", _ABSTRACT),
    "BasePredictionWriter": Part("it is only a base class", _ABSTRACT),
    "BatchSizeFinder": Part(
        "it changes the batch size when the learning rate and the place in the epoch are chosen already",
        "--data.batch_size 64 (`fer bench train` with the same options tries a size)",
    ),
    "Callback": Part("does nothing by itself; the base class of yours"),
    "Checkpoint": Part("does nothing by itself; the base class of what writes checkpoints"),
    "DeviceStatsMonitor": Part(
        "logs memory and load of the device to the loggers; on a CPU it needs `pip install psutil`"
    ),
    "EMAWeightAveraging": Part("averages the weights; `EMA` does the same faster"),
    "EarlyStopping": Part("stops when a metric does not get better; on resume it goes on counting"),
    "GradientAccumulationScheduler": Part(
        "a run that goes on inside an epoch would begin with another accumulation",
        "--trainer.accumulate_grad_batches 2",
    ),
    "LambdaCallback": Part("calls functions: `--trainer.callbacks.on_train_epoch_end my_parts.my_function`"),
    "LearningRateFinder": Part(
        "it trains for 100 steps and sets an attribute that the optimizer does not read",
        "--model.optimizer AdamW --model.optimizer.lr 0.001 (`fer tune --space tune/optimizer` seeks it)",
    ),
    "LearningRateMonitor": Part("logs the rate of each layer group; that of the first one is logged as `lr` anyway"),
    "ModelCheckpoint": Part(
        "its files are not exact inside of an epoch",
        "--checkpoint.monitor val_f1_macro --checkpoint.save_top_k 3 --resume_checkpoint.keep_every_n_epochs 1 "
        "(the best three, and each epoch)",
    ),
    "ModelPruning": Part(
        "its masks rename the weights, which no checkpoint of the plain network fits",
        "prune the trained model in Python, by torch.nn.utils.prune",
    ),
    "ModelSummary": Part("prints the layers, besides our line on the network"),
    "OnExceptionCheckpoint": Part(
        "a signal leaves an exact checkpoints/resume.ckpt and an error a checkpoints/dump.ckpt without it",
        "leave it out",
    ),
    "ProgressBar": Part("draws nothing; the base class of progress bars"),
    "RichModelSummary": Part("prints the layers as a table; needs `pip install rich`"),
    "RichProgressBar": Part("replaces our bar; needs `pip install rich`"),
    "SpikeDetection": Part(
        "what it keeps cannot be read back from a checkpoint (Lightning 2.6)",
        "--trainer.gradient_clip_val 1 (a loss that is NaN or infinite ends a run anyway)",
    ),
    "StochasticWeightAveraging": Part(
        "it replaces the schedule of the learning rate and adds an epoch",
        "--trainer.callbacks+=EMA",
    ),
    "TQDMProgressBar": Part("replaces our bar"),
    "ThroughputMonitor": Part("logs samples a second; `batch_size_fn` is the path of a function of yours"),
    "Timer": Part("the epoch that it cuts off would count as a whole one", "--trainer.max_time 00:08:00:00"),
    "WeightAveraging": Part("averages the weights of all steps alike"),
}
"""Lightning's public callbacks by name."""

PROFILERS: dict[str, Part] = {
    "AdvancedProfiler": Part("`--trainer.profiler advanced`: each function (cProfile)"),
    "PassThroughProfiler": Part("measures nothing; the default"),
    "Profiler": Part("it is only a base class", "--trainer.profiler simple"),
    "PyTorchProfiler": Part("`--trainer.profiler pytorch`: each operator, and a trace for TensorBoard or Perfetto"),
    "SimpleProfiler": Part("`--trainer.profiler simple`: each hook"),
    "XLAProfiler": Part("it needs a TPU", "--trainer.profiler pytorch"),
}
"""Lightning's public profilers by name."""

OPTIONS: dict[str, Part] = {
    "barebones true": Part(
        "it leaves out the checkpoints", "--trainer.logger false (`fer bench train` measures what each part costs)"
    ),
    "enable_checkpointing false": Part(
        "it is tested and goes on from its checkpoints",
        "--resume_checkpoint.every_n_steps 0 (writes fewer; --trainer.fast_dev_run true writes nothing)",
    ),
    "fast_dev_run true": Part("trains and validates one batch and writes nothing"),
    "logger false": Part("writes no TensorBoard files; `metrics.csv` and the reports stay"),
    "overfit_batches N": Part(
        "it replaces the order of images from which a run goes on", "--data.per_class 8 (so many images of each class)"
    ),
}
"""Options of the trainer that switch something off, with their value; N is any number above 0."""

_NEED_LOGGER = {"DeviceStatsMonitor", "LearningRateMonitor"}
_OF_LIGHTNING = re.compile(r"(?:lightning\.pytorch\.(?:callbacks|profilers)\.(?:\w+\.)*)?(\w+)")


def check_part(key: str, value: Any) -> None:
    """Refuse a part of Lightning that a command line or config file names; nothing heavy is imported.

    Args:
        key: an option, such as ``trainer.callbacks`` or ``trainer.barebones``.
        value: its value; of callbacks and profilers the name of a class.

    Raises:
        ConfigError: if the part does not go with a run.
    """
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if key in ("trainer.callbacks", "trainer.profiler"):
        match = _OF_LIGHTNING.fullmatch(text)
        parts = CALLBACKS if key == "trainer.callbacks" else PROFILERS
        name = "XLAProfiler" if text == "xla" else match[1] if match else ""
        _refuse(name, parts.get(name))
    elif key == "trainer.overfit_batches":
        _refuse(f"--{key} {text}", OPTIONS["overfit_batches N"] if re.search("[1-9]", text) else None)
    else:
        _refuse(f"--{key} {text}", OPTIONS.get(f"{key.removeprefix('trainer.')} {text}"))


def check_parts(trainer: Mapping[str, Any], callbacks: Sequence[object]) -> None:
    """Refuse what does not go with a run, or with each other; classes that are derived from such ones, too.

    Args:
        trainer: arguments of the trainer by name.
        callbacks: those that the user has added.

    Raises:
        ConfigError: if one is refused.
    """
    for option in {option.split()[0] for option in OPTIONS}:
        check_part(f"trainer.{option}", trainer[option])
    for callback in callbacks:
        name = type(callback).__name__
        kinds = [kind.__name__ for kind in type(callback).__mro__ if kind.__module__.startswith("lightning.")]
        for kind in kinds:
            part = CALLBACKS.get(kind)
            _refuse(name, None if part is None or (part.instead == _ABSTRACT and kind != name) else part)
        if trainer["logger"] is False and _NEED_LOGGER & set(kinds):
            raise ConfigError(f"{name} needs a logger: leave out --trainer.logger false")
        if trainer["enable_progress_bar"] is False and "ProgressBar" in kinds:
            raise ConfigError(f"{name} is a progress bar: leave out --trainer.enable_progress_bar false")


def _refuse(name: str, part: Part | None) -> None:
    if part is not None and part.instead is not None:
        raise ConfigError(f"{name} does not go with a run: {part.does}; instead: {part.instead}")
