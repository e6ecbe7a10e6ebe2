"""A ``fer fit`` without a network: it writes what a run writes, and does what the environment says.

``FAKE_FIT`` is JSON: ``epochs``, ``seconds`` (of an epoch), ``fail`` ({epoch: what to do}, with ``error``, ``crash``,
``config`` or ``kill``), ``only`` (name of the run that fails), ``slow`` (name of the run that takes its seconds; all
do without). The validation metric grows with the epochs and is best for a learning rate of 0.01 and a batch
of 32. A run that is told to stop leaves a checkpoint with the number of its epochs, and goes on from there.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from fer_lightning.runs.folder import claim_run_folder
from fer_lightning.runs.lineage import Node, lineage_text
from fer_lightning.runs.lock import LOCK, lock_run_folder

LR = "model.optimizer.init_args.lr"


def flags(arguments: list[str]) -> dict[str, str]:
    """Return the flags of a command line whose flags are all of the form ``--key=value``."""
    return dict(argument.removeprefix("--").split("=", 1) for argument in arguments)


def score(given: dict[str, str], epoch: int) -> float:
    """Return the validation metric after an epoch, from 0."""
    off = abs(math.log10(float(given.get(LR, "0.01"))) + 2) + abs(int(given.get("data.batch_size", "32")) - 32) / 100
    return round(0.8 * (1 - 0.5 ** (epoch + 1)) / (1 + off), 6)


def main() -> int:
    """Pretend to train and return the exit code."""
    plan: dict[str, Any] = {"epochs": 3, "seconds": 0.05, "fail": {}, **json.loads(os.environ.get("FAKE_FIT", "{}"))}
    given = flags(sys.argv[1:])
    asked: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        asked.append(signum)

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)
    begun = given.get("ckpt_path")
    root = Path(given["trainer.default_root_dir"])
    folder = Path(begun) if begun else claim_run_folder(root, given["name"]).folder
    lock_run_folder(folder)
    first = int((folder / "checkpoints" / "resume.ckpt").read_text()) if begun else 0
    print(f"epochs from {first}, told {sorted(given)}")

    def end(status: str, code: int) -> int:
        (folder / "lineage.json").write_text(lineage_text([Node("0", "", status)]))
        (folder / LOCK).unlink()
        return code

    rows = [f"{epoch},{score(given, epoch)}" for epoch in range(first)]
    (folder / "checkpoints").mkdir(exist_ok=True)
    for epoch in range(first, plan["epochs"]):
        if plan.get("slow", given["name"]) == given["name"]:
            time.sleep(plan["seconds"])
        fault = plan["fail"].get(str(epoch)) if plan.get("only", given["name"]) == given["name"] else None
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "crash":
            raise MemoryError("no memory left")
        if fault:
            print(f"fer: error: {fault} at epoch {epoch}", file=sys.stderr)
            return end("failed", 2 if fault == "config" else 1)
        rows.append(f"{epoch},{score(given, epoch)}")
        (folder / ".part").write_text("\n".join(["epoch,val_f1_macro", *rows]) + "\n")
        os.replace(folder / ".part", folder / "metrics.csv")
        (folder / "checkpoints" / "resume.ckpt").write_text(str(epoch + 1))
        if asked:
            return end("stopped", 128 + asked[0])
    return end("finished", 0)


if __name__ == "__main__":
    sys.exit(main())
