"""Comparing tables of labels that lie beside class folders with what the folders say."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from fer_lightning.data.files.listing import Listing
from fer_lightning.data.sets.labels.tables import label_tables, read_labels
from fer_lightning.emotions import canonical
from fer_lightning.errors import FERError, LabelError
from fer_lightning.text import one_line

__all__ = ["compared_with_tables"]


def compared_with_tables(
    root: Path, listing: Listing, mapping: Mapping[str, str | None] | None = None
) -> tuple[str, ...]:
    """Return a sentence for each table beside class folders: how often its labels are those of the folders.

    Args:
        root: the folder that holds the class folders or those of the splits.
        listing: what the folders say.
        mapping: other meanings of labels, as for the folders.
    """
    places = [root, root.parent] if root.name.lower() == "dataset" else [root]  # RAF-DB's tables lie above DATASET/
    of_image = dict(zip(listing.paths.tolist(), listing.labels.tolist(), strict=True))
    meanings = {str(name).strip().lower(): value for name, value in (mapping or {}).items()}
    remarks = []
    for table in (table for place in places for table in label_tables(place)):
        name = table.name if table.parent in places else table.relative_to(root).as_posix()
        try:
            read, _, _ = read_labels(table, images=root)
        except FERError as error:
            remarks.append(f"{name} beside the class folders has labels, too, but cannot be compared: {error}")
            continue
        pairs = zip(read.columns["path"].tolist(), read.columns["label"].tolist(), strict=True)
        both = [(path, of_image[path], label.strip()) for path, label in pairs if path in of_image]
        if both:
            said = [_meaning(label, meanings) for _, _, label in both]
            labels = [listing.class_names[label] for _, label, _ in both]
            remarks.append(_sentence(table, name, [path for path, _, _ in both], labels, _resolved(labels, said)))
    return tuple(one_line(remark, 600) for remark in remarks)


def _meaning(label: str, meanings: Mapping[str, str | None]) -> str:
    """Return the canonical name of a label, or the label if it is not known."""
    text = meanings.get(label.lower(), label) or label
    try:
        return canonical(text)
    except LabelError:
        return text


def _resolved(labels: Sequence[str], said: Sequence[str]) -> list[str]:
    """Return what a table says; codes stand for the class in whose folder most of their images are."""
    if not all(text.isdecimal() for text in said):
        return list(said)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for label, code in zip(labels, said, strict=True):
        counts[code][label] += 1
    return [counts[code].most_common(1)[0][0] for code in said]


def _sentence(table: Path, name: str, paths: Sequence[str], labels: Sequence[str], said: Sequence[str]) -> str:
    wrong = [row for row, (label, text) in enumerate(zip(labels, said, strict=True)) if label != text]
    if not wrong:
        return f"{name} beside the class folders has the same labels for all {len(paths):,} images in both"
    first = wrong[0]
    example = f"{paths[first]}, {labels[first]} in the folders, {said[first]} in the table"
    return (
        f"{name} beside the class folders has labels, too, which are not used: {len(wrong):,} of {len(paths):,} are "
        f"others than those of the folders (the first: {example}); pass --data ManifestDataModule --data.root "
        f"{shlex.quote(str(table))} to use the table"
    )
