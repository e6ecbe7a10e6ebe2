"""The two parts of an evaluation's page that change after it was written: its calibration, and what lies beside it.

They stand between comments in the page, so that a verb that finds something later can write them anew; the images that
the page shows need not be read again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from markupsafe import Markup

from fer_lightning.errors import FERError
from fer_lightning.evaluation.beside import PAGE, Beside
from fer_lightning.evaluation.calibrated import Calibrated
from fer_lightning.evaluation.calibration import risk_points
from fer_lightning.evaluation.calibration_plots import reliability_figure, risk_figure
from fer_lightning.evaluation.calibration_report import answers_told
from fer_lightning.evaluation.predictions import Predictions, read_predictions
from fer_lightning.figures import figure_svg
from fer_lightning.files import write_atomically
from fer_lightning.pages import render
from fer_lightning.runs.records import Run

__all__ = ["beside_part", "calibration_part", "refresh_pages"]


def calibration_part(beside: Beside, predictions: Callable[[], Predictions]) -> Markup:
    """Return the section on calibration: what the model states, before and after its calibration.

    Args:
        beside: of the evaluation; its report has ``uncertainty``.
        predictions: reads those of the evaluation.
    """
    stated = beside.report["uncertainty"]["calibration"]
    after = beside.calibrated(predictions)
    known = isinstance(after, Calibrated)
    if isinstance(after, Calibrated):
        risk, bins = after.risk, {"before": stated["bins"], "after": after.bins}
        told = [f"Judged on these images, {after.judged}.", answers_told(risk)]
        drawn = risk_figure(risk["curves"], risk["wanted"], risk if risk["reached"] else None)
    else:
        result, told, bins = predictions(), [after], {"": stated["bins"]}
        drawn = risk_figure({"": risk_points(result.confidence, result.preds == result.target)})
    part = render(
        "part_calibration.html",
        stated=stated,
        accuracy=beside.report["accuracy"],
        after=after if known else None,
        told=told,
        link=beside.calibration_page if known else "",
        reliability=figure_svg(reliability_figure(bins), "accuracy by confidence"),
        risk=figure_svg(drawn, "wrong answers among those kept"),
    )
    return _marked("calibration", part)


def beside_part(beside: Beside) -> Markup:
    """Return the section on what else is known of the same weights."""
    return _marked("beside", render("part_beside.html", findings=beside.findings(), missing=beside.missing()))


def refresh_pages(run: Path, calibration: bool = False) -> None:
    """Write into the pages of a run and of its evaluations what lies beside them now.

    Pages of older versions stay as they are, and so do those that cannot be written.

    Args:
        run: folder of the run.
        calibration: also their sections on calibration.
    """
    for name, report in Run(run).evaluations.items():
        page = run / PAGE if name == "val" else run / name / PAGE
        with suppress(OSError, FERError, UnicodeDecodeError, KeyError, TypeError):
            _refresh(Beside(run / name, page, report), calibration)


def _refresh(beside: Beside, calibration: bool) -> None:
    before = text = beside.page.read_text(encoding="utf-8")
    if calibration and _pattern("calibration").search(text):
        text = _replaced(text, "calibration", calibration_part(beside, lambda: read_predictions(beside.folder)))
    if _pattern("beside").search(text):
        text = _replaced(text, "beside", beside_part(beside))
    if text != before:
        write_atomically(beside.page, text)


def _marked(name: str, part: str) -> Markup:
    return Markup(f"<!-- {name} -->\n{part}<!-- end of {name} -->")  # a template has escaped what is inside


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(f"<!-- {name} -->.*<!-- end of {name} -->", re.DOTALL)


def _replaced(text: str, name: str, part: str) -> str:
    return _pattern(name).sub(lambda _: part, text, count=1)
