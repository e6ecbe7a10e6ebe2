"""What stands in a samples table more than once, and which rows a cleaned one keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.splitting.near_duplicates import Pairs, components, near_duplicates, thumbnails
from fer_lightning.data.table.samples import SPLITS, SamplesTable
from fer_lightning.errors import ConfigError

__all__ = [
    "Agreement",
    "Cleaning",
    "Conflicts",
    "Duplicates",
    "GroupCount",
    "Shared",
    "clean",
    "find_duplicates",
    "without_blank",
]

Conflicts = Literal["majority", "drop", "keep"]
"""What becomes of images that stand in one split with different labels: ``majority`` keeps the label of most of them,
and none if there is a tie; ``drop`` drops all; ``keep`` lets the first one stand."""

_GIVE_WAY = ("test", "val", "train", "")  # a later one gives way to an earlier one
_CHUNK = 1024  # images that are read at a time


@dataclass(frozen=True)
class GroupCount:
    """Groups of two or more rows, and the rows in them; ``rows - groups`` of these rows are repeats."""

    groups: int
    rows: int


@dataclass(frozen=True)
class Shared:
    """Rows of a split whose image also stands in another: pixel for pixel, and those with a near-duplicate only."""

    exact: int
    near: int


@dataclass(frozen=True)
class Agreement:
    """How often two labels of one photograph are the same, seen by images that stand in a table more than once.

    If the labels of a photograph are draws from shares q, two of them agree with probability sum(q^2), and the best
    possible model is right with probability max(q), which lies between sum(q^2) and its square root.

    Attributes:
        images: images with a copy or a near-duplicate, in any splits; those of one colour do not count.
        share: the mean of these images' share of copies that have the same label; ``None`` if there are none.
        by_class: the same for the images of each class, by name: how many, and their share.
    """

    images: int
    share: float | None
    by_class: dict[str, tuple[int, float | None]]

    def plain(self) -> dict[str, Any]:
        """Return the same as what JSON can hold."""
        classes = {name: {"images": images, "share": share} for name, (images, share) in self.by_class.items()}
        return {"images": self.images, "share": self.share, "classes": classes}


@dataclass(frozen=True)
class Duplicates:
    """Where a samples table repeats itself.

    Attributes:
        pairs: near-duplicates (identical images among them); none if they were not looked for.
        exact_groups: int64 ``(N,)``: rows of identical images have the same number.
        near_groups: int64 ``(N,)``: rows connected by identical images and near-duplicates have the same number.
        blank: int64 ``(B,)``: rows of images of one colour.
        within_exact: by split, groups of identical images.
        within_near: by split, groups of near-duplicates with at least two different images.
        shared: by (split, other split), rows of the first whose image also stands in the second.
        conflicts_exact: groups of identical images, in any splits, whose labels differ.
        conflicts_near: groups of near-duplicates with at least two different images, in any splits, whose labels do.
        agreement: of the labels of one photograph.
    """

    pairs: Pairs
    exact_groups: NDArray[np.int64]
    near_groups: NDArray[np.int64]
    blank: NDArray[np.int64]
    within_exact: dict[str, GroupCount]
    within_near: dict[str, GroupCount]
    shared: dict[tuple[str, str], Shared]
    conflicts_exact: GroupCount
    conflicts_near: GroupCount
    agreement: Agreement

    def counts(self) -> dict[str, Any]:
        """Return the counts as what JSON can hold; pairs of splits are ``val in train``."""
        return {
            "blank": len(self.blank),
            "within": {
                split: {"exact": asdict(self.within_exact[split]), "near": asdict(self.within_near[split])}
                for split in self.within_exact
            },
            "shared": {f"{first} in {second}": asdict(count) for (first, second), count in self.shared.items()},
            "conflicts": {"exact": asdict(self.conflicts_exact), "near": asdict(self.conflicts_near)},
            "agreement": self.agreement.plain(),
        }


class Cleaning(NamedTuple):
    """Which rows a cleaned table keeps.

    Attributes:
        keep: bool ``(N,)``.
        reasons: ``(N,)`` strings: why a row is left out, ``""`` for those that stay.
    """

    keep: NDArray[np.bool_]
    reasons: NDArray[np.str_]


class _Links:
    """Rows as nodes: identical images (or thumbnails) are one node, near-duplicates are edges between nodes."""

    def __init__(self, digests: NDArray[np.uint8], pairs: Pairs) -> None:
        same = pairs.distance == 0
        self.node = components(len(digests), [digests], [(pairs.first[same], pairs.second[same])])
        self.one, self.other = self.node[pairs.first[~same]], self.node[pairs.second[~same]]

    def groups(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which of some rows hang together, other rows left aside, int64 ``(M,)``."""
        position = np.full(len(self.node), -1, np.int64)
        position[self.node[rows][::-1]] = np.arange(len(rows))[::-1]
        ends = position[self.one], position[self.other]
        inside = (ends[0] >= 0) & (ends[1] >= 0)
        return components(len(rows), [self.node[rows]], [(ends[0][inside], ends[1][inside])])

    def near(self, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which of some rows have a near-duplicate among others, bool ``(M,)``."""
        there = np.zeros(len(self.node), bool)
        there[self.node[others]] = True
        reached = there.copy()
        reached[self.one[there[self.other]]] = True
        reached[self.other[there[self.one]]] = True
        near: NDArray[np.bool_] = reached[self.node[rows]]
        return near

    def neighbours(self) -> dict[int, list[int]]:
        """Return the nodes that each node is a near-duplicate of."""
        found: dict[int, list[int]] = {}
        for one, other in zip(self.one.tolist(), self.other.tolist(), strict=True):
            found.setdefault(one, []).append(other)
            found.setdefault(other, []).append(one)
        return found


def find_duplicates(table: SamplesTable, near: bool = True, mirrored: bool = False) -> Duplicates:
    """Find and count identical images, near-duplicates, conflicting labels and blank images.

    Images that the table has no thumbnails of are read once.

    Args:
        table: the samples, in any splits.
        near: look for near-duplicates, see ``near_duplicates``.
        mirrored: count mirror images as near-duplicates.
    """
    small = thumbnails(table.images) if table.thumbnails is None else table.thumbnails
    pairs = near_duplicates(small, mirrored=mirrored) if near else Pairs.none()
    links = _Links(table.digests, pairs)
    everything = np.arange(len(table), dtype=np.int64)
    exact, groups = components(len(table), [table.digests]), links.groups(everything)
    rows = {split: table.rows(split) for split in SPLITS}
    rows = {split: members for split, members in rows.items() if len(members)}
    blank = _blank(table, small)
    return Duplicates(
        pairs=pairs,
        exact_groups=exact,
        near_groups=groups,
        blank=blank,
        within_exact={split: _count(exact[members]) for split, members in rows.items()},
        within_near={split: _count(links.groups(members), exact[members]) for split, members in rows.items()},
        shared={
            (first, second): _shared(exact, links, rows[first], rows[second])
            for first in rows
            for second in rows
            if first != second
        },
        conflicts_exact=_count(exact, table.labels),
        conflicts_near=_count(groups, exact, table.labels),
        agreement=_agreement(np.delete(groups, blank), np.delete(table.labels, blank), table.class_names),
    )


def _agreement(groups: NDArray[np.int64], labels: NDArray[np.int64], class_names: Sequence[str]) -> Agreement:
    """Compare the labels of each image, int64 ``(N,)`` beside the group of each, with the others of its group."""
    numbers, of_row = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(numbers), len(class_names)), np.int64)
    np.add.at(counts, (of_row, labels), 1)
    others = counts.sum(axis=1)[of_row] - 1
    several = others > 0
    shares = (counts[of_row[several], labels[several]] - 1) / others[several]

    def mean(wanted: NDArray[np.bool_]) -> tuple[int, float | None]:
        return int(wanted.sum()), math.fsum(shares[wanted]) / int(wanted.sum()) if wanted.any() else None

    by_class = {name: mean(labels[several] == label) for label, name in enumerate(class_names)}
    return Agreement(*mean(np.ones(len(shares), bool)), by_class)


def _count(groups: NDArray[np.int64], *differing: NDArray[np.int64]) -> GroupCount:
    """Count the groups of two or more rows in which each of the other columns has more than one value."""
    sizes = np.bincount(groups)
    counted = sizes > 1
    for column in differing:
        different = np.unique(np.stack([groups, column]), axis=1)[0]
        counted &= np.bincount(different, minlength=len(sizes)) > 1
    return GroupCount(int(counted.sum()), int(sizes[counted].sum()))


def _shared(exact: NDArray[np.int64], links: _Links, rows: NDArray[np.int64], others: NDArray[np.int64]) -> Shared:
    same = np.isin(exact[rows], exact[others])
    return Shared(int(same.sum()), int((links.near(rows, others) & ~same).sum()))


def _blank(table: SamplesTable, small: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the rows of images of one colour; only those whose thumbnail has one gray are read."""
    flat = small.reshape(len(small), int(np.prod(small.shape[1:])))
    rows = np.flatnonzero((flat == flat[:, :1]).all(axis=1))
    blank = np.zeros(len(rows), bool)
    for start in range(0, len(rows), _CHUNK):
        images = table.images[rows[start : start + _CHUNK]]
        blank[start : start + _CHUNK] = (images == images[:, :, :1, :1]).all(axis=(1, 2, 3))
    return rows[blank].astype(np.int64)


def clean(
    table: SamplesTable, duplicates: Duplicates, conflicts: Conflicts = "majority", near: bool = True
) -> Cleaning:
    """Choose the rows of a cleaned table: each photograph once, with one label.

    Test rows never give way to other splits, validation rows only to test rows, training rows to both, rows of no split
    to all. Within a split the first by file name stays. Conflicting labels are settled within each split by its own
    rows, so that neither training rows decide on test rows nor the other way round.

    Args:
        table: the samples.
        duplicates: of this table, from ``find_duplicates``.
        conflicts: see ``Conflicts``.
        near: leave out near-duplicates as well; a row stays if none of the rows that stay is its near-duplicate, also
            where a chain of near-duplicates connects them.

    Raises:
        ConfigError: for an unknown policy.
        ValueError: if the duplicates are those of another table.
    """
    if conflicts not in get_args(Conflicts):
        raise ConfigError(f"conflicts must be one of {', '.join(get_args(Conflicts))}, not '{conflicts}'")
    if len(duplicates.exact_groups) != len(table):
        raise ValueError(f"duplicates of {len(duplicates.exact_groups)} rows do not belong to {len(table)} rows")
    links = _Links(table.digests, duplicates.pairs if near else Pairs.none())
    neighbours = links.neighbours()
    holder: dict[int, int] = {}  # row that stays, by node
    reasons: dict[int, str] = {}  # of the rows left out
    for split in _GIVE_WAY:
        rows = np.flatnonzero(table.splits == split)
        if conflicts != "keep":
            reasons.update(_settle(table, rows, links.groups(rows), conflicts))
        for row in _by_name(table, rows):
            if row in reasons:
                continue
            node = links.node[row].item()
            standing = [node] if node in holder else [place for place in neighbours.get(node, ()) if place in holder]
            if standing:
                reasons[row] = _repeats(table, row, min((holder[place] for place in standing), key=table.files.item))
            else:
                holder[node] = row
    column = np.array([reasons.get(row, "") for row in range(len(table))], np.str_)
    return Cleaning(column == "", column)


def without_blank(cleaning: Cleaning, duplicates: Duplicates) -> Cleaning:
    """Leave out the images of one colour as well."""
    reasons = cleaning.reasons.astype(np.result_type(cleaning.reasons, np.dtype("<U11")))
    blank = duplicates.blank[cleaning.keep[duplicates.blank]]
    reasons[blank] = "blank image"
    return Cleaning(reasons == "", reasons)


def _by_name(table: SamplesTable, rows: NDArray[np.int64]) -> list[int]:
    """Return rows by the name of their file; those of one name by content, so that their order does not matter."""
    content = [table.digests[rows, byte] for byte in reversed(range(table.digests.shape[1]))]
    order: list[int] = rows[np.lexsort((*content, table.labels[rows], table.files[rows]))].tolist()
    return order


def _settle(
    table: SamplesTable, rows: NDArray[np.int64], groups: NDArray[np.int64], conflicts: Conflicts
) -> dict[int, str]:
    """Return the rows that lose over conflicting labels, with the reason."""
    lost: dict[int, str] = {}
    labels = table.labels[rows]
    kinds = np.unique(np.stack([groups, labels]), axis=1)[0]
    split_groups = np.flatnonzero(np.bincount(kinds) > 1)
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], split_groups)
    ends = np.searchsorted(groups[order], split_groups, side="right")
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        members = order[start:end]
        votes = np.bincount(labels[members], minlength=len(table.class_names))
        winners = np.flatnonzero(votes == votes.max())
        reason = f"conflicting labels: {_votes(votes, table.class_names)}"
        for member in members.tolist():
            if conflicts == "drop" or len(winners) > 1 or labels[member] != winners[0]:
                lost[rows[member].item()] = reason
    return lost


def _votes(votes: NDArray[np.int64], class_names: Sequence[str]) -> str:
    return ", ".join(f"{count} {name}" for count, name in zip(votes.tolist(), class_names, strict=True) if count)


def _repeats(table: SamplesTable, row: int, first: int) -> str:
    how = "same image as" if np.array_equal(table.digests[row], table.digests[first]) else "near-duplicate of"
    where = f" in {table.splits[first]}" if table.splits[first] != table.splits[row] else ""
    return f"{how} {table.files[first]}{where}"
