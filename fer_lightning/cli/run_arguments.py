"""The arguments that every run has beside model, data and trainer."""

from __future__ import annotations

from lightning.pytorch.cli import LightningArgumentParser

from fer_lightning.callbacks.checkpoints import BestCheckpoint, ResumeCheckpoint
from fer_lightning.callbacks.reports import EvaluationReport

__all__ = ["add_run_arguments"]


def add_run_arguments(parser: LightningArgumentParser) -> None:
    """Add a name, a checkpoint to start from, tracking, the callbacks, and the links from data to model."""
    parser.add_argument("--name", type=str, default="default", help="Experiment; its runs are in runs/<name>.")
    parser.add_argument(
        "--ckpt_path",
        type=str,
        default=None,
        help="Checkpoint: a file, a run folder, or 'best' or 'last' of the newest run of this name.",
    )
    parser.add_argument(
        "--allow_changed_data",
        type=bool,
        default=False,
        help="Let fit go on from a checkpoint that was trained with other data.",
    )
    parser.add_argument(
        "--mlflow",
        type=bool | str | None,
        default=None,
        help="Log fit to MLflow too: true for <runs>/mlflow.db, or sqlite:///FILE, or http://HOST:PORT.",
    )
    parser.add_argument(
        "--mlflow_checkpoints", type=bool, default=False, help="Send best.ckpt to MLflow when fit ends."
    )
    parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
    parser.add_lightning_class_args(ResumeCheckpoint, "resume_checkpoint")
    parser.add_lightning_class_args(EvaluationReport, "report")
    for name in ("class_names", "num_classes", "preprocessing"):
        parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")
