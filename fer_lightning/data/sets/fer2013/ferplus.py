"""FER+: the images of FER2013 with labels from ten people each, eight classes.

Source:
    Barsoum et al. 2016, "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
    Distribution", arXiv:1608.01041, github.com/microsoft/FERPlus.
Layout:
    FER2013 in any of its layouts (see ``fer2013``), with ``fer2013new.csv`` beside it; or the folders that FER+'s
    own ``generate_training_data.py`` writes (see ``ferplus_folders``); or a CSV in FER2013's form with FER+'s codes
    in place of the votes (see ``ferplus_csv``).
Classes:
    the seven and contempt. Votes for "unknown" and "not a face" are no classes: rows on which they win are left out.
Splits:
    those of FER2013: Training, PublicTest, PrivateTest.
Licence:
    votes MIT; images as FER2013.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.files.archives import open_root
from fer_lightning.data.sets.fer2013.fer2013 import UsageDataModule, read_fer2013
from fer_lightning.data.sets.fer2013.fer2013_layout import find_layout
from fer_lightning.data.sets.fer2013.fer2013_rows import Fer2013Rows
from fer_lightning.data.sets.fer2013.ferplus_csv import read_ferplus_csv
from fer_lightning.data.sets.fer2013.ferplus_folders import ferplus_folders, read_ferplus_folders
from fer_lightning.data.sets.fer2013.ferplus_votes import aligned_votes, has_votes
from fer_lightning.data.storage.pixel_csv import USAGES
from fer_lightning.data.table.bad_rows import check_on_error, warn_left_out
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.emotions import EIGHT, FERPLUS_COLUMNS, canonical
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.text import short_path

__all__ = ["FERPlusDataModule", "Target", "Ties", "VotedLabels", "label_votes"]

Target = Literal["majority", "soft", "multi"]
"""What the votes become: the winner; the distribution; every expression with a share of the votes, equally."""
Ties = Literal["drop", "fer2013", "first"]
"""Two winners: leave the row out; take FER2013's label if it is one of them (else leave the row out); the first."""

_REASONS = {"unknown": "most votes say unknown", "NF": "most votes say not a face"}


@dataclass(frozen=True)
class VotedLabels:
    """What the votes say of each row.

    Attributes:
        labels: int64 ``(N,)``: the winner, -1 for rows to leave out.
        soft_labels: float32 ``(N, 8)``, rows sum to 1; zero for rows to leave out.
        reasons: ``(N,)`` strings: why a row is left out, ``""`` for the others.
    """

    labels: NDArray[np.int64]
    soft_labels: NDArray[np.float32]
    reasons: NDArray[np.str_]


def label_votes(
    votes: NDArray[np.int64],
    target: Target = "majority",
    *,
    ties: Ties = "drop",
    fer2013_labels: NDArray[np.int64] | None = None,
    single_votes: bool = False,
    share: float = 0.3,
) -> VotedLabels:
    """Turn votes into labels; the policies are those of ``FERPlusDataModule``.

    Votes are int64 ``(N, 10)``, columns in the order of ``FERPLUS_COLUMNS``; ``fer2013_labels``, int64 ``(N,)`` in
    0..6, serve ``ties="fer2013"``. Barsoum et al. drop single votes as noise, and their share is 0.3.

    Raises:
        ConfigError: for an unknown policy or a share outside 0..1.
    """
    if target not in ("majority", "soft", "multi"):
        raise ConfigError(f"data.target must be majority, soft or multi, not '{target}'")
    if ties not in ("drop", "fer2013", "first"):
        raise ConfigError(f"data.ties must be drop, fer2013 or first, not '{ties}'")
    if not 0 < share <= 1:
        raise ConfigError(f"data.share must be above 0 and at most 1, not {share:g}")
    counted = votes if single_votes else np.where(votes > 1, votes, 0)
    columns = [name for name in FERPLUS_COLUMNS if name not in _REASONS]
    order = [next(c for c, raw in enumerate(FERPLUS_COLUMNS) if raw in columns and canonical(raw) == name)
             for name in EIGHT.class_names]  # fmt: skip
    expressions = counted[:, order]
    reasons = np.full(len(votes), "", "<U40")
    labels = expressions.argmax(axis=1)
    best = expressions.max(axis=1, initial=0)
    winners = expressions == best[:, None]
    tied = np.flatnonzero(winners.sum(axis=1) > 1)
    if ties == "drop":
        reasons[tied] = "the votes are tied"
    elif ties == "fer2013":
        if fer2013_labels is None:
            raise ConfigError("data.ties fer2013 needs FER2013's labels; pass --data.ties drop, or --data.ties first")
        among = winners[tied, fer2013_labels[tied]]
        labels[tied[among]] = fer2013_labels[tied[among]]
        reasons[tied[~among]] = "the votes are tied"
    others = counted[:, [FERPLUS_COLUMNS.index(name) for name in _REASONS]]
    lost = others.max(axis=1) >= np.maximum(best, 1)
    reasons[lost] = np.array(list(_REASONS.values()))[others.argmax(axis=1)][lost]
    reasons[best == 0] = np.where(reasons[best == 0] == "", "no votes for an expression", reasons[best == 0])
    soft = _soft(expressions, labels, target, share)
    out = reasons != ""
    return VotedLabels(np.where(out, -1, labels), np.where(out[:, None], 0, soft).astype(np.float32), reasons)


def _soft(
    expressions: NDArray[np.int64], labels: NDArray[np.int64], target: Target, share: float
) -> NDArray[np.float64]:
    winner = np.eye(expressions.shape[1])[labels]
    total = np.maximum(expressions.sum(axis=1, keepdims=True), 1)
    if target == "soft":
        soft = expressions / total
    elif target == "multi":
        soft = (expressions / total >= share).astype(np.float64)
        soft = np.maximum(soft, winner)
    else:
        soft = winner
    sums = soft.sum(axis=1, keepdims=True)
    return np.where(sums > 0, soft / np.maximum(sums, 1e-9), winner)


class FERPlusDataModule(UsageDataModule):
    """FER2013's images with the labels of FER+; what it is: see this module.

    Args:
        root: FER2013 in any layout, with ``fer2013new.csv`` beside it; or the folder with ``FER2013Train/label.csv``;
            or a CSV ``emotion,pixels,Usage`` whose codes are FER+'s.
        target: ``majority`` (the winner), ``soft`` (the distribution of the votes) or ``multi`` (every expression with
            ``share`` of the votes, equally).
        ties: rows with two winners: ``drop``, ``fer2013`` (FER2013's label decides) or ``first``.
        single_votes: count votes that only one person gave.
        share: for ``multi``.
        **options: of ``UsageDataModule``.
    """

    class_names = EIGHT.class_names

    def __init__(
        self,
        root: str,
        target: Target = "majority",
        ties: Ties = "drop",
        single_votes: bool = False,
        share: float = 0.3,
        **options: Any,
    ) -> None:
        super().__init__(root=root, **options)
        self.target: Target = target
        self.ties: Ties = ties
        self.single_votes = single_votes
        self.share = share

    def scan(self) -> SamplesTable:
        """Read images and votes; rows without a label of their own are left out and counted.

        Returns:
            The table: images uint8 ``(N, 1, 48, 48)``, labels of the eight classes and, unless ``target`` is
            ``majority``, soft labels float32 ``(N, 8)``.

        Raises:
            DataError: if the data set or its votes are missing or malformed, or no row has votes for an expression.
        """
        rows, files, votes, labels, remarks = self._read()
        voted = label_votes(
            votes,
            self.target,
            ties=self.ties,
            fer2013_labels=labels,
            single_votes=self.single_votes,
            share=self.share,
        )
        keep = np.flatnonzero(voted.labels >= 0)
        if not len(keep):
            raise DataError(f"{self.root}: no row has votes for an expression")
        out = np.flatnonzero(voted.labels < 0)
        left_out = [*rows.left_out, *((str(files[row]), str(voted.reasons[row])) for row in out)]
        warn_left_out(f"FER+ of {short_path(Path(self.root))}", left_out)
        return SamplesTable(
            class_names=EIGHT.class_names,
            images=rows.images[keep][:, None],
            labels=voted.labels[keep],
            splits=self.usages.assign(rows, hold_out=self.plan.folds is None)[keep],
            sources=np.array([f"fer2013/{usage}" for usage in USAGES])[rows.usages[keep]],
            files=files[keep],
            digests=rows.digests[keep],
            soft_labels=None if self.target == "majority" else voted.soft_labels[keep],
            left_out=tuple(left_out),
            remarks=remarks,
        )

    def _read(
        self,
    ) -> tuple[Fer2013Rows, NDArray[np.str_], NDArray[np.int64], NDArray[np.int64] | None, tuple[str, ...]]:
        """Return the rows, their files, votes, labels in FER2013 (``None`` where these are not known), and remarks."""
        root = open_root(Path(self.root).expanduser(), self.cache_dir)
        check_on_error(self.on_error)
        if ferplus_folders(root):
            rows, votes = read_ferplus_folders(root, self.on_error, self.cache_dir)
            return rows, rows.places, votes, None, ()
        layout = find_layout(Path(self.root).expanduser(), self.cache_dir)
        if layout.is_csv and not has_votes(layout.votes_folders):
            own = read_ferplus_csv(layout.path, self.on_error, self.cache_dir)
            if own is not None:
                return own[0], layout.files(own[0]), own[1], None, (own[2],)
        layout, rows = read_fer2013(self.root, self.on_error, self.cache_dir)
        return rows, layout.files(rows), aligned_votes(rows, layout), rows.labels, ()
