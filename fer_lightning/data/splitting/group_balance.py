"""Balance between groups of people inside each class: more draws, or more weight in the loss, for the rare ones.

Pure functions of a table: how often each class is drawn, and what it weighs, is left to ``balance`` and the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.splitting.balance import largest_remainder
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import ConfigError
from fer_lightning.text import did_you_mean

__all__ = ["MOST_REPEATS", "GroupBalance", "GroupBalanceKind", "equal_shares"]

GroupBalanceKind = Literal["none", "draws", "weights"]
"""What is done about groups of unequal size: nothing, more draws, or weights in the loss."""
MOST_REPEATS = 4.0
"""Times that an image of a rare group is drawn, or counts, at most, compared with once."""


def equal_shares(counts: NDArray[np.int64], total: float) -> NDArray[np.float64]:
    """Divide draws of a class equally among its groups, of each image at most four times as many as on average.

    Args:
        counts: images of each group, int64 ``(G,)``; one without images gets nothing.
        total: draws.

    Returns:
        float64 ``(G,)``, summing to ``total``; zeros if there are no images.

    >>> equal_shares(np.array([90, 10, 0]), 100).tolist()
    [60.0, 40.0, 0.0]
    """
    shares, images = np.zeros(len(counts)), int(counts.sum())
    if not images:
        return shares
    most = counts * MOST_REPEATS * total / images
    free, left = counts > 0, float(total)
    while free.any():
        each = left / int(free.sum())
        full = free & (most <= each)
        if not full.any():
            shares[free] = each
            break
        shares[full] = most[full]
        free, left = free & ~full, left - float(most[full].sum())
    return shares


@dataclass(frozen=True)
class GroupBalance:
    """What is done about groups of unequal size.

    Attributes:
        columns: of the samples table; people that are alike in all of them are a group.
        kind: ``none``; ``draws``: the draws of each class are divided equally among its groups; ``weights``: the
            images of each class are weighed so that its groups count equally.

    Raises:
        ConfigError: if groups are to be balanced and none are named.
    """

    columns: tuple[str, ...] = ()
    kind: GroupBalanceKind = "none"

    def __post_init__(self) -> None:
        if self.kind != "none" and not self.columns:
            raise ConfigError(f"data.group_balance {self.kind} needs groups: pass --data.groups '[gender]'")

    def check(self, table: SamplesTable) -> None:
        """Raise ``ConfigError`` if a column is not in the table, or empty in all training rows."""
        known = [name for name, column in table.columns.items() if column.dtype.kind == "U"]
        for name in self.columns:
            if name not in known:
                there = f"there are {', '.join(known)}" if known else "this data set has none"
                raise ConfigError(f"data.groups: there is no column '{name}'{did_you_mean(name, known)} ({there})")
            if not (table.columns[name][table.rows("train")] != "").any():
                raise ConfigError(f"data.groups: the column '{name}' is empty in every training row")

    def cells(self, table: SamplesTable, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        """Return the cell of each row, int64 ``(M,)``, and the number of groups G.

        A cell is ``label * (G + 1) + group``; the last group are people of whom a column is not known.
        """
        columns = [table.columns[name][rows] for name in self.columns]
        known = np.all([column != "" for column in columns], axis=0)
        names, group = np.unique(np.stack(columns)[:, known], axis=1, return_inverse=True)
        count = names.shape[1]
        numbers = np.full(len(rows), count)
        numbers[known] = group.reshape(-1)
        return table.labels[rows] * (count + 1) + numbers, count

    def quotas(
        self, table: SamplesTable, rows: NDArray[np.int64], draws: Sequence[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the cell of each row, int64 ``(M,)``, and how often each cell is drawn, given the draws of each class.

        A cell is a class unless draws are divided among groups. People of unknown groups are drawn as often as the
        others of their class on average.
        """
        if self.kind != "draws":
            return table.labels[rows], np.array(draws, np.int64)
        cells, count = self.cells(table, rows)
        counts = np.bincount(cells, minlength=len(draws) * (count + 1)).reshape(len(draws), count + 1)
        shares = [self._shares(own, total) for own, total in zip(counts, draws, strict=True)]
        whole = [
            largest_remainder(share, total) if share.any() else np.zeros(count + 1, np.int64)
            for share, total in zip(shares, draws, strict=True)
        ]
        return cells, np.concatenate(whole)

    def weights(self, table: SamplesTable) -> NDArray[np.float32] | None:
        """Return what each row counts in the loss, float32 ``(N,)``, in each class 1 on average; ``None`` if alike."""
        if self.kind != "weights":
            return None
        rows = table.rows("train")
        cells, count = self.cells(table, rows)
        counts = np.bincount(cells, minlength=len(table.class_names) * (count + 1)).reshape(-1, count + 1)
        shares = np.array([self._shares(own, float(own.sum())) for own in counts])
        weights = np.ones(len(table), np.float32)
        weights[rows] = (shares / np.maximum(counts, 1)).reshape(-1)[cells]
        return weights

    @staticmethod
    def _shares(counts: NDArray[np.int64], total: float) -> NDArray[np.float64]:
        """Return the draws of each group of a class, of which the last is not known, float64 ``(G + 1,)``."""
        images = max(int(counts.sum()), 1)
        unknown = total * counts[-1] / images
        return np.append(equal_shares(counts[:-1], total - unknown), unknown)
