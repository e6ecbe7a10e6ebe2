"""Calling ``fer`` in-process, on a task that takes a second."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml

from fer_lightning.__main__ import main

TINY = [
    "--data=tests.helpers.data.StripesDataModule",
    "--data.batch_size=8",
    "--model.backbone=tests.helpers.parts.TinyBackbone",
    "--trainer.accelerator=cpu",
    "--trainer.precision=32-true",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--report.pictures=false",
]
QUICK = ["--trainer.enable_progress_bar=false", "--report.pictures=false"]  # for evaluations, which keep neither


def fer(*args: str) -> int:
    """Run ``fer`` and return its exit code."""
    return main(list(args))


def fit(root: Path, *args: str, name: str = "tiny", epochs: int = 2) -> int:
    """Run ``fer fit`` on the tiny task with its runs in ``root``."""
    return fer(
        "fit", *TINY, f"--name={name}", f"--trainer.max_epochs={epochs}", f"--trainer.default_root_dir={root}", *args
    )


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Return the weights in a checkpoint."""
    state: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True)["state_dict"]
    return state


def same_weights(first: Path, second: Path) -> bool:
    """Tell whether two checkpoints hold the same weights, bit for bit."""
    one, two = weights(first), weights(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def written_config(folder: Path) -> dict[str, object]:
    """Return the config that a run wrote."""
    values: dict[str, object] = yaml.safe_load((folder / "config.yaml").read_text())
    return values
