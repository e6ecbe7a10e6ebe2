"""``fer compare``: evaluations of several models on the same images, side by side.

What needs torch is imported inside of the function.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

__all__ = ["compare"]


def compare(
    evaluations: tuple[str, ...],
    *,
    out: Annotated[Path | None, "DIR"] = None,
    split: Literal["test", "val"] | None = None,
    root: Annotated[Path, "DIR"] = Path("runs"),
    seed: int = 0,
) -> None:
    """Compare models on the same images: differences with intervals, tests, what each class gained and lost.

    Only the evaluations are read, not the data: fer test and fer validate write them, fer fit its best validation.

    Args:
        evaluations: two or more folders of evaluations, runs or models, or names of runs; NAME=FOLDER chooses how one
            is called. By class, all are compared with the first.
        out: folder to write: a page and compare.json; compare, if not given.
        split: of runs and models, test or val; test if all have it, if not given.
        root: the folder of all runs.
        seed: of the resamples.
    """
    from fer_lightning.commands.places import page_folder
    from fer_lightning.commands.trained import retyped
    from fer_lightning.evaluation.asked import comparison_of
    from fer_lightning.evaluation.compare_report import write_comparison
    from fer_lightning.evaluation.speeds import BENCH, read_speed
    from fer_lightning.outputs import writing_errors

    place = page_folder("compare", out)
    folders, found = comparison_of(evaluations, split, root, seed)
    speeds = {each.name: speed for each in folders if (speed := read_speed(each.owner / BENCH, each.weights))}
    origin = {
        "command": retyped("compare", *evaluations, seed=seed, split=split, root=root, out=out),
        "evaluations": {each.name: str(each.table.parent) for each in folders},
    }
    print(found.text)
    with writing_errors(place):
        print(f"\nreport       {write_comparison(found.numbers, place, found.notes, origin, speeds)}")
