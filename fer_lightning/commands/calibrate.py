"""``fer calibrate``: probabilities that can be believed, a threshold for uncertain answers, and prediction sets.

What needs torch is imported inside of the function.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

__all__ = ["calibrate"]


def calibrate(
    run: str,
    *,
    kind: Literal["temperature", "prior", "vector", "matrix"] | None = None,
    risk: float | None = None,
    coverage: float = 0.9,
    from_: Annotated[Path | None, "ARM"] = None,
    root: Annotated[Path, "DIR"] = Path("runs"),
    seed: int = 0,
) -> None:
    """Fit what makes a run's probabilities believable, on its validation predictions, and store it with the run.

    Every number is of images that it was not fitted on: each half of the images is scored with what was fitted on the
    other. fer predict, fer recognize, fer serve and fer export then use it.

    Args:
        run: a run folder, a name (its newest run), or the folder of an arm of fer crossval, whose folds are pooled.
        kind: temperature (labels stay as they are), prior (a temperature and tau), vector or matrix scaling; the one
            with the best likelihood, if not given.
        risk: wanted share of wrong answers among those that are not marked as uncertain; half of that of all answers,
            if not given.
        coverage: how often prediction sets shall hold the true class, in every class.
        from_: folder of an arm of fer crossval, whose folds are pooled instead of the run's own predictions: for a run
            that is trained like them on all images.
        root: the folder of all runs.
        seed: of halves and draws.
    """
    from fer_lightning.evaluation.calibration_place import Wishes, find_place

    wishes, place = Wishes(kind, risk, coverage, seed), find_place(run, root, from_)

    from fer_lightning.evaluation.calibration import calibrate as calibrated  # from here on torch, which takes seconds
    from fer_lightning.evaluation.calibration_report import calibration_lines, write_calibration
    from fer_lightning.evaluation.calibration_source import read_source
    from fer_lightning.evaluation.page_parts import refresh_pages
    from fer_lightning.outputs import writing_errors

    source = read_source(place)
    found = calibrated(source.predictions, source.prior, wishes, place.origin)
    places = [str(folder) for folder in source.evaluations]
    found |= {"step": source.step, "evaluations": places, "trained_on": source.trained_on}
    print("\n".join(calibration_lines(found)))
    with writing_errors(place.folder):
        print(f"\nreport       {write_calibration(found, place.folder)}")
    refresh_pages(place.folder, calibration=True)
