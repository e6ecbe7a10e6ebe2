"""Runs of several processes: by Lightning's launcher, by torchrun, or by hand as SLURM would."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.helpers.cli import TINY

REPOSITORY = Path(__file__).parents[2]
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]
FIXED = ["--trainer.max_epochs=1", "--trainer.num_sanity_val_steps=0"]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a process of a run, without what tells a process that it is one of several."""
    told = (
        "RANK",
        "LOCAL_RANK",
        "NODE_RANK",
        "WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "FER_RUN_FOLDER",
        "FER_FIRST_PROCESS",
    )
    kept = {name: value for name, value in os.environ.items() if name not in told}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), **variables}


def command(verb: str, *args: str) -> list[str]:
    """Return the command of a run on the tiny task."""
    tiny = [argument for argument in TINY if verb == "fit" or not argument.startswith(("--data", "--model"))]
    return ["-m", "fer_lightning", verb, *tiny, *args]


def start(line: list[str], log: Path, **variables: str) -> subprocess.Popen[bytes]:
    """Start a Python process whose output goes to a file."""
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, *line],
            env=environment(**variables),
            cwd=REPOSITORY,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def torchrun(*args: str, nodes: int = 1, node: int = 0, port: int = 0) -> list[str]:
    """Return the start of a torchrun command of two processes in all."""
    each = f"--nproc_per_node={2 // nodes}"
    place = [f"--nnodes={nodes}", f"--node_rank={node}", "--master_addr=127.0.0.1", f"--master_port={port}"]
    return ["-m", "torch.distributed.run", each, *place, *args]


def slurm(rank: int, job: int) -> dict[str, str]:
    """Return the variables that srun sets for one of two tasks on one machine."""
    return {
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0",
        "SLURM_JOB_ID": str(job),
        "SLURM_JOB_NAME": "train",
        "SLURM_NODELIST": "127.0.0.1",
    }


def metrics(folder: Path) -> dict[str, float]:
    """Return the last row of a run's ``metrics.csv``."""
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        row = list(csv.DictReader(file))[-1]
    return {name: float(value) for name, value in row.items() if value}


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that still live."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(number) for number in listed.split()]
