"""FER2013: finding the data set in any of its layouts, and its samples table.

Source:
    Goodfellow et al. 2013, "Challenges in Representation Learning", arXiv:1307.0414: 35,887 gray faces of 48x48 pixels,
    gathered by web search with emotion words; people agree with the labels about two times in three.
Layout, one of:
    - ``fer2013.csv`` (``emotion,pixels,Usage``), ``icml_face_data.csv`` (``emotion, Usage, pixels``) or any CSV with
      these columns;
    - ``train/<emotion>/Training_<row>.png`` and ``test/<emotion>/PublicTest_<row>.png``, also ``validation/``;
    - beside either, for soft labels, the FER+ votes ``fer2013new.csv`` (Barsoum et al. 2016, arXiv:1608.01041).
Classes:
    angry, disgust, fear, happy, sad, surprise, neutral (codes 0..6).
Splits:
    official: Training 28,709, PublicTest 3,589, PrivateTest 3,589. About 8 % of the images of each test part also stand
    in Training, pixel for pixel (279 of PublicTest); they stay unless they are asked to be dropped.
Licence:
    none stated by its authors, and the images are other people's: research use, not to be passed on. FER+ votes: MIT.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.bad_rows import BadRows, OnError, check_on_error, excerpt, one_line, short_path
from fer_lightning.data.cache import cached_arrays, file_digest, listing_digest
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.fer2013_csv import has_fer2013_header, read_csv_rows
from fer_lightning.data.fer2013_folder import read_folder_rows, top_folders
from fer_lightning.data.fer2013_rows import USAGES, Fer2013Rows, usage_code
from fer_lightning.data.ferplus import find_votes
from fer_lightning.data.ferplus import soft_labels as ferplus_soft_labels
from fer_lightning.data.samples import SPLITS, SamplesTable
from fer_lightning.data.splits import grouped_stratified_holdout
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError, DataError

__all__ = ["FER2013DataModule", "scan_fer2013"]

_LOG = logging.getLogger(__name__)
_CACHE_FORMAT = 1  # raise it whenever the same files would be read into other arrays
_CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")


def scan_fer2013(
    root: str | Path,
    *,
    soft_labels: bool = False,
    train: str = "Training",
    val: str = "PublicTest",
    test: str = "PrivateTest",
    holdout_fraction: float = 0.1,
    split_seed: int = 0,
    on_error: OnError = "raise",
    cache_dir: str | Path | None = None,
) -> SamplesTable:
    """Read FER2013, whichever way it lies on disk; layouts, splits and licence stand in this module's docstring.

    Args:
        root: folder of the data set, or its CSV file.
        soft_labels: read the FER+ votes as well.
        train: usage to train on: ``Training``, ``PublicTest``, ``PrivateTest``, several joined by ``+``, or ``none``.
        val: the same for validation, or ``holdout``: training rows, stratified, identical images kept together.
        test: the same for testing.
        holdout_fraction: share of the training rows that ``holdout`` takes, above 0 and below 1.
        split_seed: chooses which rows ``holdout`` takes.
        on_error: ``raise`` stops at the first bad row; ``skip`` leaves bad rows out and logs how many and why.
        cache_dir: where the parsed images are kept; ``None`` for the user's cache folder.

    Returns:
        The table: images uint8 ``(N, 1, 48, 48)``, sources ``fer2013/<Usage>``, files ``fer2013.csv#<line>`` or paths
        relative to ``root``. A usage that the data lacks gives an empty split.

    Raises:
        ConfigError: for an unknown usage, one that serves two splits, or a wrong fraction.
        DataError: if the data set is missing, ambiguous or malformed; the message names file and line.
        LabelError: for an unknown emotion code or class folder.
    """
    check_on_error(on_error)
    parts = _split_usages(train, val, test)
    holdout = _is_holdout(val)
    if holdout and not (parts["train"] and 0 < holdout_fraction < 1):
        wanted = "a usage to train on and a holdout_fraction above 0 and below 1"
        raise ConfigError(f"val 'holdout' needs {wanted}, not train {excerpt(train)} and {holdout_fraction:g}")
    try:
        layout = _find_layout(Path(root).expanduser())
        rows = _read(layout, on_error, None if cache_dir is None else Path(cache_dir))
        soft = _read_soft_labels(layout, rows) if soft_labels else None
    except OSError as error:
        raise DataError(one_line(f"{error.filename or root}: cannot be read ({error.strerror or error})")) from None
    splits = _assign(rows.usages, parts)
    if holdout:
        _hold_out(rows, splits, holdout_fraction, split_seed)
    return SamplesTable(
        class_names=SEVEN.class_names,
        images=rows.images[:, None],
        labels=rows.labels,
        splits=splits,
        sources=np.array([f"fer2013/{usage}" for usage in USAGES])[rows.usages],
        files=layout.files(rows),
        digests=rows.digests,
        soft_labels=soft,
    )


def _is_holdout(val: str) -> bool:
    return val.strip().lower() == "holdout"


def _split_usages(train: str, val: str, test: str) -> dict[str, list[int]]:
    """Return the usages of each split, as positions in :data:`.USAGES`.

    Raises:
        ConfigError: for an unknown usage or one that serves two splits.
    """
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


def _assign(usages: NDArray[np.int64], parts: dict[str, list[int]]) -> NDArray[np.str_]:
    """Return the split of each row by its usage, ``(N,)``."""
    split_of = np.full(len(USAGES), "", "<U5")
    for split, codes in parts.items():
        split_of[codes] = split
    return split_of[usages]


def _hold_out(rows: Fer2013Rows, splits: NDArray[np.str_], fraction: float, seed: int) -> None:
    """Move a part of the training rows to validation, in place."""
    chosen = np.flatnonzero(splits == "train")
    held = grouped_stratified_holdout(rows.labels[chosen], rows.digests[chosen], fraction, seed)
    splits[chosen[held]] = "val"


@dataclass(frozen=True)
class _Layout:
    """Where the data set is and how it is laid out: one file, or a folder of images."""

    path: Path
    is_csv: bool

    @property
    def prefix(self) -> str:
        """What stands before each complaint about a row."""
        return f"{short_path(self.path)}, " if self.is_csv else f"{short_path(self.path)}{os.sep}"

    @property
    def votes_folders(self) -> list[Path]:
        """Where the file of FER+ votes may be, in this order."""
        folder = self.path.parent if self.is_csv else self.path
        return [folder, folder.resolve().parent]

    def digest(self) -> str:
        """Digest of the content, or of names, sizes and times of a folder's files."""
        if self.is_csv:
            return file_digest(self.path)
        return "-".join(f"{top.name}-{listing_digest(top)}" for top in top_folders(self.path))

    def files(self, rows: Fer2013Rows) -> NDArray[np.str_]:
        """Name of each row, ``(N,)``."""
        if not self.is_csv:
            return rows.places
        return np.char.add(f"{self.path.name}#", rows.places)


def _find_layout(root: Path) -> _Layout:
    if root.is_file():
        return _Layout(root, is_csv=True)
    looked_for = f"{' or '.join(_CSV_NAMES)} (or a CSV with the columns emotion, pixels, Usage), or train/<emotion>/"
    if not root.is_dir():
        raise DataError(one_line(f"{short_path(root)} does not exist; expected a folder with {looked_for}"))
    tables = [
        path
        for path in sorted(root.iterdir())
        if path.is_file() and (path.name in _CSV_NAMES or (path.suffix.lower() == ".csv" and has_fer2013_header(path)))
    ]
    tops = top_folders(root)
    found = [*(path.name for path in tables), *(f"{path.name}/" for path in tops)]
    if len(tables) > 1 or (tables and tops):
        raise DataError(
            one_line(
                f"{short_path(root)} holds FER2013 more than once ({', '.join(found)}): name the CSV, or remove one"
            )
        )
    if not found:
        present = sorted(path.name + ("/" if path.is_dir() else "") for path in root.iterdir())
        shown = one_line(", ".join(present[:6]), 60) + (", ..." if len(present) > 6 else "")
        raise DataError(one_line(f"{short_path(root, 70)}: expected {looked_for}; found {shown or 'nothing'}"))
    return _Layout(tables[0], is_csv=True) if tables else _Layout(root, is_csv=False)


def _read(layout: _Layout, on_error: OnError, cache_dir: Path | None) -> Fer2013Rows:
    """Return the rows from the cache or from the files, and say again what is wrong with them."""
    read: Callable[[Path, OnError], Fer2013Rows] = read_csv_rows if layout.is_csv else read_folder_rows
    form = "csv" if layout.is_csv else "folder"
    key = f"fer2013-{form}-v{_CACHE_FORMAT}-{on_error}-{layout.digest()}"
    rows = Fer2013Rows(**cached_arrays(key, lambda: read(layout.path, on_error).arrays(), cache_dir))
    bad = BadRows(layout.prefix, on_error)
    bad.count, bad.reasons = int(rows.bad_count), rows.bad_reasons.tolist()
    bad.warn()
    if not layout.is_csv:
        _warn_of_guessed_usages(layout.path, rows)
    return rows


def _warn_of_guessed_usages(root: Path, rows: Fer2013Rows) -> None:
    prefixes = tuple(f"{usage}_" for usage in USAGES)
    guessed = sum(not place.rpartition("/")[2].startswith(prefixes) for place in rows.places.tolist())
    if guessed:
        _LOG.warning(
            "%s: the names of %s of %s images do not begin with %s: their official part is not known; "
            "train/ is taken for Training, validation/ for PublicTest, test/ for PrivateTest",
            short_path(root),
            f"{guessed:,}",
            f"{len(rows.places):,}",
            ", ".join(prefixes),
        )


def _read_soft_labels(layout: _Layout, rows: Fer2013Rows) -> NDArray[np.float32]:
    return ferplus_soft_labels(rows, layout.path, find_votes(layout.votes_folders), whole_file=layout.is_csv)


class FER2013DataModule(EmotionDataModule):
    """FER2013 in any of its layouts; what it is, where its splits come from and its licence: see this module.

    Args:
        root: folder with ``fer2013.csv``, ``icml_face_data.csv`` or ``train/`` and ``test/``; or the CSV itself.
        soft_labels: train on the FER+ votes, from ``fer2013new.csv`` beside the data.
        train: usage to train on: ``Training``, ``PublicTest``, ``PrivateTest``, several joined by ``+``.
        val: the same for validation, or ``holdout`` for a part of the training rows.
        test: the same for testing.
        holdout_fraction: share of the training rows that ``holdout`` takes.
        split_seed: chooses which rows ``holdout`` takes.
        on_error: ``raise`` stops at the first bad row; ``skip`` leaves bad rows out and counts them.
        **options: of :class:`.EmotionDataModule`.
    """

    native_mean = (0.5077,)  # of the 28,709 Training images
    native_std = (0.2550,)

    def __init__(
        self,
        root: str,
        soft_labels: bool = False,
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
        self.soft_labels = soft_labels
        self.usages = {"train": train, "val": val, "test": test}
        self.holdout_fraction = holdout_fraction
        self.split_seed = split_seed
        self.on_error: OnError = on_error

    def scan(self) -> SamplesTable:
        """Read the data set."""
        return scan_fer2013(
            self.root,
            soft_labels=self.soft_labels,
            holdout_fraction=self.holdout_fraction,
            split_seed=self.split_seed,
            on_error=self.on_error,
            cache_dir=self.cache_dir,
            **self.usages,
        )
