"""``fer audit``: how a model does on groups of people.

What needs torch is imported inside of the function.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

if TYPE_CHECKING:
    from fer_lightning.evaluation.finding import FoundEvaluation

__all__ = ["audit"]


def audit(
    evaluation: str,
    *,
    groups: Annotated[str, "COLUMNS"] = "",
    intersect: int = 1,
    out: Annotated[Path | None, "DIR"] = None,
    split: Literal["test", "val"] | None = None,
    root: Annotated[Path, "DIR"] = Path("runs"),
    shuffles: int = 2_000,
    seed: int = 0,
) -> None:
    """Compare how a model does on groups of people, and say which differences chance explains.

    Only the evaluation is read, not the data: its predictions.csv has the groups that the data set knows.

    Args:
        evaluation: folder of an evaluation, a run or a model, or the name of a run.
        groups: columns with groups, with commas between: gender,skin_type,age_group.
        intersect: also look at people of two (2) or more columns together.
        out: folder to write: a page and audit.json; audit in the folder of the run, if not given, or audit-val and the
            like for another of its evaluations than test.
        split: of a run or model, test or val; test if it has it, if not given.
        root: the folder of all runs.
        shuffles: of the groups, for the p values.
        seed: of shuffles and resamples.
    """
    from fer_lightning.commands.trained import retyped
    from fer_lightning.evaluation.asked import audit_of
    from fer_lightning.evaluation.audit_report import write_audit
    from fer_lightning.evaluation.finding import find_evaluations
    from fer_lightning.evaluation.page_parts import refresh_pages
    from fer_lightning.outputs import writing_errors

    [folder] = find_evaluations([evaluation], split, root)
    place = _place(out, folder)
    names = [name.strip() for name in groups.split(",") if name.strip()]
    found = audit_of(folder, names, intersect, shuffles, seed)
    asked = {"groups": ",".join(names), "intersect": intersect, "shuffles": shuffles, "seed": seed}
    origin = {
        "command": retyped("audit", evaluation, **asked, split=split, root=root, out=out),
        "evaluation": str(folder.table.parent),
        "run": "/".join(folder.owner.parts[-2:]),
        "weights": folder.weights,
    }
    print(found.text)
    with writing_errors(place):
        print(f"\nreport       {write_audit(found.numbers, place, found.notes, origin)}")
    if folder.run is not None:
        refresh_pages(folder.run)


def _place(out: Path | None, folder: FoundEvaluation) -> Path:
    """Return the folder to write: the evaluations of a run have one each."""
    from fer_lightning.commands.places import page_folder

    name = folder.table.parent.name
    return page_folder("audit", out, folder.run, "" if name == "test" or folder.run is None else name)
