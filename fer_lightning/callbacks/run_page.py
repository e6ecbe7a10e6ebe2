"""What the page of a run tells of its training: curves, starts, configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fer_lightning.errors import ConfigError
from fer_lightning.evaluation.page import Training
from fer_lightning.evaluation.plots import curves_figure
from fer_lightning.figures import figure_svg
from fer_lightning.runs.changes import change_text
from fer_lightning.runs.folder import config_files
from fer_lightning.runs.lineage import Node, read_lineage

__all__ = ["curves", "training_of"]

_CURVES = ("train_loss", "val_loss", "train_acc", "val_acc", "val_f1_macro")


def curves(history: Sequence[dict[str, float]]) -> dict[str, list[tuple[float, float]]]:
    """Return (epoch, value) pairs by metric from the rows of ``metrics.csv``; metrics without any are left out."""
    found = {name: [(row["epoch"], row[name]) for row in history if name in row] for name in _CURVES}
    return {name: points for name, points in found.items() if points}


def training_of(folder: Path, drawn: dict[str, list[tuple[float, float]]]) -> Training:
    """Return what the page of the run in ``folder`` tells of its training.

    Args:
        folder: of the run.
        drawn: the curves, of ``curves``.
    """
    files = config_files(folder)
    try:
        config = files[max(files)].read_text(encoding="utf-8") if files else ""
        nodes = read_lineage(folder)
    except (OSError, UnicodeDecodeError, ConfigError):  # the page must not be what a training fails by
        config, nodes = "", []
    picture = figure_svg(curves_figure(drawn, "Training"), "losses and scores by epoch") if drawn else ""
    head = ("start", "begun", "epochs before", "from", "changed")
    return Training(picture, [head, *(_row(number, node) for number, node in enumerate(nodes, 1))], config)


def _row(number: int, node: Node) -> tuple[str, ...]:
    origin = "the beginning" if node.parent is None else f"{node.parent.checkpoint} ({node.parent.sha256[:12]})"
    if node.parent is not None and node.parent.weights_only:
        origin = f"weights of {origin}"
    changed = "; ".join(change_text(change) for change in node.changed) or "nothing"
    return f"{number}: {node.id}", node.started, f"{node.start.get('epochs', 0)}", origin, changed
