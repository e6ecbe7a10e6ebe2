"""Measure what a second process costs: ``python -m tests.measure_scaling [--network fer_b] [--batch 64] [--steps 30]``.

One process with one thread against two with one thread each, on this machine's CPU, over gloo and loopback; each works
on batches of the same size. Printed for each: median and smallest wall time of a step, CPU time of a step in a process
(which other work on the machine disturbs less), and the time of exchanging gradients alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fer_lightning.models.backbones import create_backbone
from fer_lightning.models.classifier import build_classifier
from fer_lightning.models.heads import LinearHead
from tests.helpers.processes import free_port


def timed(action: Callable[[], object], steps: int) -> tuple[float, float, float]:
    """Return median and smallest wall time and mean CPU time of an action, in seconds."""
    for _ in range(3):
        action()
    walls, cpu = [], time.process_time()
    for _ in range(steps):
        began = time.perf_counter()
        action()
        walls.append(time.perf_counter() - began)
    return statistics.median(walls), min(walls), (time.process_time() - cpu) / steps


def work(rank: int, world: int, port: int, network: str, size: int, batch: int, steps: int) -> None:
    """Time training steps, and the exchange alone, in one of ``world`` processes."""
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world, timeout=timedelta(minutes=10))
    torch.manual_seed(0)
    channels = 1 if network.startswith("fer_") else 3
    backbone = create_backbone(network, channels)
    module: nn.Module = build_classifier(backbone, LinearHead, 7, channels, size)
    module = module.to(memory_format=torch.channels_last)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    trained = DistributedDataParallel(module) if world > 1 else module
    optimizer = torch.optim.AdamW(trained.parameters(), 1e-4)
    images = torch.randn(batch, channels, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 7
    gradients = torch.zeros(parameters)

    def step() -> None:
        loss = nn.functional.cross_entropy(trained(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships no type for it
        optimizer.step()

    median, least, cpu = timed(step, steps)
    exchange = timed(lambda: dist.all_reduce(gradients), steps) if world > 1 else (0.0, 0.0, 0.0)
    if rank == 0:
        print(
            f"{network:16} {parameters:>11,} parameters, {world} x batch {batch} at {size}: step {median * 1e3:.1f} ms "
            f"(least {least * 1e3:.1f}, CPU {cpu * 1e3:.1f}); exchange alone {exchange[0] * 1e3:.1f} ms "
            f"(least {exchange[1] * 1e3:.1f}, CPU {exchange[2] * 1e3:.1f})",
            flush=True,
        )
    dist.destroy_process_group()


def main() -> None:
    """Measure one and two processes, turn by turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="fer_b")
    parser.add_argument("--size", type=int, default=48, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=64, help="of each process")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    for _ in range(given.rounds):
        for world in (1, 2):
            arguments = (world, free_port(), given.network, given.size, given.batch, given.steps)
            mp.spawn(work, arguments, nprocs=world)  # type: ignore[attr-defined,no-untyped-call]  # as above


if __name__ == "__main__":
    main()
