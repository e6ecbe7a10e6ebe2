"""Asking SLURM to start this job again."""

from __future__ import annotations

import os
import subprocess
import sys

from fer_lightning.text import first_line

__all__ = ["requeue_job"]


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
        line = f"SLURM requeues job {job}: its next start goes on from the checkpoint"
    print(f"fer: {line}", file=sys.stderr)
