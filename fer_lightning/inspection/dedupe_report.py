"""What ``fer data dedupe`` writes: counts, lists, pictures and the manifest of the rows that stay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.splitting.dedupe import Cleaning, Duplicates
from fer_lightning.data.table.bad_rows import reason_counts
from fer_lightning.data.table.manifest_file import manifest_text
from fer_lightning.data.table.samples import SPLITS, SamplesTable
from fer_lightning.figures import figure_png
from fer_lightning.files import csv_text, json_text, write_atomically
from fer_lightning.inspection.examples import list_cells, one_per_group, pairs_picture
from fer_lightning.text import table_lines

__all__ = ["dedupe_summary", "dedupe_text", "write_dedupe_report"]

_SHOWN = 16  # pairs in a picture
_IN_SPLIT = tuple(f" in {split}" for split in SPLITS)  # ends a reason if the row that is kept is in another split
_AS = {
    "same image": "as an image that is kept already",
    "same image in another split": "as an image that is kept in another split",
    "near-duplicate": "as near-duplicates",
    "near-duplicate in another split": "as near-duplicates of images in another split",
    "conflicting labels": "for conflicting labels",
    "blank image": "for being of one colour",
}
"""What follows the number of rows that were left out, by kind of reason."""


def write_dedupe_report(
    table: SamplesTable,
    duplicates: Duplicates,
    cleaning: Cleaning,
    out: Path,
    *,
    name: str,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Write ``dedupe.json``, ``duplicates.csv``, ``removed.csv``, ``manifest.csv`` and pictures of pairs into ``out``.

    The folder is made if missing. ``options`` say what was looked for and how: ``near``, ``mirrored``, ``conflicts``,
    ``blank``. Returned is the content of ``dedupe.json``.
    """
    summary = dedupe_summary(table, duplicates, cleaning, name, options)
    kept = table.select(np.flatnonzero(cleaning.keep))
    files: dict[str, str | bytes] = {
        "dedupe.json": json_text(summary),
        "duplicates.csv": csv_text(
            ("group", "file", "split", "label", "kept", "reason"), _members(table, duplicates, cleaning)
        ),
        "removed.csv": csv_text(("file", "split", "label", "reason"), _removed(table, cleaning)),
        "manifest.csv": manifest_text(kept, kept.files),
    }
    shown = _shown_pairs(table, duplicates)
    titles = {"near_duplicates": "near-duplicates, closest first", "conflicts": "one photograph, two labels"}
    for stem, title in titles.items():
        if len(shown[stem]):
            files[f"{stem}.png"] = figure_png(pairs_picture(table, duplicates, shown[stem], f"{name}: {title}"))
        else:
            (out / f"{stem}.png").unlink(missing_ok=True)  # of an earlier call with other options
    for file, content in files.items():
        write_atomically(out / file, content)
    return summary


def dedupe_summary(
    table: SamplesTable, duplicates: Duplicates, cleaning: Cleaning, name: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of ``dedupe.json``: counts of duplicates, and of the rows that are kept and left out."""
    present = [split for split in SPLITS if len(table.rows(split))]
    kept = table.with_splits(np.where(cleaning.keep, table.splits, ""))
    removed = [("", _kind(reason)) for reason in cleaning.reasons[~cleaning.keep].tolist()]
    return {
        "name": name,
        "options": dict(options),
        **duplicates.counts(),
        "removed": {"count": len(removed), "by_reason": reason_counts(removed)},
        "splits": {
            split: {
                "rows": len(table.rows(split)),
                "kept": len(kept.rows(split)),
                "fingerprint": table.fingerprint(split),
                "fingerprint_kept": kept.fingerprint(split),
                "kept_per_class": kept.class_counts(split),
            }
            for split in present
        },
    }


def _kind(reason: str) -> str:
    """Return the kind of a reason, without the file it names."""
    for kind in ("same image", "near-duplicate"):
        if reason.startswith(f"{kind} "):
            return f"{kind} in another split" if reason.endswith(_IN_SPLIT) else kind
    return "conflicting labels" if reason.startswith("conflicting labels") else reason


def dedupe_text(summary: dict[str, Any]) -> str:
    """Return the summary as lines for a terminal."""
    found = [(f"in {split}", *_cells(count)) for split, count in summary["within"].items()]
    found += [(pair, *_cells(count)) for pair, count in summary["shared"].items() if count["exact"] or count["near"]]
    found += [("different labels", *_cells(summary["conflicts"])), ("of one colour", _number(summary["blank"]), "")]
    lines = [summary["name"], "", *table_lines([("images", "identical", "near-duplicates"), *found])]
    if not summary["options"]["near"]:
        lines.append("(near-duplicates were not looked for)")
    rows: list[tuple[str, ...]] = [("split", "images", "kept", "fingerprint of what is kept")]
    rows += [
        (split, f"{part['rows']:,}", f"{part['kept']:,}", part["fingerprint_kept"])
        for split, part in summary["splits"].items()
    ]
    lines += ["", *table_lines(rows, left=(0, 3), narrowest=8)]
    removed = summary["removed"]
    lines += ["", f"left out: {removed['count']:,}"]
    lines += [f"{count:>10,} {_AS.get(kind, kind)}" for kind, count in removed["by_reason"].items()]
    return "\n".join(lines)


def _cells(count: dict[str, Any]) -> tuple[str, str]:
    """Return counts of identical images and of near-duplicates; ``more``: beside the identical ones."""
    exact, near = count["exact"], count["near"]
    if isinstance(exact, dict):
        return _grouped(exact), _grouped(near)
    return _number(exact), f"{near:,} more" if near else "-"


def _grouped(count: dict[str, int]) -> str:
    groups = f"{count['groups']:,} {'group' if count['groups'] == 1 else 'groups'}"
    return f"{count['rows']:,} in {groups}" if count["rows"] else "-"


def _number(count: int) -> str:
    return f"{count:,}" if count else "-"


def _members(table: SamplesTable, duplicates: Duplicates, cleaning: Cleaning) -> list[tuple[Any, ...]]:
    """Return the rows of all groups of more than one image, group by group."""
    groups = duplicates.near_groups
    rows = np.flatnonzero(np.bincount(groups)[groups] > 1)
    rows = rows[np.lexsort((rows, groups[rows]))]
    return [
        (int(groups[row]), *list_cells(table, row), "yes" if cleaning.keep[row] else "no", str(cleaning.reasons[row]))
        for row in rows.tolist()
    ]


def _removed(table: SamplesTable, cleaning: Cleaning) -> list[tuple[Any, ...]]:
    return [(*list_cells(table, row), str(cleaning.reasons[row])) for row in np.flatnonzero(~cleaning.keep).tolist()]


def _shown_pairs(table: SamplesTable, duplicates: Duplicates) -> dict[str, NDArray[np.int64]]:
    """Return which pairs each picture shows, closest first: one of each group, evenly spread over the distances."""
    pairs = duplicates.pairs
    blank = np.isin(pairs.first, duplicates.blank)
    conflicting = table.labels[pairs.first] != table.labels[pairs.second]
    shown = {}
    for stem, wanted in (("near_duplicates", pairs.distance > 0), ("conflicts", conflicting & ~blank)):
        order = np.argsort(pairs.distance, kind="stable")
        order = one_per_group(duplicates, order[wanted[order]])
        shown[stem] = order[np.linspace(0, len(order) - 1, min(_SHOWN, len(order))).astype(np.int64)]
    return shown
