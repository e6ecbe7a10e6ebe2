"""RAF-DB, basic expressions: finding the data set in any of its layouts, and its listing.

Source:
    Li, Deng and Du 2017, "Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression Recognition in
    the Wild", CVPR, doi:10.1109/CVPR.2017.277: 15,339 faces from Flickr, each labelled by about 40 people. The compound
    expressions are another part of the data set and not read.
Layout, one of:
    - ``basic/EmoLabel/list_patition_label.txt`` (so spelled; ``list_partition_label.txt`` does too) with lines
      ``train_00001.jpg 5``; images ``basic/Image/aligned/train_00001_aligned.jpg`` (100x100) or
      ``basic/Image/original/train_00001.jpg``; perhaps ``basic/Annotation/boundingbox/train_00001_boundingbox.txt``
      (``x1 y1 x2 y2``, cut out of the original images) and ``basic/Annotation/manual/train_00001_manu_attri.txt``
      (five landmarks, then gender, race and age);
    - ``train/<code>/*.jpg`` and ``test/<code>/*.jpg``, also in ``DATASET/``, as they are passed around; names of
      expressions do too.
Classes:
    surprise, fear, disgust, happy, sad, angry, neutral (codes 1..7).
Splits:
    official: 12,271 training and 3,068 test images. Validation is held out of training.
Columns:
    ``gender`` (male, female), ``race`` (Caucasian, African-American, Asian) and ``age_group`` (0-3, 4-19, 20-39, 40-69,
    70+), as annotators saw them; ``""`` where they were unsure.
Licence:
    to be asked for: non-commercial research and education, not to be passed on (http://whdeng.cn/RAF/model1.html).
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.files.listing import Listing
from fer_lightning.data.files_datamodule import FilesDataModule
from fer_lightning.data.sets.code_meanings import Codes, remark
from fer_lightning.data.sets.image_folder import class_folders
from fer_lightning.data.sets.raw_codes import is_tree_of, list_code_folders, refuse_mapping
from fer_lightning.data.table.bad_rows import WAY_OUT, BadRows, OnError, appearance, check_on_error, contents
from fer_lightning.emotions import RAFDB_CODES, SEVEN, code_of, codes_text, is_expression
from fer_lightning.errors import DataError
from fer_lightning.text import excerpt, one_line, short_path, unreadable

__all__ = ["AGE_GROUPS", "GENDERS", "RACES", "RAFDBDataModule", "is_raf_db", "list_raf_db"]

GENDERS = ("male", "female", "")
"""Meaning of the codes 0..2; 2 is "unsure"."""

RACES = ("Caucasian", "African-American", "Asian")
"""Values of the column ``race``, by their code in the annotations."""
AGE_GROUPS = ("0-3", "4-19", "20-39", "40-69", "70+")
"""Values of the column ``age_group``, years, by their code in the annotations."""

_CODES = Codes("RAF-DB", RAFDB_CODES)
_LISTS = ("list_patition_label.txt", "list_partition_label.txt")
_LINE = re.compile(r"((train|test)_\d+)\.jpg\s+(\S+)")
_LANDMARKS = 5  # lines before the attributes


def list_raf_db(
    root: Path,
    *,
    aligned: bool = True,
    on_error: OnError = "raise",
    allow_outside: bool = False,
    mapping: dict[str, str | None] | None = None,
) -> Listing:
    """List RAF-DB, whichever way it lies on disk; layouts and splits stand in this module's docstring.

    The arguments are those of ``RAFDBDataModule``. Sources are ``raf_db``.

    Raises:
        DataError: if the data set is missing, ambiguous or malformed; the message names the file.
        LabelError: for an unknown class folder.
    """
    check_on_error(on_error)
    try:
        folder, official = _find_layout(root)
        if not official:
            return list_code_folders(
                folder, _CODES, SEVEN.class_names, "raf_db", mapping=mapping, allow_outside=allow_outside
            )
        refuse_mapping(mapping, f"EmoLabel/{_LISTS[0]}")
        return _list_official(folder, aligned, on_error)
    except OSError as error:
        raise DataError(unreadable(error.filename or root, error)) from None


def is_raf_db(root: Path) -> bool:
    """Tell whether a folder is laid out like RAF-DB: officially, or as a tree whose codes are proven to be its."""
    return bool(_official(root)) or any(is_tree_of(folder, _CODES) for folder in (root, root / "DATASET"))


def _official(root: Path) -> list[Path]:
    return [folder for folder in (root, root / "basic") if _label_lists(folder)]


def _trees(root: Path) -> list[Path]:
    """Return the folders that hold class folders or splits."""
    found = []
    for folder in (root, root / "DATASET"):
        with contextlib.suppress(DataError):
            if any(_is_class(top.name) for _, top in class_folders(folder)):
                found.append(folder)
    return found


def _is_class(name: str) -> bool:
    return code_of(name) is not None or is_expression(name)


def _label_lists(folder: Path) -> list[Path]:
    return [folder / "EmoLabel" / name for name in _LISTS if (folder / "EmoLabel" / name).is_file()]


def _find_layout(root: Path) -> tuple[Path, bool]:
    if not root.is_dir():
        raise DataError(one_line(f"{short_path(root)} does not exist or is no folder"))
    found = [*((folder, True) for folder in _official(root)), *((folder, False) for folder in _trees(root))]
    if len(found) > 1:
        places = ", ".join(folder.relative_to(root).as_posix() for folder, _ in found)
        raise DataError(one_line(f"{short_path(root)} holds RAF-DB more than once ({places}): name one of them"))
    if not found:
        raise DataError(
            one_line(
                f"{short_path(root, 70)}: expected basic/EmoLabel/{_LISTS[0]}, or train/1/ .. train/7/ and test/; "
                f"found {contents(root)}; {WAY_OUT}",
                300,
            )
        )
    return found[0]


def _list_official(folder: Path, aligned: bool, on_error: OnError) -> Listing:
    lists = _label_lists(folder)
    if len(lists) > 1:
        raise DataError(f"{short_path(folder)}/EmoLabel holds {lists[0].name} and {lists[1].name}: remove one")
    kind, suffix = ("aligned", "_aligned.jpg") if aligned else ("original", ".jpg")
    if not (folder / "Image" / kind).is_dir():
        other = f"or pass --data.aligned {str(not aligned).lower()}"
        raise DataError(one_line(f"{short_path(folder)}: Image/{kind}/ is missing; unpack Image/{kind}.zip, {other}"))
    boxes = folder / "Annotation" / "boundingbox"
    attributes = folder / "Annotation" / "manual"
    with_boxes, with_attributes = not aligned and boxes.is_dir(), attributes.is_dir()
    bad = BadRows(f"{short_path(folder)}{os.sep}", on_error)
    rows, lines = _read_labels(lists[0], bad)
    kept: list[tuple[str, int, NDArray[np.int64], tuple[str, str, str]]] = []
    for name, label in tqdm(rows, unit="image", desc="RAF-DB", disable=None, leave=False):
        box, facts = np.zeros(4, np.int64), ("", "", "")
        try:
            if with_boxes:
                box = _read_box(boxes / f"{name}_boundingbox.txt")
            if with_attributes:
                facts = _read_attributes(attributes / f"{name}_manu_attri.txt")
        except DataError as error:
            bad.add(f"Image/{kind}/{name}{suffix}", error)
        else:
            kept.append((name, label, box, facts))
    bad.check_share(lines)
    bad.warn()
    columns = ("gender", "race", "age_group") if with_attributes else ()
    return Listing(
        root=folder,
        class_names=SEVEN.class_names,
        paths=np.array([f"Image/{kind}/{name}{suffix}" for name, *_ in kept], np.str_),
        labels=np.array([label for _, label, *_ in kept], np.int64),
        splits=np.array([name.split("_")[0] for name, *_ in kept], "<U5"),
        sources=np.full(len(kept), "raf_db"),
        boxes=np.array([box for *_, box, _ in kept], np.int64).reshape(-1, 4) if with_boxes else None,
        columns={name: np.array([facts[at] for *_, facts in kept], np.str_) for at, name in enumerate(columns)},
        left_out=tuple(bad.places),
        remarks=(remark("codes of expressions", RAFDB_CODES, f"RAF-DB's own list, {lists[0].name}"),),
    )


def _read_labels(path: Path, bad: BadRows) -> tuple[list[tuple[str, int]], int]:
    """Return (name, label) of each image, and the number of lines."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{short_path(path)}: expected text, found {appearance(data[:64])}") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise DataError(f"{short_path(path)}: holds no line")
    seen: dict[str, int] = {}
    rows: list[tuple[str, int]] = []
    for number, line in lines:
        try:
            name, label = _read_line(line)
            if name in seen:
                raise DataError(f"{name}.jpg stands in line {seen[name]} too")
        except DataError as error:
            bad.add(f"EmoLabel/{path.name}, line {number}", error)
        else:
            seen[name] = number
            rows.append((name, label))
    return rows, len(lines)


def _read_line(line: str) -> tuple[str, int]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise DataError(f"expected train_<number>.jpg or test_<number>.jpg and a code, found {excerpt(line)}")
    name, _, code = found.groups()
    if code not in map(str, RAFDB_CODES):
        raise DataError(f"unknown expression code {excerpt(code)}, expected one of {codes_text(RAFDB_CODES)}")
    return name, SEVEN.index(RAFDB_CODES[int(code)])


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("ascii")
    except FileNotFoundError:
        raise DataError(f"{path.name} is missing") from None
    except UnicodeDecodeError:
        raise DataError(f"{path.name}: expected numbers, found something else than text") from None


def _read_box(path: Path) -> NDArray[np.int64]:
    """Return the face box as x, y, width, height, int64 ``(4,)``."""
    text = _read_text(path).split()
    try:
        left, top, right, bottom = map(float, text)
    except ValueError:
        raise DataError(f"{path.name}: expected x1 y1 x2 y2, found {excerpt(' '.join(text))}") from None
    box = (left, top, right - left, bottom - top)
    if not all(map(math.isfinite, box)) or min(box[2:]) < 1 or max(map(abs, box)) > 1e6:
        raise DataError(f"{path.name}: expected a face box x1 y1 x2 y2 in pixels, found {excerpt(' '.join(text))}")
    return np.array([round(value) for value in box], np.int64)


def _read_attributes(path: Path) -> tuple[str, str, str]:
    """Return gender, race and age group."""
    lines = [line.strip() for line in _read_text(path).splitlines() if line.strip()]
    if len(lines) != _LANDMARKS + 3:
        raise DataError(f"{path.name}: expected {_LANDMARKS} landmarks, gender, race and age, found {len(lines)} lines")
    values = []
    for what, text, meanings in zip(
        ("gender", "race", "age"), lines[_LANDMARKS:], (GENDERS, RACES, AGE_GROUPS), strict=True
    ):
        if text not in map(str, range(len(meanings))):
            raise DataError(f"{path.name}: unknown code {excerpt(text)} for {what}, expected 0..{len(meanings) - 1}")
        values.append(meanings[int(text)])
    return values[0], values[1], values[2]


class RAFDBDataModule(FilesDataModule):
    """RAF-DB, basic expressions; what it is, where its splits come from and its licence: see this module.

    Args:
        root: folder of the data set, the one that holds ``basic/`` or ``DATASET/``, or a .zip or .tar of it.
        aligned: take the aligned images of 100x100 pixels; else the face boxes of the original ones.
        mapping: in trees of class folders, meanings of codes and of names that are not known; ``null`` leaves a class
            out.
        **options: of ``FilesDataModule``.
    """

    native_size = 100

    def __init__(
        self, root: str, aligned: bool = True, mapping: dict[str, str | None] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.root = root
        self.aligned = aligned
        self.mapping = mapping

    def list_files(self) -> Listing:
        """Read the list of labels, boxes and attributes."""
        return list_raf_db(
            self.opened(self.root),
            aligned=self.aligned,
            on_error=self.on_error,
            allow_outside=self.allow_outside,
            mapping=self.mapping,
        )
