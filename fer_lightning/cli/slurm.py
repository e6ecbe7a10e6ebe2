"""Asking SLURM to start this job again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer

from fer_lightning.callbacks.graceful_stop import requeue_signal_of
from fer_lightning.text import first_line

__all__ = ["requeue_job", "requeue_signal"]


def requeue_signal(trainer: Trainer | None, plugins: Iterable[Any]) -> int | None:
    """Return the signal at which SLURM is to start this job again, ``None`` for none.

    Args:
        trainer: of the run, ``None`` before it is made; its cluster environment is foreseen then.
        plugins: that the trainer is made with.
    """
    if trainer is not None:
        return requeue_signal_of(trainer._accelerator_connector.cluster_environment)
    for plugin in plugins:
        if isinstance(plugin, ClusterEnvironment):
            return requeue_signal_of(plugin)
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return None
    return requeue_signal_of(SLURMEnvironment())


def requeue_job() -> None:
    """Let SLURM put this job back into its queue, and say so, or say why it does not."""
    job = os.environ.get("SLURM_JOB_ID", "")
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    problem = ""
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            said = (done.stderr + done.stdout).strip()
            problem = first_line(said) if said else f"scontrol ended with {done.returncode}"
    except (OSError, subprocess.SubprocessError) as error:
        problem = first_line(error)
    if problem:
        line = f"SLURM does not requeue job {job}: {problem}. Submit it again; --ckpt_path auto goes on"
    else:
        line = f"SLURM requeues job {job}: its next start goes on from the newest checkpoint, if there is one"
    print(f"fer: {line}", file=sys.stderr)
