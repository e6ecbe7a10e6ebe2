"""Chooses float32 or bfloat16 for a network on the hardware at hand, by timing both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fer_lightning.errors import ConfigError

__all__ = ["PrecisionChoice", "check_precision", "measure_precision", "wait_for"]

GAIN = 1.1
"""How many times as fast half precision must be to be chosen in spite of its rounding."""


@dataclass(frozen=True)
class PrecisionChoice:
    """What was measured and what follows from it.

    Attributes:
        precision: a value for the Trainer's ``precision``.
        reason: one line for the user.
        ratio: time of a step in float32 over its time in bfloat16, ``None`` if there was nothing to measure.
    """

    precision: str
    reason: str
    ratio: float | None = None


def check_precision(precision: object) -> None:
    """Raise ``ConfigError`` for weights other than float32, which images are, and logits where scores are made."""
    if precision is not None and str(precision) not in ("32", "32-true", "16", "16-mixed", "bf16", "bf16-mixed"):
        raise ConfigError(f"trainer.precision {precision} is not supported: choose 32-true, bf16-mixed or 16-mixed")


def decide(full: float, half: float) -> PrecisionChoice:
    """Choose from the time of a step in float32 and in bfloat16 autocast, both in seconds."""
    ratio = full / half
    if ratio >= GAIN:
        return PrecisionChoice("bf16-mixed", f"a bf16 step is {ratio:.2f} times as fast as a float32 one", ratio)
    return PrecisionChoice("32-true", f"bf16 gains too little ({ratio:.2f} times)", ratio)


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether a device computes in bfloat16 rather than emulating it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def measure_precision(
    module: nn.Module, images: Tensor, criterion: Callable[[Tensor, Tensor], Tensor], seconds: float = 2.0
) -> PrecisionChoice:
    """Time forward and backward passes in float32 and in bfloat16 autocast, in turn.

    Afterwards the module's weights and buffers and torch's random state are as before, and it has no gradients.

    Args:
        module: the network, on the device it will train on; gives logits ``(N, K)``.
        images: float32 ``(N, C, H, W)`` on that device.
        criterion: called with logits and labels.
        seconds: about how long to measure.
    """
    device = images.device
    if not has_bfloat16(device):
        return PrecisionChoice("32-true", f"this {device.type.upper()} has no bfloat16 arithmetic")
    labels = torch.zeros(len(images), dtype=torch.int64, device=device)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    training, devices = module.training, [device] if device.type == "cuda" else []
    module.train()

    def step(half: bool) -> float:
        wait_for(device)
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = criterion(module(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships no type for it
        wait_for(device)
        return time.perf_counter() - start

    times: dict[bool, list[float]] = {False: [], True: []}
    with torch.random.fork_rng(devices):
        step(False), step(True)  # not timed: the first steps choose kernels and allocate memory
        began = time.perf_counter()
        while not times[True] or (time.perf_counter() - began < seconds and len(times[True]) < 10):
            for half in (False, True):
                times[half].append(step(half))
    module.zero_grad(set_to_none=True)
    module.load_state_dict(state)
    module.train(training)
    return decide(statistics.median(times[False]), statistics.median(times[True]))


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
