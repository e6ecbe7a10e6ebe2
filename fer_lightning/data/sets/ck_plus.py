"""CK+: frames of the labelled sequences, in the official layout or as CK+48.

Source:
    Lucey et al. 2010, "The Extended Cohn-Kanade Dataset (CK+)", doi:10.1109/CVPRW.2010.5543262: 593 sequences of 123
    people in a laboratory, from the neutral face to the peak of a posed expression; 327 sequences have a label.
Layout, one of:
    - ``cohn-kanade-images/S005/001/S005_001_00000011.png`` (640x490, head and shoulders) with
      ``Emotion/S005/001/S005_001_00000011_emotion.txt`` (``3.0000000e+00``); the names of the archives,
      ``extended-cohn-kanade-images`` and ``Emotion_labels``, do too;
    - ``anger/S010_004_00000017.png`` and so on (CK+48: the last three frames, 48x48), also in ``CK+48/``; folders
      named by a code are read where it is proven to be the one below (``1`` .. ``7``), else ``mapping`` must say it.
    - ``ckextended.csv``: pixels in FER2013's columns, with codes of its own (see ``ck_plus_csv``).
Classes:
    neutral, angry, contempt, disgust, fear, happy, sad, surprise (codes 0..7). Of a labelled sequence the last frames
    show its expression and the first one is neutral; CK+48 has no neutral faces. With seven classes the 18 sequences of
    contempt are left out and counted; sequences without label always are.
Splits:
    none published. Made by subject (``val_fraction``, ``test_fraction``): frames of a sequence are nearly one image.
    ``ckextended.csv`` brings its own (``Usage``); it does not say who is shown.
Near-duplicates:
    so are its neutral first frame and its peak, the same face under the same light, which ``fer data dedupe`` therefore
    takes for one image with two labels: pass ``--near false``, or leave it for this set.
Columns:
    ``subject`` (``S005``) and ``sequence`` (``S005/001``).
Licence:
    to be asked for: research use, not to be passed on (https://www.jeffcohn.net/resources/).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fer_lightning.data.files.archives import open_root
from fer_lightning.data.files.decode import IMAGE_SUFFIXES
from fer_lightning.data.files.listing import Listing
from fer_lightning.data.files_datamodule import FilesDataModule
from fer_lightning.data.sets.ck_plus_csv import find_ck_csv, scan_ck_csv
from fer_lightning.data.sets.code_meanings import Codes, remark
from fer_lightning.data.sets.fer2013.fer2013_rows import SIDE
from fer_lightning.data.sets.image_folder import class_folders
from fer_lightning.data.sets.raw_codes import list_code_folders, refuse_mapping, scheme_with
from fer_lightning.data.table.bad_rows import WAY_OUT, BadRows, OnError, check_on_error, contents
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.emotions import CKPLUS_CODES, code_of, codes_text, is_expression
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.text import excerpt, one_line, short_path, unreadable

__all__ = ["CKPlusDataModule", "is_ck_plus", "list_ck_plus"]

_IMAGES = ("cohn-kanade-images", "extended-cohn-kanade-images")
_LABELS = ("Emotion", "Emotion_labels")
_SMALL = "CK+48"
_CODES = Codes("CK+", CKPLUS_CODES, stated=False)
_FRAME = re.compile(r"(S\d+)_(\d+)_(\d+)")
_LABEL = re.compile(r"(S\d+_\d+_\d+)_emotion\.txt")


def list_ck_plus(
    root: Path,
    *,
    classes: int = 7,
    peak_frames: int = 3,
    neutral: bool = True,
    on_error: OnError = "raise",
    allow_outside: bool = False,
    mapping: dict[str, str | None] | None = None,
) -> Listing:
    """List CK+, whichever way it lies on disk; layouts and classes stand in this module's docstring.

    The arguments are those of ``CKPlusDataModule``. There are no splits; sources are ``ck_plus``.

    Raises:
        ConfigError: for a wrong argument.
        DataError: if the data set is missing, ambiguous or malformed; the message names the file.
        LabelError: for an unknown class folder, or codes of which nothing shows what they stand for.
    """
    check_on_error(on_error)
    if peak_frames < 1:
        raise ConfigError(f"data.peak_frames must be at least 1, not {peak_frames}")
    names = scheme_with(classes).class_names
    try:
        found = _layouts(root)
        if len(found) != 1:
            raise _no_layout(root, found)
        bad = BadRows(f"{short_path(root, 60)}{os.sep}", on_error)
        if found[0] in (root, root / _SMALL):
            return _list_small(found[0], names, bad, mapping, allow_outside)
        refuse_mapping(mapping, "CK+'s own labels")
        return _list_sequences(root, found[0], _Wanted(names, peak_frames, neutral), bad)
    except OSError as error:
        raise DataError(unreadable(error.filename or root, error)) from None


def is_ck_plus(root: Path) -> bool:
    """Tell whether a folder is laid out like CK+ or CK+48."""
    return bool(_layouts(root))


def _layouts(root: Path) -> list[Path]:
    """Return the folders that hold frames: subjects in the official layout, expressions in CK+48."""
    nested = [root / outer / inner for outer in _IMAGES for inner in _IMAGES if (root / outer / inner).is_dir()]
    flat = [root / name for name in _IMAGES if (root / name).is_dir() and root / name not in {n.parent for n in nested}]
    return [*nested, *flat, *(folder for folder in (root, root / _SMALL) if _is_small(folder))]


def _is_small(folder: Path) -> bool:
    """Tell whether a folder holds folders named by expression or code with frames that are named like those of CK+."""
    try:
        classes = class_folders(folder)
        return all(is_expression(top.name) or code_of(top.name) is not None for _, top in classes) and any(
            _FRAME.fullmatch(path.stem) for _, top in classes for path in islice(top.iterdir(), 20)
        )
    except (DataError, OSError):
        return False


def _no_layout(root: Path, found: list[Path]) -> DataError:
    if not root.is_dir():
        return DataError(one_line(f"{short_path(root)} does not exist or is no folder"))
    if found:
        places = ", ".join(folder.relative_to(root).as_posix() for folder in found)
        return DataError(one_line(f"{short_path(root)} holds CK+ more than once ({places}): remove one, or name it"))
    return DataError(
        one_line(
            f"{short_path(root, 70)}: expected {_IMAGES[0]}/ with {_LABELS[0]}/, or anger/S010_004_00000017.png and so "
            f"on; found {contents(root)}; {WAY_OUT}",
            300,
        )
    )


@dataclass(frozen=True)
class _Wanted:
    """What to take of each sequence."""

    names: tuple[str, ...]
    peak_frames: int
    neutral: bool


@dataclass
class _Frames:
    """Frames chosen so far."""

    paths: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    sequences: list[str] = field(default_factory=list)

    def add(self, sequence: str, paths: list[str], label: int) -> None:
        """Add frames of one expression."""
        self.paths += paths
        self.labels += [label] * len(paths)
        self.sequences += [sequence] * len(paths)

    def listing(self, root: Path, names: tuple[str, ...], left_out: list[tuple[str, str]]) -> Listing:
        """Return them as a listing."""
        return Listing(
            root=root,
            class_names=names,
            paths=np.array(self.paths, np.str_),
            labels=np.array(self.labels, np.int64),
            splits=np.full(len(self.paths), "", "<U5"),
            sources=np.full(len(self.paths), "ck_plus"),
            columns={
                "subject": np.array([sequence.split("/")[0] for sequence in self.sequences], np.str_),
                "sequence": np.array(self.sequences, np.str_),
            },
            left_out=tuple(left_out),
            remarks=(remark("codes of expressions", CKPLUS_CODES, "CK+'s own labels"),),
        )


def _list_sequences(root: Path, images: Path, wanted: _Wanted, bad: BadRows) -> Listing:
    labels = _labels_folder(root)
    chosen = _Frames()
    left_out: list[tuple[str, str]] = []
    sequences = [f"{subject.name}/{session.name}" for subject in _folders(images) for session in _folders(subject)]
    unlabelled = 0
    for sequence in sequences:
        try:
            label = _read_label(labels / sequence)
            if label is None:
                unlabelled += 1
                left_out.append((sequence, "the sequence has no emotion label"))
                continue
            name, frame = label
            if name not in wanted.names:
                left_out.append((sequence, f"{name} is not among the classes"))
                continue
            frames = _frames(images / sequence, frame, wanted)
        except DataError as error:
            bad.add(sequence, error)
            continue
        place = images.relative_to(root).as_posix()
        paths = [f"{place}/{sequence}/{name}" for name in frames]
        if wanted.neutral:
            chosen.add(sequence, paths[:1], wanted.names.index("neutral"))
        chosen.add(sequence, paths[-wanted.peak_frames :], wanted.names.index(name))
    _check_labels_have_images(labels, set(sequences), bad)
    if unlabelled == len(sequences):
        raise DataError(
            one_line(f"{short_path(labels)}: expected S005/001/S005_001_00000011_emotion.txt, found no label")
        )
    bad.check_share(len(sequences) - unlabelled)
    bad.warn()
    return chosen.listing(root, wanted.names, left_out + bad.places)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _labels_folder(root: Path) -> Path:
    nested = [root / outer / inner for outer in _LABELS for inner in _LABELS if (root / outer / inner).is_dir()]
    found = [*nested, *(root / name for name in _LABELS if (root / name).is_dir() and not nested)]
    if len(found) != 1:
        names = " and ".join(path.relative_to(root).as_posix() for path in found) or "neither"
        raise DataError(one_line(f"{short_path(root)}: expected {_LABELS[0]}/ or {_LABELS[1]}/, found {names}"))
    return found[0]


def _read_label(folder: Path) -> tuple[str, str] | None:
    """Return the expression of a sequence and the name of its peak frame, ``None`` where it has no label."""
    files = []
    if folder.is_dir():
        files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if not files:
        return None
    if len(files) > 1:
        raise DataError(f"expected one label, found {files[0].name} and {files[1].name}")
    found = _LABEL.fullmatch(files[0].name)
    if found is None:
        raise DataError(f"expected a label S005_001_00000011_emotion.txt, found {excerpt(files[0].name, 40)}")
    text = files[0].read_bytes()[:100].strip()
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"{files[0].name}: expected a number, found {excerpt(text)}") from None
    if value not in CKPLUS_CODES:
        raise DataError(
            f"{files[0].name}: unknown expression code {excerpt(text)}, expected one of {codes_text(CKPLUS_CODES)}"
        )
    return CKPLUS_CODES[int(value)], found.group(1)


def _frames(folder: Path, peak: str, wanted: _Wanted) -> list[str]:
    """Return the names of a sequence's frames up to its peak, in order; the first and the last ones are different."""
    numbered = []
    for path in folder.iterdir():
        found = _FRAME.fullmatch(path.stem)
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            if found is None or f"{found.group(1)}/{found.group(2)}" != f"{folder.parent.name}/{folder.name}":
                raise DataError(f"expected frames {folder.parent.name}_{folder.name}_<number>.png, found {path.name}")
            numbered.append((int(found.group(3)), path.name, path.stem))
    numbered.sort()
    stems = [stem for _, _, stem in numbered]
    if peak not in stems:
        raise DataError(f"the label is for {peak}, which is not among the {len(stems)} frames")
    frames = [name for _, name, _ in numbered[: stems.index(peak) + 1]]
    needed = wanted.peak_frames + int(wanted.neutral)
    if len(frames) < needed:
        raise DataError(
            f"has {len(frames)} frames up to its peak, {needed} are needed; pass a smaller data.peak_frames"
        )
    return frames


def _check_labels_have_images(labels: Path, sequences: set[str], bad: BadRows) -> None:
    for subject in _folders(labels):
        for session in _folders(subject):
            sequence = f"{subject.name}/{session.name}"
            if sequence not in sequences and any(session.glob("*_emotion.txt")):
                bad.add(f"{labels.name}/{sequence}", DataError("the sequence has a label but no images"))


def _list_small(
    folder: Path,
    names: tuple[str, ...],
    bad: BadRows,
    mapping: dict[str, str | None] | None,
    allow_outside: bool,
) -> Listing:
    """List CK+48; who is shown stands in the names of the files."""
    listing = list_code_folders(folder, _CODES, names, "ck_plus", mapping=mapping, allow_outside=allow_outside)
    sequences = []
    keep = []
    for row, path in enumerate(listing.paths.tolist()):
        found = _FRAME.fullmatch(Path(path).stem)
        if found is None:
            bad.add(path, DataError("expected a name like S010_004_00000017.png, which tells the subject"))
            continue
        keep.append(row)
        sequences.append(f"{found.group(1)}/{found.group(2)}")
    bad.check_share(len(listing.paths))
    bad.warn()
    return replace(
        listing,
        paths=listing.paths[keep],
        labels=listing.labels[keep],
        splits=listing.splits[keep],
        sources=listing.sources[keep],
        columns={
            "subject": np.array([sequence.split("/")[0] for sequence in sequences], np.str_),
            "sequence": np.array(sequences, np.str_),
        },
        left_out=(*listing.left_out, *bad.places),
    )


class CKPlusDataModule(FilesDataModule):
    """CK+ or CK+48; what it is, which frames are taken and its licence: see this module.

    Args:
        root: folder that holds ``cohn-kanade-images/`` and ``Emotion/``, or ``CK+48/``, or this folder itself, or
            ``ckextended.csv``; or a .zip or .tar of it; or the CSV itself.
        classes: 7, or 8 with contempt.
        peak_frames: so many frames at the end of a sequence carry its label.
        neutral: take the first frame of each sequence as neutral; without it, and in CK+48, pass ``allow_empty_class``.
        mapping: in trees of class folders, meanings of codes and of names that are not known, such as
            ``{0: angry, 1: contempt}``; ``null`` leaves a class out.
        **options: of ``FilesDataModule``.
    """

    def __init__(
        self,
        root: str,
        classes: Literal[7, 8] = 7,
        peak_frames: int = 3,
        neutral: bool = True,
        mapping: dict[str, str | None] | None = None,
        **options: Any,
    ) -> None:
        cache_dir = options.get("cache_dir")
        if find_ck_csv(open_root(Path(root).expanduser(), None if cache_dir is None else Path(cache_dir))) is not None:
            self.native_size = SIDE
            self.native_channels = 1
        super().__init__(**options)
        self.root = root
        self.classes = classes
        self.peak_frames = peak_frames
        self.neutral = neutral
        self.mapping = mapping
        self.class_names = scheme_with(classes).class_names

    def scan(self) -> SamplesTable:
        """Read the data set; contempt is left out of seven classes."""
        table = find_ck_csv(self.opened(self.root))
        if table is None:
            return super().scan()
        check_on_error(self.on_error)
        return self.completed(scan_ck_csv(table, self.class_names, self.on_error, self.cache_dir))

    def list_files(self) -> Listing:
        """Read the labels of the sequences."""
        return list_ck_plus(
            self.opened(self.root),
            classes=self.classes,
            peak_frames=self.peak_frames,
            neutral=self.neutral,
            on_error=self.on_error,
            allow_outside=self.allow_outside,
            mapping=self.mapping,
        )
