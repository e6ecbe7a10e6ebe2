"""FER2013: finding the data set in any of its layouts, and its samples table.

Source:
    Goodfellow et al. 2013, "Challenges in Representation Learning", arXiv:1307.0414: 35,887 gray faces of 48x48 pixels,
    gathered by web search with emotion words; people agree with the labels about two times in three.
Layout, one of:
    - ``fer2013.csv`` (``emotion,pixels,Usage``), ``icml_face_data.csv`` (``emotion, Usage, pixels``) or any CSV with
      these columns; of ``emotion,pixels`` alone, as the challenge's ``train.csv``, all rows are Training;
    - ``train/<emotion>/Training_<row>.png`` and ``test/<emotion>/PublicTest_<row>.png``, also ``validation/``, the
      folders named by expression or by code;
    - either in an archive (``fer2013.tar.gz``, .zip), or compressed (``fer2013.csv.gz``);
    - beside any of them, for soft labels, the FER+ votes ``fer2013new.csv`` (Barsoum et al. 2016, arXiv:1608.01041).
Classes:
    angry, disgust, fear, happy, sad, surprise, neutral (codes 0..6).
Splits:
    official: Training 28,709, PublicTest 3,589, PrivateTest 3,589. About 8 % of the images of each test part also stand
    in Training, pixel for pixel (279 of PublicTest); they stay unless they are asked to be dropped.
Licence:
    none stated by its authors, and the images are other people's: research use, not to be passed on. FER+ votes: MIT.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.sets.fer2013.fer2013_csv import lacks_usage
from fer_lightning.data.sets.fer2013.fer2013_layout import Layout, find_layout, read_layout
from fer_lightning.data.sets.fer2013.fer2013_rows import Fer2013Rows, usage_code
from fer_lightning.data.sets.fer2013.ferplus_votes import aligned_votes, votes_to_soft_labels
from fer_lightning.data.splitting.splits import grouped_stratified_holdout
from fer_lightning.data.storage.pixel_csv import USAGES
from fer_lightning.data.table.bad_rows import OnError, check_on_error
from fer_lightning.data.table.samples import SPLITS, SamplesTable
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.text import excerpt, one_line, short_path, unreadable

__all__ = ["FER2013DataModule", "UsageDataModule", "UsageSplits", "read_fer2013", "scan_fer2013"]


class UsageSplits:
    """Which official parts serve which split; the arguments are those of ``UsageDataModule``.

    Raises:
        ConfigError: for an unknown usage, one that serves two splits, or a wrong fraction.
    """

    def __init__(
        self,
        train: str = "Training",
        val: str = "PublicTest",
        test: str = "PrivateTest",
        holdout_fraction: float = 0.1,
        split_seed: int = 0,
    ) -> None:
        self.parts = _split_usages(train, val, test)
        self.fraction = holdout_fraction if _is_holdout(val) else None
        self.seed = split_seed
        if self.fraction is not None and not (self.parts["train"] and 0 < holdout_fraction < 1):
            wanted = "a usage to train on and a holdout_fraction above 0 and below 1"
            raise ConfigError(f"val 'holdout' needs {wanted}, not train {excerpt(train)} and {holdout_fraction:g}")

    def assign(self, rows: Fer2013Rows, hold_out: bool = True) -> NDArray[np.str_]:
        """Return the split of each row, ``(N,)``; without ``hold_out`` no training row is taken for validation."""
        split_of = np.full(len(USAGES), "", "<U5")
        for split, codes in self.parts.items():
            split_of[codes] = split
        splits = split_of[rows.usages]
        if self.fraction is not None and hold_out:
            chosen = np.flatnonzero(splits == "train")
            held = grouped_stratified_holdout(rows.labels[chosen], rows.digests[chosen], self.fraction, self.seed)
            splits[chosen[held]] = "val"
        return splits


def _is_holdout(val: str) -> bool:
    return val.strip().lower() == "holdout"


def _split_usages(train: str, val: str, test: str) -> dict[str, list[int]]:
    """Return the usages of each split, as positions in ``USAGES``."""
    parts = {
        split: _parse_usages(split, "none" if split == "val" and _is_holdout(text) else text)
        for split, text in zip(SPLITS, (train, val, test), strict=True)
    }
    for code, usage in enumerate(USAGES):
        serving = [split for split, codes in parts.items() if code in codes]
        if len(serving) > 1:
            raise ConfigError(f"usage {usage} serves both {serving[0]} and {serving[1]}; expected one split at most")
    return parts


def _parse_usages(split: str, text: str) -> list[int]:
    if text.strip().lower() in ("", "none"):
        return []
    codes = []
    for name in text.split("+"):
        code = usage_code(name)
        if code is None:
            special = ", 'holdout'" if split == "val" else ""
            raise ConfigError(
                one_line(
                    f"{split}: unknown usage {excerpt(name)}, expected {', '.join(USAGES)}, several joined by '+'"
                    f"{special}, or 'none'"
                )
            )
        codes.append(code)
    return codes


def scan_fer2013(
    root: str | Path,
    usages: UsageSplits | None = None,
    *,
    soft_labels: bool = False,
    on_error: OnError = "raise",
    cache_dir: str | Path | None = None,
    hold_out: bool = True,
) -> SamplesTable:
    """Read FER2013, whichever way it lies on disk; layouts, splits and licence stand in this module's docstring.

    The arguments are those of ``read_fer2013`` and ``FER2013DataModule``; without ``hold_out`` the validation
    ``holdout`` leaves its rows in training.

    Returns:
        The table: images uint8 ``(N, 1, 48, 48)``, sources ``fer2013/<Usage>``, files ``fer2013.csv#<line>`` or paths
        relative to ``root``. A usage that the data lacks gives an empty split.

    Raises:
        DataError: if the data set is missing, ambiguous or malformed; the message names file and line.
        LabelError: for an unknown emotion code or class folder.
    """
    layout, rows = read_fer2013(root, on_error, cache_dir)
    soft = votes_to_soft_labels(aligned_votes(rows, layout), rows.labels) if soft_labels else None
    return SamplesTable(
        class_names=SEVEN.class_names,
        images=rows.images[:, None],
        labels=rows.labels,
        splits=(UsageSplits() if usages is None else usages).assign(rows, hold_out),
        sources=np.array([f"fer2013/{usage}" for usage in USAGES])[rows.usages],
        files=layout.files(rows),
        digests=rows.digests,
        soft_labels=soft,
        left_out=rows.left_out,
        remarks=(*layout.remarks, *_remarks(layout)),
    )


def _remarks(layout: Layout) -> tuple[str, ...]:
    """Return what is to be told of a file that does not say which part its rows belong to."""
    if not (layout.is_csv and lacks_usage(layout.path)):
        return ()
    return (f"{short_path(layout.path)} has no column Usage: all rows are taken for Training",)


def read_fer2013(
    root: str | Path, on_error: OnError = "raise", cache_dir: str | Path | None = None
) -> tuple[Layout, Fer2013Rows]:
    """Find the data set, in a folder, an archive or a CSV, and read it; raises what ``scan_fer2013`` raises."""
    check_on_error(on_error)
    try:
        cache = None if cache_dir is None else Path(cache_dir)
        layout = find_layout(Path(root).expanduser(), cache)
        return layout, read_layout(layout, on_error, cache)
    except OSError as error:
        raise DataError(unreadable(error.filename or root, error)) from None


class UsageDataModule(EmotionDataModule):
    """Base of the data modules that take their rows from FER2013.

    Args:
        root: folder with ``fer2013.csv``, ``icml_face_data.csv`` or ``train/`` and ``test/``; the CSV itself; or an
            archive of either.
        train: usage to train on: ``Training``, ``PublicTest``, ``PrivateTest``, several joined by ``+``, or ``none``.
        val: the same for validation, or ``holdout``: training rows, stratified, identical images kept together.
        test: the same for testing.
        holdout_fraction: share of the training rows that ``holdout`` takes, above 0 and below 1.
        split_seed: chooses which rows ``holdout`` takes.
        on_error: ``raise`` stops at the first bad row; ``skip`` leaves bad rows out and counts them.
        **options: of ``EmotionDataModule``.
    """

    native_mean = (0.5077,)  # of the 28,709 Training images
    native_std = (0.2550,)

    def __init__(
        self,
        root: str,
        train: str = "Training",
        val: str = "PublicTest",
        test: str = "PrivateTest",
        holdout_fraction: float = 0.1,
        split_seed: int = 0,
        on_error: OnError = "raise",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = root
        self.usages = UsageSplits(train, val, test, holdout_fraction, split_seed)
        self.on_error: OnError = on_error

    @property
    def split_options(self) -> dict[str, str]:
        """The options that make up for a part that is not there: a test part is then that of validation."""
        return {"val": "--data.val holdout", "test": "--data.val holdout --data.test PublicTest"}


class FER2013DataModule(UsageDataModule):
    """FER2013 in any of its layouts; what it is, where its splits come from and its licence: see this module.

    Args:
        root: folder with ``fer2013.csv``, ``icml_face_data.csv`` or ``train/`` and ``test/``; the CSV itself; or an
            archive of either.
        soft_labels: train on the FER+ votes, from ``fer2013new.csv`` beside the data.
        **options: of ``UsageDataModule``.
    """

    def __init__(self, root: str, soft_labels: bool = False, **options: Any) -> None:
        super().__init__(root=root, **options)
        self.soft_labels = soft_labels

    def scan(self) -> SamplesTable:
        """Read the data set."""
        return scan_fer2013(
            self.root,
            self.usages,
            soft_labels=self.soft_labels,
            on_error=self.on_error,
            cache_dir=self.cache_dir,
            hold_out=self.plan.folds is None,  # else a fold will be held out
        )
