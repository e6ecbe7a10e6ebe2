"""AffectNet: finding the data set in any of its layouts, and its listing.

Source:
    Mollahosseini et al. 2019, "AffectNet: A Database for Facial Expression, Valence, and Arousal Computing in the
    Wild", arXiv:1708.03985: faces found by web search with 1,250 emotion words in six languages, labelled by one person
    each; where two looked, they agreed on 60.7 % of the images.
Layout, one of:
    - ``train_set/images/<number>.jpg`` with ``train_set/annotations/<number>_exp.npy``, ``_val.npy`` and ``_aro.npy``,
      and ``val_set/`` likewise (224x224, cropped);
    - ``Manually_Annotated_file_lists/training.csv`` and ``validation.csv`` (``subDirectory_filePath, face_x, face_y,
      face_width, face_height, facial_landmarks, expression, valence, arousal``) with ``Manually_Annotated_Images/`` or
      ``Manually_Annotated/Manually_Annotated_Images/``; the face box is cut out;
    - ``train/<class>/*.jpg``, ``val/<class>/*.jpg``, ``test/<class>/*.jpg``, or ``<class>/*.jpg`` alone, with classes
      by name or by code (``0`` .. ``7``), as they are passed around. Some copies have the codes below, others count the
      names in alphabetical order: codes are read where the numbers of images or a table beside them prove which (see
      ``code_evidence``), else ``mapping`` must say it.
    The automatically annotated part is not used: a network labelled it.
Classes:
    neutral, happy, sad, surprise, fear, disgust, angry, contempt (codes 0..7); 8 none, 9 uncertain and 10 no face are
    left out and counted, and so is contempt where seven classes are asked for.
Splits:
    official: 287,651 training images (283,901 without contempt) and 500 validation images of each class. The test part
    was never published, so that papers report the validation set: ``official_val: test`` uses it for that alone.
Columns:
    ``valence`` and ``arousal`` in -1..1, NaN where unknown (-2 in the official files); none in trees of folders.
Licence:
    to be asked for by institutions: research use, not to be passed on (http://mohammadmahoor.com/affectnet/).
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fer_lightning.data.files.decode import IMAGE_SUFFIXES
from fer_lightning.data.files.listing import Listing
from fer_lightning.data.files.tree import split_of_folder
from fer_lightning.data.files_datamodule import FilesDataModule
from fer_lightning.data.sets.affectnet.affectnet_layouts import (
    AffectNetRows,
    is_file_list,
    read_annotations,
    read_file_list,
)
from fer_lightning.data.sets.code_meanings import Codes, remark
from fer_lightning.data.sets.raw_codes import is_tree_of, list_code_folders, refuse_mapping, scheme_with
from fer_lightning.data.table.bad_rows import WAY_OUT, BadRows, OnError, check_on_error, contents
from fer_lightning.emotions import AFFECTNET_CODES, CODE_TABLES, code_of, is_expression
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.text import one_line, short_path, unreadable

__all__ = ["NO_EXPRESSION", "AffectNetDataModule", "OfficialVal", "is_affectnet", "list_affectnet"]

OfficialVal = Literal["val", "test"]
"""What the official validation set is used for."""

NO_EXPRESSION = {8: "none (no expression of the eight)", 9: "uncertain", 10: "no face"}
"""Codes that are no expressions."""

_NO_CLASS = {str(code): reason for code, reason in NO_EXPRESSION.items()} | {
    "none": NO_EXPRESSION[8], "uncertain": NO_EXPRESSION[9], "no-face": NO_EXPRESSION[10],
    "no face": NO_EXPRESSION[10], "noface": NO_EXPRESSION[10], "non-face": NO_EXPRESSION[10],
}  # fmt: skip
_CODES = Codes("AffectNet", CODE_TABLES["AffectNet"], stated=False)
_PARTS = {"training": ("train_set", "training.csv"), "validation": ("val_set", "validation.csv")}
_LISTS = "Manually_Annotated_file_lists"
_IMAGES = ("Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images")
_LOG = logging.getLogger(__name__)


def list_affectnet(
    root: Path,
    *,
    classes: int = 7,
    official_val: str = "val",
    on_error: OnError = "raise",
    cache_dir: Path | None = None,
    allow_outside: bool = False,
    mapping: dict[str, str | None] | None = None,
) -> Listing:
    """List AffectNet, whichever way it lies on disk; layouts and splits stand in this module's docstring.

    The arguments are those of ``AffectNetDataModule``. Sources are ``affectnet/training`` and
    ``affectnet/validation``, in trees ``affectnet``.

    Raises:
        ConfigError: for a wrong argument.
        DataError: if the data set is missing, ambiguous or malformed; the message names the file.
        LabelError: for an unknown class folder, or codes of which nothing shows what they stand for.
    """
    check_on_error(on_error)
    if official_val not in ("val", "test"):
        raise ConfigError(f"data.official_val must be 'val' or 'test', not '{official_val}'")
    names = scheme_with(classes).class_names
    try:
        layout = _find_layout(root)
        if layout == "folders":
            return _list_folders(root, names, official_val, mapping, allow_outside)
        refuse_mapping(mapping, "AffectNet's own annotation")
        read = _read_annotated if layout == "annotations" else _read_listed
        return _listing(root, names, official_val, read(root, cache_dir), on_error)
    except OSError as error:
        raise DataError(unreadable(error.filename or root, error)) from None


def is_affectnet(root: Path) -> bool:
    """Tell whether a folder is laid out like AffectNet: officially, or as a tree whose codes are proven to be its."""
    return bool(_official(root)) or is_tree_of(root, _CODES)


def _official(root: Path) -> dict[str, str]:
    """Return the official layouts that a folder holds, and what tells so."""
    found: dict[str, str] = {}
    for tops, _ in _PARTS.values():
        if (root / tops / "annotations").is_dir():
            found.setdefault("annotations", f"{tops}/annotations/")
    for _, name in _PARTS.values():
        for place in (f"{_LISTS}/{name}", name):
            if (root / place).is_file() and (place != name or is_file_list(root / name)):
                found.setdefault("lists", place)
    return found


def _find_layout(root: Path) -> str:
    if not root.is_dir():
        raise DataError(one_line(f"{short_path(root)} does not exist or is no folder"))
    found = _official(root)
    present = sorted(path.name + ("/" if path.is_dir() else "") for path in root.iterdir())
    own = {f"{top}/" for top, _ in _PARTS.values()} if "annotations" in found else set()
    classes = [name for name in present if name.endswith("/") and _is_class_or_split(name[:-1]) and name not in own]
    if classes:
        found["folders"] = classes[0]
    if len(found) > 1:
        places = ", ".join(found.values())
        raise DataError(
            one_line(f"{short_path(root)} holds AffectNet more than once ({places}): remove one, or name it")
        )
    if not found:
        auto = any(name.lower().startswith("automatically_annotated") for name in present)
        raise DataError(
            one_line(
                f"{short_path(root, 50)}: expected train_set/images/ with train_set/annotations/, "
                f"{_LISTS}/training.csv, or train/<class>/; found {contents(root)}"
                f"{' (the automatically annotated part is not used)' if auto else ''}; {WAY_OUT}",
                350,
            )
        )
    return next(iter(found))


def _is_class_or_split(name: str) -> bool:
    return is_expression(name) or split_of_folder(name) is not None or code_of(name) is not None


def _list_folders(
    root: Path,
    names: tuple[str, ...],
    official_val: str,
    mapping: dict[str, str | None] | None,
    allow_outside: bool,
) -> Listing:
    listing = list_code_folders(
        root, _CODES, names, "affectnet", _NO_CLASS, mapping=mapping, allow_outside=allow_outside
    )
    if official_val == "val":
        return listing
    if (listing.splits == "test").any():
        raise ConfigError("data.official_val 'test': this tree has a test folder of its own; take 'val'")
    return replace(listing, splits=np.where(listing.splits == "val", "test", listing.splits))


@dataclass(frozen=True)
class _Part:
    """One official part: its rows, where they stand, and the path of each image."""

    name: str
    rows: AffectNetRows
    paths: list[str]
    places: list[str]
    absent: list[tuple[str, str]]


def _read_annotated(root: Path, cache_dir: Path | None) -> list[_Part]:
    parts = []
    for name, (top, _) in _PARTS.items():
        folder = root / top
        if not folder.is_dir():
            _LOG.warning("%s: %s/ is missing, so there is no official %s set", short_path(root), top, name)
            continue
        for inner in ("images", "annotations"):
            if not (folder / inner).is_dir():
                raise DataError(
                    one_line(f"{short_path(folder)}: expected images/ and annotations/, {inner}/ is missing")
                )
        rows = read_annotations(folder / "annotations", cache_dir)
        parts.append(_match_images(root, top, name, rows))
    return parts


def _match_images(root: Path, top: str, name: str, rows: AffectNetRows) -> _Part:
    """Bring annotations and images together; whatever has no counterpart is a bad row."""
    with os.scandir(root / top / "images") as entries:
        files = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    absent: list[tuple[str, str]] = []
    images: dict[str, str] = {}
    for file in files:
        stem, suffix = os.path.splitext(file)
        if suffix.lower() not in IMAGE_SUFFIXES:
            absent.append((f"{top}/images/{file}", ""))
        elif stem in images:
            absent.append((f"{top}/images/{file}", f"expected one image of this number, found {images[stem]} too"))
        else:
            images[stem] = file
    numbers = set(rows.names.tolist())
    counts = f"{len(images):,} images, {len(numbers):,} annotations"
    for stem, file in images.items():
        if stem not in numbers:
            absent.append((f"{top}/images/{file}", f"annotations/{stem}_exp.npy is missing ({counts})"))
    paths = [f"{top}/images/{images[stem]}" if stem in images else "" for stem in rows.names.tolist()]
    places = []
    for number, path in zip(rows.names.tolist(), paths, strict=True):
        places.append(path or f"{top}/annotations/{number}_exp.npy")
        if not path:
            absent.append((places[-1], f"images/{number}.jpg is missing ({counts})"))
    return _Part(name, rows, paths, places, absent)


def _read_listed(root: Path, cache_dir: Path | None) -> list[_Part]:
    images = [folder for folder in _IMAGES if (root / folder).is_dir()]
    if len(images) != 1:
        found = "both" if images else "neither"
        raise DataError(one_line(f"{short_path(root)}: expected {_IMAGES[0]}/ or {_IMAGES[1]}/, found {found}"))
    parts = []
    for name, (_, file) in _PARTS.items():
        lists = [place for place in (f"{_LISTS}/{file}", file) if (root / place).is_file()]
        if len(lists) > 1:
            raise DataError(f"{short_path(root)} holds {file} more than once ({', '.join(lists)}): remove one")
        if not lists:
            _LOG.warning("%s: %s is missing, so there is no official %s set", short_path(root), file, name)
            continue
        rows = read_file_list(root / lists[0], cache_dir)
        paths = [f"{images[0]}/{path}" for path in rows.names.tolist()]
        parts.append(_Part(name, rows, paths, [f"{lists[0]}, line {line}" for line in rows.lines.tolist()], []))
    return parts


def _listing(root: Path, names: tuple[str, ...], official_val: str, parts: list[_Part], on_error: OnError) -> Listing:
    """Put the parts together: bad rows are raised or counted, what shows no wanted expression is counted."""
    bad = BadRows(f"{short_path(root)}{os.sep}", on_error)
    label_of = [names.index(name) if name in names else -1 for name in AFFECTNET_CODES.values()]
    left_out: list[tuple[str, str]] = []
    kept: list[tuple[_Part, int, int]] = []
    for part in parts:
        kept += _kept_rows(part, label_of, bad, left_out)
    bad.check_share(sum(len(part.paths) + len(part.absent) for part in parts))
    bad.warn()
    if not kept:
        raise DataError(f"{short_path(root)}: found no image of {', '.join(names)}")
    split_of = {"training": "train", "validation": official_val}
    with_boxes = any(len(part.rows.boxes) for part in parts)
    return Listing(
        root=root,
        class_names=names,
        paths=np.array([part.paths[row] for part, row, _ in kept], np.str_),
        labels=np.array([label for _, _, label in kept], np.int64),
        splits=np.array([split_of[part.name] for part, _, _ in kept], "<U5"),
        sources=np.array([f"affectnet/{part.name}" for part, _, _ in kept]),
        boxes=np.array([part.rows.boxes[row] for part, row, _ in kept], np.int64) if with_boxes else None,
        columns={
            "valence": np.array([part.rows.valence[row] for part, row, _ in kept], np.float64),
            "arousal": np.array([part.rows.arousal[row] for part, row, _ in kept], np.float64),
        },
        left_out=(*left_out, *bad.places),
        remarks=(remark("codes of expressions", AFFECTNET_CODES, "AffectNet's own annotation"),),
    )


def _kept_rows(
    part: _Part, label_of: list[int], bad: BadRows, left_out: list[tuple[str, str]]
) -> list[tuple[_Part, int, int]]:
    """Return (part, row, label) of the rows to use."""
    for place, reason in part.absent:
        if reason:
            bad.add(place, DataError(reason))
        else:
            left_out.append((place, "not an image by its name"))
    kept: list[tuple[_Part, int, int]] = []
    seen: dict[tuple[str, bytes], tuple[int, str]] = {}
    rows = part.rows
    for row, (path, code, error) in enumerate(zip(part.paths, rows.codes.tolist(), rows.errors.tolist(), strict=True)):
        if not path:
            continue  # noted above
        if error:
            bad.add(part.places[row], DataError(error))
        elif code in NO_EXPRESSION:
            left_out.append((path, NO_EXPRESSION[code]))
        elif label_of[code] < 0:
            left_out.append((path, f"{AFFECTNET_CODES[code]} is not among the classes"))
        else:
            box = rows.boxes[row].tobytes() if len(rows.boxes) else b""
            before, place = seen.setdefault((path, box), (code, part.places[row]))
            if place == part.places[row]:
                kept.append((part, row, label_of[code]))
            elif before == code:
                left_out.append((part.places[row], "the same image stands above"))
            else:
                bad.add(part.places[row], DataError(f"the image stands in {place} with another expression"))
    return kept


class AffectNetDataModule(FilesDataModule):
    """AffectNet in any of its layouts; what it is, where its splits come from and its licence: see this module.

    Args:
        root: folder with ``train_set/`` and ``val_set/``, with ``Manually_Annotated_file_lists/``, or with ``train/``
            and ``val/``; or a .zip or .tar of it.
        classes: 7, or 8 with contempt.
        official_val: what the official validation set is used for: ``val``, or ``test`` (validation is then held out of
            training).
        mapping: in trees of class folders, meanings of codes and of names that are not known, such as
            ``{0: angry, 1: contempt}``; ``null`` leaves a class out.
        **options: of ``FilesDataModule``.
    """

    def __init__(
        self,
        root: str,
        classes: Literal[7, 8] = 7,
        official_val: OfficialVal = "val",
        mapping: dict[str, str | None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.root = root
        self.classes = classes
        self.official_val = official_val
        self.mapping = mapping
        self.class_names = scheme_with(classes).class_names

    def list_files(self) -> Listing:
        """Read the annotations."""
        return list_affectnet(
            self.opened(self.root),
            classes=self.classes,
            official_val=self.official_val,
            on_error=self.on_error,
            cache_dir=self.cache_dir,
            allow_outside=self.allow_outside,
            mapping=self.mapping,
        )
