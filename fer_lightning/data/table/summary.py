"""What a report must say of the data of a run, as plain values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.table.bad_rows import reason_counts
from fer_lightning.data.table.samples import FOCUS, SPLITS, SamplesTable

__all__ = ["table_summary"]


def table_summary(table: SamplesTable) -> dict[str, Any]:
    """Return counts, fingerprints and shared images of the splits of a table, and what was left out of it."""
    present = [split for split in (*SPLITS, FOCUS) if len(table.rows(split))]
    return {
        "sources": sorted(set(table.sources.tolist())),
        "counts": {split: len(table.rows(split)) for split in present},
        "class_counts": {split: table.class_counts(split) for split in present},
        "by_source": _counts_by(table.sources, table, present),
        **({"by_kind": _counts_by(table.columns["kind"], table, present)} if "kind" in table.columns else {}),
        "left_out": _reasons(table.left_out),
        **({"remarks": list(table.remarks)} if table.remarks else {}),
        "fingerprints": {split: table.fingerprint(split) for split in present},
        "overlap_with_train": {s: len(table.overlap(s, "train")) for s in present if s != "train"},
    }


def _counts_by(column: NDArray[np.str_], table: SamplesTable, splits: list[str]) -> dict[str, dict[str, int]]:
    """Return the number of rows of each value of a column, by split."""
    return {
        str(value): {split: int(np.count_nonzero((column == value) & (table.splits == split))) for split in splits}
        for value in np.unique(column)
    }


def _reasons(left_out: tuple[tuple[str, str], ...], shown: int = 5) -> dict[str, Any]:
    """Return how many rows are not in the table, why, and the first of them."""
    return {
        "count": len(left_out),
        "by_reason": reason_counts(left_out),
        "first": [f"{place}: {reason}" for place, reason in left_out[:shown]],
    }
