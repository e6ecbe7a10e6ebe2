"""``fer audit``: how a model does on groups of people.

What needs torch is imported inside of the function.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

__all__ = ["audit"]


def audit(
    evaluation: str,
    *,
    groups: Annotated[str, "COLUMNS"],
    intersect: int = 1,
    out: Annotated[Path, "DIR"] = Path("audit"),
    shuffles: int = 2_000,
    seed: int = 0,
) -> None:
    """Compare how a model does on groups of people, and say which differences chance explains.

    Only the evaluation is read, not the data: its predictions.csv has the groups that the data set knows.

    Args:
        evaluation: folder of an evaluation, such as runs/mine/version_0/test.
        groups: columns with groups, with commas between: gender,skin_type,age_group.
        intersect: also look at people of two (2) or more columns together.
        out: folder to write: a page, pictures, audit.json.
        shuffles: of the groups, for the p values.
        seed: of the shuffles.
    """
    from fer_lightning.evaluation.audit import attributes_of
    from fer_lightning.evaluation.audit import audit as audited
    from fer_lightning.evaluation.audit_report import audit_lines, write_audit
    from fer_lightning.evaluation.predictions import read_predictions

    predictions = read_predictions(Path(evaluation).expanduser())
    names = [name.strip() for name in groups.split(",") if name.strip()]
    found = audited(predictions, attributes_of(predictions, names, intersect), shuffles, seed)
    print("\n".join(audit_lines(found)))
    print(f"\nreport       {write_audit(found, out)}")
