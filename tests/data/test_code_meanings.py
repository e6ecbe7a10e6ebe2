"""Codes of class folders and labels: read where something proves the table, and told; else stopped with what fits."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fer_lightning.data.detect import detect_datamodule
from fer_lightning.data.files_datamodule import FilesDataModule
from fer_lightning.data.sets.affectnet.affectnet import AffectNetDataModule
from fer_lightning.data.sets.ck_plus import CKPlusDataModule
from fer_lightning.data.sets.code_evidence import evidence_of_folders, evidence_of_labels
from fer_lightning.data.sets.fer2013.fer2013 import FER2013DataModule
from fer_lightning.data.sets.image_folder import ImageFolderDataModule
from fer_lightning.data.sets.manifest import ManifestDataModule
from fer_lightning.data.sets.raf_db import RAFDBDataModule
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.emotions import AFFECTNET_CODES, CKPLUS_CODES, FER2013_CODES, RAFDB_CODES
from fer_lightning.errors import DataError, LabelError
from tests.helpers.folders import write_table
from tests.helpers.proposals import proposed
from tests.helpers.published_sets import write_picture

MODULES: dict[str, Callable[..., FilesDataModule | FER2013DataModule]] = {
    "AffectNetDataModule": AffectNetDataModule,
    "CKPlusDataModule": CKPlusDataModule,
    "FER2013DataModule": FER2013DataModule,
    "ImageFolderDataModule": ImageFolderDataModule,
    "ManifestDataModule": ManifestDataModule,
    "RAFDBDataModule": RAFDBDataModule,
}
ALPHABETICAL = dict(enumerate(["angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise"]))


def tree(root: Path, codes: Any, name: str = "{n}.png", splits: tuple[str, ...] = ("train", "test")) -> Path:
    """Write a picture of each code in each split, of 48x48 pixels; ``name`` may hold what they are called."""
    number = 0
    for split in splits:
        for code in codes:
            number += 1
            usage = {"train": "Training", "test": "PublicTest"}.get(split, "")
            word = list(ALPHABETICAL.values())[int(code) % 8]
            file = name.format(n=number, code=code, split=split, usage=usage, word=word)
            write_picture(root / split / str(code) / file, number, width=48, height=48)
    return root


def named(table: Any, name: str = "{n}.png", *more: str) -> Callable[[Path], Path]:
    """Return a function that writes a tree of all codes of a table."""
    return lambda root: tree(root, table, name)


def beside(name: str, text: str, codes: Any = range(7)) -> Callable[[Path], Path]:
    """Return a function that writes a tree and a text file beside it."""

    def write(root: Path) -> Path:
        tree(root, codes)
        (root / name).write_text(text)
        return root

    return write


def words(table: Any) -> str:
    return "".join(f"{code},{name}\n" for code, name in table.items())


def manifest(label: Callable[[int], object], **columns: Callable[[int], object]) -> Callable[[Path], Path]:
    """Return a function that writes images and a table of them, its columns made of the codes."""

    def write(root: Path) -> Path:
        tree(root / "all", range(7), "{code}.png", splits=("",))
        made: dict[str, Callable[[int], object]] = {"path": "all/{0}/{0}.png".format, "label": label, **columns}
        write_table(root / "set.csv", [{name: make(code) for name, make in made.items()} for code in range(7)])
        return root

    return write


PROVEN: dict[str, tuple[Callable[[Path], Path], dict[int, str]]] = {
    "FER2013 by names of files": (named(range(7), "{usage}_{n:05}.png"), FER2013_CODES),
    "RAF-DB by names of files": (named(range(1, 8), "{split}_{n:04}_aligned.jpg"), RAFDB_CODES),
    "CK+ by names of files": (named(range(1, 8), "S005_{n:03}_{n:08}.png"), CKPLUS_CODES),
    "expressions in names of files": (
        named(range(8), "{n}_{word}.png"),
        ALPHABETICAL,
    ),
    "alphabetical by a table": (beside("classes.csv", "code,name\n" + words(ALPHABETICAL), range(8)), ALPHABETICAL),
    "alphabetical by names in JSON": (
        beside("class_indices.json", json.dumps({name: code for code, name in ALPHABETICAL.items()}), range(8)),
        ALPHABETICAL,
    ),
    "AffectNet by codes in JSON": (beside("labels.json", json.dumps(AFFECTNET_CODES), range(8)), AFFECTNET_CODES),
    "AffectNet by a table": (
        beside("labels.txt", words(AFFECTNET_CODES).replace(",", ": "), range(8)),
        AFFECTNET_CODES,
    ),
    "alphabetical by the second of two texts": (
        lambda root: beside("a.txt", "about\n")(beside("classes.csv", words(ALPHABETICAL), range(8))(root)),
        ALPHABETICAL,
    ),
    "FER2013 by a list of files": (
        beside("list.csv", "".join(f"train/{code}/{code + 1}.png,{name}\n" for code, name in FER2013_CODES.items())),
        FER2013_CODES,
    ),
    "a column of names": (manifest(int, meaning=lambda code: FER2013_CODES[code].upper()), FER2013_CODES),
}
"""Trees whose codes are proven, and what they stand for."""

UNPROVEN: dict[str, Callable[[Path], Path]] = {
    "0..6": named(range(7)),
    "0..7": named(range(8)),
    "1..7": named(range(1, 8)),
    "1..8": named(range(1, 9)),
    "0..10": named(range(11)),
    "00..06": named([f"{code:02}" for code in range(7)]),
    "without splits": lambda root: tree(root, range(7), splits=("",)),
    "half of FER2013's names": lambda root: tree(tree(root, range(7), "{usage}_{n}.png"), range(7)),
    "RAF-DB's names from 0": named(range(7), "{split}_{n:04}_aligned.jpg"),
    "CK+'s names from 0": named(range(7), "S005_{n:03}_{n:08}.png"),
    "a table with other codes": beside("classes.csv", "0,angry\n1,happy\n"),
    "a table with two meanings": beside("classes.csv", words(FER2013_CODES) + words(AFFECTNET_CODES)),
    "other things in JSON": beside("labels.json", json.dumps([list(ALPHABETICAL.values()), {"angry": 0}])),
    "damaged JSON": beside("labels.json", '{"angry": 0, '),
    "a column of codes": manifest(int),
    "a column of codes as pandas writes it": manifest(float),
    "a column of numbers beside": manifest(int, row=str),
}
"""Trees whose codes nothing proves."""


def made(root: Path, **options: Any) -> Any:
    """Return the data module that reads a tree."""
    name, place = detect_datamodule(root)
    return MODULES[name](str(place), **options)


def meanings(table: SamplesTable) -> dict[int, str]:
    """Return which expression the images in each folder of a code were given."""
    rows = zip(table.files.tolist(), table.labels.tolist(), strict=True)
    return {int(Path(file).parts[-2]): table.class_names[label] for file, label in rows}


@pytest.mark.parametrize("case", PROVEN)
def test_what_is_proven_is_read_and_told(case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write, table = PROVEN[case]
    root = write(tmp_path / "data")
    expected = {code: name for code, name in table.items() if (any(root.rglob(f"{code}/")))}
    eight = {"classes": 8} if detect_datamodule(root)[0] in ("CKPlusDataModule",) else {}
    with caplog.at_level(logging.WARNING):
        data = made(root, **eight)
        files = data.table.files.tolist()
    found = {
        int(Path(file).parts[-2]): data.class_names[label] for file, label in zip(files, data.table.labels, strict=True)
    }
    assert found == expected
    told = ", ".join(f"{code} {name}" for code, name in expected.items())
    assert sum(told in message for message in caplog.messages) == 1
    assert sum(told in remark for remark in data.describe()["remarks"]) == 1


@pytest.mark.parametrize("case", UNPROVEN)
def test_what_is_not_proven_stops_and_each_proposal_works(case: str, tmp_path: Path) -> None:
    root = UNPROVEN[case](tmp_path / "data")
    with pytest.raises(LabelError, match="nothing here shows which") as caught:
        _ = made(root).table
    assert "\n" not in str(caught.value)
    options = proposed(str(caught.value))
    assert len(options) == str(caught.value).count("--data.mapping '")
    found = set()
    for option in options:
        mapping = yaml.safe_load(option.removeprefix("--data.mapping="))
        table = made(root, mapping=mapping).table
        found.add(tuple(table.class_names[label] for label in table.labels))
        assert "as data.mapping says" in table.remarks[0]
    assert len(found) == len(options) > 0


def test_numbers_of_images_prove_a_table(tmp_path: Path) -> None:
    counts = [491, 55, 528, 879, 626, 594, 416]  # FER2013's PrivateTest, its expressions in alphabetical order
    for code, count in enumerate(counts):
        folder = tmp_path / "test" / str(code)
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{number}.png").touch()
    found = evidence_of_folders(tmp_path, [("test", path) for path in (tmp_path / "test").iterdir()])
    assert found is not None
    assert found.reason == "as many images of each code as FER2013 has, PrivateTest"
    assert list(found.table.values()) == ["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"]


@pytest.mark.parametrize(
    ("whose", "counts"),
    [
        ("FER2013", [3995, 436, 4097, 7215, 4830, 3171, 4965]),
        ("FER2013", [958, 111, 1024, 1774, 1247, 831, 1233]),
        ("FER2013", [4953, 547, 5121, 8989, 6077, 4002, 6198]),
        ("FER2013", [467, 56, 496, 895, 653, 415, 607]),
        ("FER2013", [491, 55, 528, 879, 594, 416, 626]),
        ("RAF-DB", [1290, 281, 717, 4772, 1982, 705, 2524]),
        ("RAF-DB", [329, 74, 160, 1185, 478, 162, 680]),
        ("RAF-DB", [1619, 355, 877, 5957, 2460, 867, 3204]),
        ("AffectNet", [74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750]),
        ("AffectNet", [74874, 134415, 25459, 14090, 6378, 3803, 24882]),
        ("", [3995, 436, 4097, 7215, 4830, 3171, 4966]),
        ("", [500] * 7),
    ],
)
def test_numbers_of_labels_prove_a_table(whose: str, counts: list[int]) -> None:
    labels = np.repeat([str(code) for code in range(len(counts))], counts)
    places = np.full(len(labels), "x.png")
    found = evidence_of_labels(Path("set.csv"), range(8), labels, places, np.full(len(labels), "train"), {})
    assert (found.whose if found else "") == whose
    tables = {"FER2013": FER2013_CODES, "RAF-DB": dict(enumerate(RAFDB_CODES.values())), "AffectNet": AFFECTNET_CODES}
    assert found is None or all(tables[whose][code] == name for code, name in found.table.items())


@pytest.mark.parametrize(
    ("first", "second", "whose"),
    [
        ("Training_{0:05}.png", "PublicTest_{0}_copy.png", "FER2013"),
        ("Training_{0:05}.png", "{0}.png", ""),
        ("train_{0:05}_aligned.jpg", "test_{0}_aligned.jpg", "RAF-DB"),
        ("train_{0:05}.jpg", "test_{0:04}.jpg", "RAF-DB"),
        ("train_{0:04}.jpg", "test_{0:04}.jpg", ""),
        ("train_{0:05}.jpg", "test_{0:05}.jpg", ""),
        ("S005_001_{0:08}.png", "S{0:03}_002_00000011.png", "CK+"),
        ("S005_001_{0:08}.png", "S5_1_{0}.png", ""),
    ],
)
def test_which_names_of_files_prove_a_table(first: str, second: str, whose: str) -> None:
    codes = np.arange(1, 7).repeat(2)
    paths = np.array([f"a/{(second if row % 2 else first).format(code)}" for row, code in enumerate(codes)])
    found = evidence_of_labels(Path("set.csv"), range(1, 7), codes.astype(str), paths, np.full(12, ""), {})
    assert (found.whose if found else "") == whose


MEANT = {0: "angry", 1: "happy", 2: "sad"}


@pytest.mark.parametrize(
    ("name", "text", "proven"),
    [
        ("CLASSES.CSV", "\ufeff0,angry\n1,happy\n2,sad\n", True),
        ("a.txt", "0;angry\n1;happy\n2;sad\n", True),
        ("a.txt", "0 angry\n1 happy\n2 sad\n", True),
        ("a.txt", "angry  0\nhappy=1\nsad:2\n", True),
        ("a.tsv", "0\tangry\n1\thappy\n2\tsad\n", True),
        ("a.csv", "train\\0\\x.png,angry\ntrain\\1\\x.png,happy\n2/x.png,SAD\n", True),
        ("a.csv", "0,angry,48\n1,happy,48\n2,sad,48\n", True),  # no code is as large as 48
        ("a.json", '{"0": "angry", "happy": 1, "2": "sad", "size": 48}', True),
        ("a.csv", "0,angry,1\n1,happy,2\n2,sad,0\n", False),  # two codes in a row
        ("a.csv", "0,angry,fear\n1,happy,fear\n2,sad,fear\n", False),
        ("a.csv", "0,angry\n0,fear\n1,happy\n2,sad\n", False),
        ("a.csv", "0,angry\n1,angry\n2,sad\n", False),
        ("a.csv", "0,angry\n1,happy\n", False),
        ("a.md", "0,angry\n1,happy\n2,sad\n", False),
    ],
)
def test_what_a_text_beside_must_say(name: str, text: str, proven: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    for code in (*MEANT, 99):  # 99 is a code of nobody's
        write_picture(tmp_path / str(code) / "x.png", code)
    found = evidence_of_folders(tmp_path, [("", tmp_path / str(code)) for code in (*MEANT, 99)])
    assert (found.table if found else None) == (MEANT if proven else None)


@pytest.mark.parametrize(
    ("files", "proven"),
    [
        (["Angry_1.PNG", "HAPPY-2.png", "3sad.png"], True),
        (["angry_1.png", "happy_2.png", "sad_3.png fear_4.png"], False),
        (["angry_1.png", "happy_2.png", "sad_fear.png"], False),
        (["angry_1.png", "happy_2.png", "angry_3.png"], False),
        (["angry_1.png"], False),
        (["angry_1.png", "happy_2.png", "3.png"], False),
    ],
)
def test_what_names_of_files_must_say(files: list[str], proven: bool, tmp_path: Path) -> None:
    for code, names in enumerate(files):
        for name in names.split():
            write_picture(tmp_path / str(code) / name, code)
    found = evidence_of_folders(tmp_path, [("", tmp_path / str(code)) for code in range(len(files))])
    assert (found.table if found else None) == (MEANT if proven else None)


def test_numbers_of_images_are_those_of_a_part() -> None:
    counts = [3995, 436, 4097, 7215, 4830, 3171, 4965, 491, 55, 528, 879, 594, 416, 626]  # Training, PrivateTest
    labels, splits = np.repeat([*"0123456"] * 2, counts), np.repeat(["train"] * 7 + ["test"] * 7, counts)
    found = evidence_of_labels(Path("set.csv"), range(7), labels, np.full(len(labels), "x.png"), splits, {})
    assert found is not None
    assert found.table == FER2013_CODES


def test_what_contradicts_itself_stops_and_either_proposal_works(tmp_path: Path) -> None:
    root = tree(tmp_path, range(7), "{usage}_{n:05}.png")
    (root / "classes.csv").write_text(words(ALPHABETICAL))
    with pytest.raises(DataError, match="two things show different meanings of the code 1") as caught:
        _ = ImageFolderDataModule(str(root)).table
    mappings = [yaml.safe_load(option.partition("=")[2]) for option in proposed(str(caught.value))]
    assert mappings[0] == FER2013_CODES
    for mapping in mappings:
        assert meanings(ImageFolderDataModule(str(root), mapping=mapping).table) == mapping


def test_a_mapping_goes_before_evidence_and_the_difference_is_told(tmp_path: Path) -> None:
    root = tree(tmp_path, range(7), "{usage}_{n:05}.png")
    mapping: dict[str, str | None] = {str(code): name for code, name in ALPHABETICAL.items()}
    (told,) = ImageFolderDataModule(str(root), mapping=mapping).table.remarks
    assert "as data.mapping says, though files named like FER2013's, PublicTest_00008 would be 0 angry" in told


class TestAModuleThatWasNamed:
    """Naming the data module is a statement; it is told, and what speaks against it stops."""

    @pytest.mark.parametrize(("module", "table"), [(RAFDBDataModule, RAFDB_CODES), (FER2013DataModule, FER2013_CODES)])
    def test_it_is_taken_at_its_word_and_told(self, module: Any, table: dict[int, str], tmp_path: Path) -> None:
        data = module(str(tree(tmp_path, table)))
        codes = [int(Path(file).parts[-2]) for file in data.table.files.tolist()]
        assert [data.class_names[label] for label in data.table.labels] == [table[code] for code in codes]
        assert "which was named; nothing in the folders shows it" in data.table.remarks[0]

    @pytest.mark.parametrize("module", [AffectNetDataModule, CKPlusDataModule])
    def test_not_where_copies_in_another_order_are_about(self, module: Any, tmp_path: Path) -> None:
        name = "S005_{n:03}_{n:08}.png" if module is CKPlusDataModule else "{n}.png"
        with pytest.raises(LabelError, match="nothing here shows which"):
            _ = module(str(tree(tmp_path, range(8), name))).table

    @pytest.mark.parametrize("module", [AffectNetDataModule, FER2013DataModule, RAFDBDataModule])
    def test_what_speaks_against_it_stops_and_the_proposal_works(self, module: Any, tmp_path: Path) -> None:
        root = beside("classes.csv", words(ALPHABETICAL) if module is not RAFDBDataModule else words(FER2013_CODES))(
            tmp_path
        )
        with pytest.raises(
            DataError, match=r"these are not the codes of .* pass --data ImageFolderDataModule"
        ) as caught:
            _ = module(str(root)).table
        assert proposed(str(caught.value)) == ["--data=ImageFolderDataModule"]
        assert "side by side" in ImageFolderDataModule(str(root)).table.remarks[0]

    def test_fer2013_has_no_contempt(self, tmp_path: Path) -> None:
        root = tree(tmp_path, range(8))
        with pytest.raises(LabelError, match=r"unknown expression '0'.*; --data ImageFolderDataModule reads any tree"):
            _ = FER2013DataModule(str(root)).table


def test_first_frames_of_ck_plus_are_neutral(tmp_path: Path) -> None:
    root = tree(tree(tmp_path, range(1, 8), "S005_{n:03}_{n:08}.png"), [0], "S005_{n:03}_00000001.png")
    assert detect_datamodule(root)[0] == "CKPlusDataModule"
    table = CKPlusDataModule(str(root), classes=8).table
    assert {
        int(Path(f).parts[-2]): table.class_names[label]
        for f, label in zip(table.files.tolist(), table.labels, strict=True)
    } == CKPLUS_CODES
