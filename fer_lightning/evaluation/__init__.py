"""What is measured, drawn and written down about a trained classifier."""

from fer_lightning.evaluation.plots import (
    confusion_matrix_figure,
    curves_figure,
    per_class_figure,
    reliability_figure,
    worst_mistakes_figure,
)
from fer_lightning.evaluation.report import (
    EvaluationResult,
    summarise,
    text_table,
    worst_mistakes,
    write_predictions,
    write_report,
)
from fer_lightning.figures import figure_png
from fer_lightning.files import write_atomically

__all__ = [
    "EvaluationResult",
    "confusion_matrix_figure",
    "curves_figure",
    "figure_png",
    "per_class_figure",
    "reliability_figure",
    "summarise",
    "text_table",
    "worst_mistakes",
    "worst_mistakes_figure",
    "write_atomically",
    "write_predictions",
    "write_report",
]
