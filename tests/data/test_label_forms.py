"""Forms in which people bring labels beside images: each is read rightly, or refused with a line that works."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.detect import detect_datamodule
from fer_lightning.data.sets.hybrid import HybridDataModule, HybridSource
from fer_lightning.data.sets.manifest import ManifestDataModule
from fer_lightning.data.table.other_forms import _column as column_number
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import DataError
from tests.helpers.cli import fer
from tests.helpers.folders import SEVEN_NAMES
from tests.helpers.proposals import proposed

DOCS = Path(__file__).parents[2] / "docs" / "data.md"
YOLO_NAMES = ("Anger", "Contempt", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")


def face(path: Path, seed: int = 0, mode: str = "RGB", side: int = 24) -> Path:
    """Write a picture of noise in the format that the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    return path


def table(path: Path, header: Sequence[str] | None, rows: Sequence[Sequence[object]], **options: Any) -> Path:
    """Write a table, with a byte order mark if ``bom``, in CSV form with ``delimiter``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bom = options.pop("bom", False)
    with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
        writer = csv.writer(file, **options)
        if header is not None:
            writer.writerow(header)
        writer.writerows(rows)
    return path


def faces(root: Path, name: str = "{k}_{label}.jpg", each: int = 2) -> list[tuple[str, str]]:
    """Write ``each`` images of the seven expressions below a folder and return (path, label) of each."""
    rows = [(name.format(k=k, label=label), label) for label in SEVEN_NAMES for k in range(each)]
    for seed, (path, _) in enumerate(rows):
        face(root / path, seed)
    return rows


def read(root: Path, **options: Any) -> SamplesTable:
    """Read a data set with the module that its layout tells."""
    name, place = detect_datamodule(root)
    assert name == "ManifestDataModule"
    return ManifestDataModule(str(place), image_size=16, num_workers=0, **options).table


def labels(samples: SamplesTable) -> dict[str, str]:
    """Return the label of each file."""
    return {
        str(file): samples.class_names[label]
        for file, label in zip(samples.files, samples.labels.tolist(), strict=True)
    }


def splits(samples: SamplesTable) -> dict[str, str]:
    """Return the split of each file."""
    return dict(zip(map(str, samples.files), map(str, samples.splits), strict=True))


@pytest.mark.parametrize(
    ("header", "options"),
    [
        (("image", "label"), {}),
        (("Image", "LABEL"), {}),
        (("file_name", "label"), {}),
        (("File Name", "Emotion"), {"delimiter": ";"}),
        (("filename", "expression"), {"delimiter": "\t"}),
        (("filepath", "class"), {"bom": True}),
        (("IMG", "Emotions"), {"delimiter": "|"}),
        (("image_path", "labels"), {"bom": True, "delimiter": ";"}),
        (("subDirectory_filePath", "expression"), {"lineterminator": "\r\n"}),
        (("pth", "label"), {"quoting": csv.QUOTE_ALL}),
        (("name", "target"), {}),
        (None, {}),
        (None, {"delimiter": "\t", "bom": True}),
        (None, {"delimiter": " "}),
    ],
)
def test_tables_under_many_names(header: Sequence[str] | None, options: dict[str, Any], tmp_path: Path) -> None:
    rows = faces(tmp_path)
    path = table(tmp_path / "labels.csv", header, rows, **options)
    samples = read(tmp_path)
    assert labels(samples) == dict(rows)
    assert labels(read(path)) == dict(rows)
    if header is None:
        assert samples.remarks == (f"{path} has no header: path from column '1', label from column '2'",)
    else:
        assert f"path from column '{header[0].lower()}'" in samples.remarks[0]


@pytest.mark.parametrize(
    ("header", "values", "column"),
    [
        (("", "pth", "label", "relFCs"), lambda k, path, label: (k, path, label, 0.7), "label"),
        (("image", "label", "emotion"), lambda k, path, label: (path, SEVEN_NAMES.index(label), label), "emotion"),
        (("id", "image", "emotion", "subject"), lambda k, path, label: (k, path, label, f"p{k}"), "emotion"),
        (("label", "name"), lambda k, path, label: (label, path), "label"),
        (None, lambda k, path, label: (k, path, label), "3"),
    ],
)
def test_further_columns(
    header: Sequence[str] | None, values: Callable[[int, str, str], Sequence[object]], column: str, tmp_path: Path
) -> None:
    rows = faces(tmp_path)
    table(tmp_path / "t.csv", header, [values(k, path, label) for k, (path, label) in enumerate(rows)])
    samples = read(tmp_path)
    assert labels(samples) == dict(rows)
    assert f"label from column '{column}'" in samples.remarks[0]
    assert "" not in samples.columns


def test_a_table_in_a_folder_called_data(tmp_path: Path) -> None:
    rows = faces(tmp_path / "images", "{label}{k}.jpg")
    table(tmp_path / "data" / "legend.csv", ["user.id", "image", "emotion"], [[7, *row] for row in rows])
    assert labels(read(tmp_path)) == {f"images/{path}": label for path, label in rows}


def test_excels_unicode_text(tmp_path: Path) -> None:
    rows = faces(tmp_path / "bild ß", "{k}{label}.jpg")
    text = "path\tlabel\r\n" + "".join(f"bild ß/{path}\t{label}\r\n" for path, label in rows)
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe" + text.encode("utf-16-le"))
    assert labels(read(tmp_path, on_error="skip")) == {f"bild ß/{path}": label for path, label in rows}


def test_a_table_of_another_encoding_is_told_and_the_way_out_works(tmp_path: Path) -> None:
    for k in range(14):
        face(tmp_path / "b" / f"{k}ü.jpg", k)
    rows = [f"b/{k}ü.jpg,{SEVEN_NAMES[k % 7]}" for k in range(14)]
    (tmp_path / "l é.csv").write_text("\n".join(["path,label", *rows]), encoding="latin-1")
    with pytest.raises(DataError, match="expected UTF-8 text") as caught:
        _ = ManifestDataModule(str(tmp_path))
    command = str(caught.value).partition("such as with: ")[2]
    assert subprocess.run(command, shell=True, cwd=tmp_path, check=False).returncode == 0
    assert len(read(tmp_path / "l é_utf8.csv")) == 14


def test_ids_without_a_suffix_are_proposed_and_the_proposal_works(tmp_path: Path) -> None:
    rows = faces(tmp_path / "train", "face{label}{k}.png")
    table(tmp_path / "train.csv", ["id", "emotion"], [[Path(path).stem, label] for path, label in rows])
    with pytest.raises(DataError, match="expected a column 'path', found id, emotion") as caught:
        read(tmp_path)
    assert proposed(str(caught.value)) == ["--data.columns={path: id}"]
    assert labels(read(tmp_path, columns={"path": "id"})) == {f"train/{path}": label for path, label in rows}


def test_expw_as_it_is_published(tmp_path: Path) -> None:
    rows = faces(tmp_path / "ExpW" / "data" / "image" / "origin", "face{label}{k}.jpg")
    listed = [[path, 0, 3, 5, 21, 23, 55.6, SEVEN_NAMES.index(label)] for path, label in rows]
    listed.append([rows[0][0], 1, 1, 2, 13, 14, 9.5, 3])  # a second face in the first image
    picture = np.zeros((24, 24), np.uint8)
    picture[3:23, 5:21] = 255
    Image.fromarray(picture).save(tmp_path / "ExpW/data/image/origin" / rows[0][0], quality=95)
    table(tmp_path / "ExpW/data/label/label.lst", None, listed, delimiter=" ")
    (tmp_path / "ExpW/readme.txt").write_text("Expression in-the-Wild")
    samples = read(tmp_path)
    assert samples.files.tolist() == [f"image/origin/{row[0]}" for row in listed]
    assert [samples.class_names[k] for k in samples.labels] == [*(label for _, label in rows), "happy"]
    assert samples.columns["width"].tolist() == [16] * 14 + [11]
    assert samples.columns["height"].tolist() == [20] * 14 + [13]
    assert any("ExpW's list" in text and "0 angry, 1 disgust, 2 fear, 3 happy" in text for text in samples.remarks)
    assert samples.images[np.array([0])].mean() > 245  # the white face, without the black around it


@pytest.mark.parametrize("row", ["a.jpg 0 3 5 21 23 9.5 7", "a.jpg 0 3 5 5 23 9.5 1", "a.jpg 0 3 5 21 3 9.5 1"])
def test_a_malformed_row_of_expw_is_named(row: str, tmp_path: Path) -> None:
    face(tmp_path / "a.jpg")
    (tmp_path / "label.lst").write_text(f"a.jpg 0 3 5 21 23 9.5 1\n{row}\n")
    with pytest.raises(DataError, match=r"label.lst, line 2: expected image, face, top, left, .* as in ExpW; found"):
        read(tmp_path)


def test_a_list_with_boxes_and_names(tmp_path: Path) -> None:
    rows = faces(tmp_path / "origin", "face{label}{k}.jpg")
    table(tmp_path / "label.lst", None, [[path, 0, 1, 1, 20, 20, 55.6, label] for path, label in rows], delimiter=" ")
    assert labels(read(tmp_path)) == {f"origin/{path}": label for path, label in rows}
    listed = [[path, 0, 1, 1, 20, 20, 55.6, SEVEN_NAMES.index(label), 1] for path, label in rows]
    table(tmp_path / "label.lst", None, listed, delimiter=" ")
    with pytest.raises(DataError, match="no header and 9 columns") as caught:
        read(tmp_path)
    assert proposed(str(caught.value)) == ["--data.columns={label: 8}"]
    mapping: dict[str, str | None] = {str(code): name for code, name in enumerate(SEVEN_NAMES)}
    found = labels(read(tmp_path, columns={"label": 8}, mapping=mapping))
    assert found == {f"origin/{path}": label for path, label in rows}


def coco(rows: Sequence[tuple[str, str]], box: Sequence[float] | None = (2, 3, 10.4, 12)) -> str:
    """Return the JSON of a COCO set, as Roboflow exports it: the first category is that of the project."""
    names = ("expressions", *SEVEN_NAMES)
    images = [{"id": 7 + k, "file_name": path, "height": 24, "width": 24} for k, (path, _) in enumerate(rows)]
    marks = [
        {"id": k, "image_id": 7 + k, "category_id": names.index(label), "bbox": box, "area": 1, "segmentation": []}
        for k, (_, label) in enumerate(rows)
    ]
    categories = [{"id": k, "name": name, "supercategory": "none"} for k, name in enumerate(names)]
    return json.dumps({"info": {}, "licenses": [], "images": images, "annotations": marks, "categories": categories})


class TestOtherPrograms:
    """Tables as other programs write them."""

    def test_coco_with_a_file_for_each_split(self, tmp_path: Path) -> None:
        expected: dict[str, tuple[str, str]] = {}
        for part, split in (("train", "train"), ("valid", "val"), ("test", "test")):
            rows = faces(tmp_path / part, part + "{label}{k}.jpg")
            (tmp_path / part / "_annotations.coco.json").write_text(coco(rows))
            expected |= {f"{part}/{path}": (label, split) for path, label in rows}
        samples = read(tmp_path)
        assert labels(samples) == {path: label for path, (label, _) in expected.items()}
        assert splits(samples) == {path: split for path, (_, split) in expected.items()}
        assert set(samples.columns["width"].tolist()) == {10}

    def test_coco_with_annotations_in_a_folder(self, tmp_path: Path) -> None:
        rows = faces(tmp_path / "images")
        (tmp_path / "annotations").mkdir()
        (tmp_path / "annotations" / "instances_default.json").write_text(coco(rows, None))
        samples = read(tmp_path)
        assert labels(samples) == {f"images/{path}": label for path, label in rows}
        assert set(samples.columns["width"].tolist()) == {24}  # whole images

    def test_json_with_the_label_of_each_path(self, tmp_path: Path) -> None:
        rows = faces(tmp_path)
        (tmp_path / "labels.json").write_text(json.dumps(dict(rows)))
        assert labels(read(tmp_path)) == dict(rows)

    @pytest.mark.parametrize("text", ['{"images": [], "annotations": [{}], "categories": []}', '{"a.txt": 1}', "{}"])
    def test_json_of_another_form_is_told(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "labels.json").write_text(text)
        with pytest.raises(DataError, match="labels.json: expected a list of objects such as .* or COCO's"):
            read(tmp_path / "labels.json")

    def test_a_workbook(self, tmp_path: Path) -> None:
        rows = faces(tmp_path)
        workbook(tmp_path / "labels.xlsx", [("image", "", "emotion"), *((path, "", label) for path, label in rows)])
        assert labels(read(tmp_path)) == dict(rows)
        assert labels(read(tmp_path / "labels.xlsx")) == dict(rows)

    def test_columns_of_a_workbook_are_counted_with_letters(self) -> None:
        assert [column_number(letters) for letters in ("A", "Z", "AA", "AZ", "BA", "XFD")] == [0, 25, 26, 51, 52, 16383]

    @pytest.mark.parametrize("content", [b"no book", b"PK\3\4"])
    def test_what_is_no_workbook_is_told(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "labels.xlsx").write_bytes(content)
        with pytest.raises(DataError, match="labels.xlsx: expected a workbook of Excel, .*; save it as CSV"):
            read(tmp_path / "labels.xlsx")


def test_the_lines_for_arrays_in_the_docs_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = re.search(r"## Arrays.*?```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert lines is not None
    images = np.random.default_rng(0).integers(0, 255, (14, 20, 20, 1)).astype(np.float32)
    file = {"images": images, "labels": np.array([name.encode() for name in SEVEN_NAMES * 2])}
    monkeypatch.setitem(sys.modules, "h5py", SimpleNamespace(File=lambda name: file if name == "faces.h5" else None))
    monkeypatch.chdir(tmp_path)
    exec(lines[1], {})
    samples = read(tmp_path / "faces" / "manifest.csv", channels=1)
    assert [samples.class_names[k] for k in samples.labels] == [*SEVEN_NAMES * 2]


@pytest.mark.parametrize("name", ["faces.h5", "faces.HDF5", "faces.npz", "X_train.npy", "faces.mat", "faces.pkl"])
def test_arrays_are_told_what_to_do(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x89HDF")
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(DataError, match=rf"{name}: .* section Arrays of docs/data.md"):
            read(place)


def workbook(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Write a workbook as Excel does: texts in a list of their own, empty cells left away, and one text inside."""
    shared = list(dict.fromkeys(text for row in rows for text in row if text))
    lines = []
    for number, row in enumerate(rows, 1):
        cells = [
            f'<c r="{"ABC"[at]}{number}" t="s"><v>{shared.index(text)}</v></c>' for at, text in enumerate(row) if text
        ]
        lines.append(f'<row r="{number}">{"".join(cells)}</row>')
    lines[-1] = f'<row><c r="A9" t="inlineStr"><is><t>{rows[-1][0]}</t></is></c><c r="B9"/><c r="C9" t="str"><v>'
    lines[-1] += f"{rows[-1][2]}</v></c></row>"
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    with zipfile.ZipFile(path, "w") as book:
        texts = "".join(f"<si><t>{text}</t></si>" for text in shared)
        book.writestr("xl/sharedStrings.xml", f"<sst {space}>{texts}</sst>")
        book.writestr("xl/worksheets/sheet2.xml", f"<worksheet {space}><sheetData/></worksheet>")
        book.writestr(
            "xl/worksheets/sheet1.xml", f"<worksheet {space}><sheetData>{''.join(lines)}</sheetData></worksheet>"
        )


@pytest.mark.parametrize("suffix", [".jpeg", ".JPG", ".tiff", ".bmp", ".webp", ".png"])
def test_formats(suffix: str, tmp_path: Path) -> None:
    rows = faces(tmp_path, "{k}{label}" + suffix)
    table(tmp_path / "t.csv", None, rows)
    assert labels(read(tmp_path)) == dict(rows)


@pytest.mark.parametrize(
    "written",
    [
        "C:\\Users\\bob\\faces\\{label}\\{name}",
        "/home/bob/sets/faces/{label}/{name}",
        "faces\\{label}\\{name}",
        "./faces/{label}/{name}",
        "{name}",
        "{stem}",
        "../data/{label}/{name}",
    ],
)
def test_paths_of_another_machine(written: str, tmp_path: Path) -> None:
    rows = faces(tmp_path, "faces/{label}/{label}_{k}.jpg")
    there = [(written.format(label=label, name=Path(path).name, stem=Path(path).stem), label) for path, label in rows]
    samples = ManifestDataModule(str(table(tmp_path / "t.csv", ("image", "label"), there)), image_size=16).table
    assert {str(Path(path)): label for path, label in labels(samples).items()} == dict(rows)


def test_a_single_missing_image_is_not_looked_for_elsewhere(tmp_path: Path) -> None:
    rows = faces(tmp_path, "{label}/{k}.jpg")
    (tmp_path / "angry" / "1.jpg").unlink()
    path = table(tmp_path / "t.csv", ("path", "label"), rows)
    with pytest.raises(DataError, match="angry/1.jpg: expected an image"):
        _ = ManifestDataModule(str(path), image_size=16).table
    assert labels(ManifestDataModule(str(path), image_size=16, on_error="skip").table) == dict(rows[:1] + rows[2:])


def test_names_that_stand_twice_are_not_guessed(tmp_path: Path) -> None:
    rows = faces(tmp_path, "{label}/{k}.jpg")
    path = table(tmp_path / "t.csv", ("image", "label"), [(Path(name).name, label) for name, label in rows])
    with pytest.raises(DataError, match=r"t.csv, line 2: '0.jpg' may be angry/0.jpg or disgust/0.jpg"):
        ManifestDataModule(str(path))


def test_images_that_are_nowhere_name_the_option(tmp_path: Path) -> None:
    rows = faces(tmp_path / "elsewhere")
    path = table(tmp_path / "tables" / "t.csv", ("image", "label"), rows)
    with pytest.raises(DataError, match=r"'0_angry.jpg' is not in .*tables, nor are the others; pass") as caught:
        ManifestDataModule(str(path))
    assert proposed(str(caught.value)) == [f"--data.images={tmp_path / 'elsewhere'}"]
    assert labels(ManifestDataModule(str(path), images=str(tmp_path / "elsewhere"), image_size=16).table) == dict(rows)


class TestColumnsOfOtherNames:
    """``data.columns`` says what no name tells, and the message says what to type."""

    @pytest.mark.parametrize("header", [("photo_of", "mood"), ("yes", "a b: c"), ("x1", "no"), None])
    @pytest.mark.usefixtures("blank_pictures")
    def test_the_proposal_works(
        self, header: Sequence[str] | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rows = faces(tmp_path)
        if header is None:  # two columns could be the label
            path = table(tmp_path / "t.csv", None, [(name, "x", label, "happy") for name, label in rows])
        else:
            path = table(tmp_path / "t.csv", header, rows)
        typed = ["data", "inspect", str(path), f"--out={tmp_path / 'out'}", "--data.image_size=16"]
        assert fer(*typed) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        options = proposed(message)
        assert len(options) == 1
        assert options[0].startswith("--data.columns={")
        if header is None:
            options = ["--data.columns={path: 1, label: 3}"]
        assert fer(*typed, *options) == 0
        report = json.loads((tmp_path / "out" / "inspect.json").read_text())
        assert report["images"] == len(rows)
        assert "label from column" in report["findings"][0]

    @pytest.mark.usefixtures("blank_pictures")
    def test_a_folder_with_such_a_table_gives_the_same_proposal(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rows = faces(tmp_path / "set", "x{label}x{k}.jpg")
        table(tmp_path / "set" / "t.csv", ("photo_of", "mood"), rows)
        typed = ["data", "inspect", str(tmp_path / "set"), f"--out={tmp_path / 'out'}", "--data.image_size=16"]
        assert fer(*typed) == 2
        options = proposed(capsys.readouterr().err)
        assert options == ["--data.columns={path: photo_of, label: mood}"]
        assert fer(*typed, *options) == 0

    @pytest.mark.usefixtures("blank_pictures")
    def test_a_column_may_be_no_split(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        rows = [(path, label, "studio") for path, label in faces(tmp_path)]
        path = table(tmp_path / "t.csv", ("image", "label", "subset"), rows)
        typed = ["data", "inspect", str(path), f"--out={tmp_path / 'out'}", "--data.image_size=16"]
        assert fer(*typed) == 2
        assert proposed(message := capsys.readouterr().err) == ["--data.columns={split: null}"]
        assert "unknown split 'studio'" in message
        assert fer(*typed, *proposed(message)) == 0

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"label": "mood"}, "data.columns: .*t.csv has no column 'mood'; it has image, label"),
            ({"label": 3}, "has no column '3'"),
            ({"lable": "label"}, "data.columns: 'lable' has no meaning; expected some of path, label, split"),
        ],
    )
    def test_wrong_ones_are_refused(self, columns: dict[str, Any], message: str, tmp_path: Path) -> None:
        path = table(tmp_path / "t.csv", ("image", "label"), faces(tmp_path))
        with pytest.raises(Exception, match=message):
            ManifestDataModule(str(path), columns=columns)


class TestFoldersOfTables:
    """Several tables, one for each split, and Hugging Face's form."""

    @pytest.mark.parametrize(
        "names", [("train_labels", "test_labels"), ("train", "test"), ("labels_train", "TestLabels")]
    )
    @pytest.mark.parametrize("nested", [False, True])
    def test_a_table_for_each_split(self, names: tuple[str, str], nested: bool, tmp_path: Path) -> None:
        expected: dict[str, str] = {}
        of_split: dict[str, str] = {}
        for split, name in zip(("train", "test"), names, strict=True):
            rows = faces(tmp_path, f"{split}/{split}_{{k}}{{label}}.jpg")
            expected |= dict(rows)
            of_split |= {path: split for path, _ in rows}
            bare = rows if nested else [(Path(path).name, label) for path, label in rows]
            table(tmp_path / f"{name}.csv", ("image", "label"), bare)
        samples = read(tmp_path, val_fraction=0)
        assert labels(samples) == expected
        assert splits(samples) == of_split

    @pytest.mark.parametrize("place", ["labels", "annotations"])
    def test_a_folder_for_the_tables(self, place: str, tmp_path: Path) -> None:
        rows = faces(tmp_path / "images")
        table(tmp_path / place / "faces.csv", ("image", "label"), rows)
        assert labels(read(tmp_path)) == {f"images/{path}": label for path, label in rows}

    @pytest.mark.parametrize("form", ["root", "parts"])
    @pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
    def test_hugging_face(self, form: str, suffix: str, tmp_path: Path) -> None:
        rows = [row for split in ("train", "test") for row in faces(tmp_path, f"{split}/{{label}}{{k}}.png")]
        places = {"": rows} if form == "root" else {
            split: [(path.split("/")[1], label) for path, label in rows if path.startswith(split)]
            for split in ("train", "test")
        }  # fmt: skip
        for place, part in places.items():
            if suffix == ".csv":
                table(tmp_path / place / "metadata.csv", ("file_name", "label"), part)
            else:
                lines = [json.dumps({"file_name": path, "label": label, "boxes": [[0, 0]]}) for path, label in part]
                (tmp_path / place / "metadata.jsonl").write_text("\n".join(lines) + "\n")
        samples = read(tmp_path, val_fraction=0)
        assert labels(samples) == dict(rows)
        assert splits(samples) == {path: path.split("/")[0] for path, _ in rows}

    def test_a_column_of_marks_for_each_expression(self, tmp_path: Path) -> None:
        expected: dict[str, str] = {}
        for part in ("train", "valid"):
            rows = faces(tmp_path / part)
            marks = [[int(label == name) for name in SEVEN_NAMES] for _, label in rows]
            lines = [(path, *mark) for (path, _), mark in zip(rows, marks, strict=True)]
            table(tmp_path / part / "_classes.csv", ("filename", *(f" {name.title()}" for name in SEVEN_NAMES)), lines)
            expected |= {f"{part}/{path}": label for path, label in rows}
        samples = read(tmp_path)
        assert labels(samples) == expected
        assert "label from the columns of 0 and 1 angry, disgust" in samples.remarks[0]
        assert {split: len(samples.rows(split)) for split in ("train", "val")} == {"train": 14, "val": 14}

    def test_usage_is_a_split(self, tmp_path: Path) -> None:
        usages = ("Training", "PublicTest", "PrivateTest")
        rows = [(path, label, usages[k % 3]) for k, (path, label) in enumerate(faces(tmp_path, each=3))]
        table(tmp_path / "labels.csv", ("image", "emotion", "Usage"), rows)
        wanted = dict(zip(usages, ("train", "val", "test"), strict=True))
        assert splits(read(tmp_path)) == {path: wanted[usage] for path, _, usage in rows}

    def test_parquet(self, tmp_path: Path) -> None:
        pa = pytest.importorskip("pyarrow")
        rows = faces(tmp_path)
        columns = {"image": [path for path, _ in rows], "emotion": [label for _, label in rows], "age": [3] * len(rows)}
        pytest.importorskip("pyarrow.parquet").write_table(pa.table(columns), tmp_path / "faces.parquet")
        assert labels(read(tmp_path)) == dict(rows)

    def test_json(self, tmp_path: Path) -> None:
        rows = faces(tmp_path)
        (tmp_path / "labels.json").write_text(json.dumps([{"image": path, "emotion": label} for path, label in rows]))
        assert labels(read(tmp_path)) == dict(rows)


class TestYolo:
    """Images and texts, ``data.yaml`` names the classes."""

    @staticmethod
    def write(root: Path, form: str, names: str = "list") -> dict[str, str]:
        written = {}
        for split in ("train", "valid", "test"):
            for code, name in enumerate(YOLO_NAMES):
                for k in range(2):
                    images, texts = (f"{split}/images", f"{split}/labels")
                    if form == "by kind":
                        images, texts = (f"images/{split}", f"labels/{split}")
                    face(root / images / f"ffhq_{split}{code}.{k}.png", 10 * code + k)
                    text = root / texts / f"ffhq_{split}{code}.{k}.txt"
                    text.parent.mkdir(parents=True, exist_ok=True)
                    text.write_text(f"{code} 0.5 0.5 1.0 1.0\n")
                    written[f"{images}/ffhq_{split}{code}.{k}.png"] = name
        listed = list(YOLO_NAMES) if names == "list" else dict(enumerate(YOLO_NAMES))
        (root / "data.yaml").write_text(json.dumps({"nc": 8, "names": listed}))
        return written

    @pytest.mark.parametrize("form", ["by split", "by kind"])
    @pytest.mark.parametrize("names", ["list", "mapping"])
    def test_it_is_read(self, form: str, names: str, tmp_path: Path) -> None:
        written = self.write(tmp_path, form, names)
        samples = read(tmp_path)
        synonyms = {"anger": "angry"}
        assert labels(samples) == {path: synonyms.get(name.lower(), name.lower()) for path, name in written.items()}
        assert {split: len(samples.rows(split)) for split in ("train", "val", "test")} == dict.fromkeys(
            ("train", "val", "test"), 16
        )
        assert "data.yaml says: 0 Anger, 1 Contempt" in samples.remarks[0]

    def test_images_of_no_or_several_faces_are_left_out(self, tmp_path: Path) -> None:
        written = self.write(tmp_path, "by split")
        (tmp_path / "train/labels/ffhq_train0.0.txt").write_text("0 .2 .2 .1 .1\n3 .7 .7 .1 .1\n")
        (tmp_path / "train/labels/ffhq_train0.1.txt").unlink()
        samples = read(tmp_path)
        assert len(samples) == len(written) - 2
        assert dict(samples.left_out) == {
            "train/images/ffhq_train0.0.png": "2 faces have a label, expected one",
            "train/images/ffhq_train0.1.png": "no label",
        }

    @pytest.mark.parametrize(
        ("file", "text", "message"),
        [
            ("data.yaml", "nc: 8", "data.yaml: expected 'names'"),
            ("data.yaml", "names: [a, b]", "class . is not in data.yaml"),
            (
                "train/labels/ffhq_train0.0.txt",
                "angry 1\n",
                "expected <class> <x> <y> .*, or a label alone; found 'angry",
            ),
            ("classes.yaml", "names: [a, b]", "class . is not in classes.yaml"),
        ],
    )
    def test_what_is_malformed_is_named(self, file: str, text: str, message: str, tmp_path: Path) -> None:
        self.write(tmp_path, "by split")
        if file == "classes.yaml":
            (tmp_path / "data.yaml").unlink()
        (tmp_path / file).write_text(text)
        with pytest.raises(DataError, match=message):
            read(tmp_path)

    def test_a_yaml_file_of_another_name(self, tmp_path: Path) -> None:
        self.write(tmp_path, "by kind")
        (tmp_path / "data.yaml").rename(tmp_path / "faces8.YML")
        (tmp_path / "args.yaml").write_text("epochs: 3")
        samples = read(tmp_path)
        assert set(samples.class_names) >= {"contempt", "angry"}
        assert "faces8.YML says: 0 Anger" in samples.remarks[0]

    def test_the_yaml_file_is_not_the_set(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.write(tmp_path, "by split")
        assert fer("data", "inspect", str(tmp_path / "data.yaml")) == 2
        assert f"names the classes of a YOLO set; name its folder: {tmp_path}" in capsys.readouterr().err


class TestTexts:
    """A text with a label for each image."""

    @pytest.mark.parametrize("suffix", [".txt", ".cls"])
    @pytest.mark.parametrize("form", ["{}", "train/{}", "images/{}"])
    def test_a_label_alone(self, form: str, suffix: str, tmp_path: Path) -> None:
        rows = [(form.format(path), label) for path, label in faces(tmp_path / form.format(""), "img{k}.{label}.JPG")]
        for path, label in rows:
            text = (tmp_path / path.replace("images/", "labels/")).with_suffix(suffix)
            text.parent.mkdir(exist_ok=True)
            text.write_text(f"{label.upper()}\n")
        samples = read(tmp_path)
        assert labels(samples) == dict(rows)
        assert samples.remarks[0].endswith(": labels in a text for each image")
        assert set(splits(samples).values()) == {"train", "val"}

    def test_yolo_beside_the_images(self, tmp_path: Path) -> None:
        rows = [(f"{code}{k}.png", label) for code, label in enumerate(SEVEN_NAMES) for k in range(2)]
        for path, label in rows:
            face(tmp_path / "train" / path, int(path[:2]))
            (tmp_path / "train" / path).with_suffix(".txt").write_text(f"{SEVEN_NAMES.index(label)} .5 .5 1 1\n")
        with pytest.raises(DataError, match="the codes 0, 1, 2"):
            read(tmp_path)
        (tmp_path / "obj.names").write_text("\n".join(SEVEN_NAMES))
        assert labels(read(tmp_path)) == {f"train/{path}": label for path, label in rows}


class TestNamesOfFiles:
    """Names that hold the expression."""

    JAFFE = ("KA.AN1.39.tiff", "KA.DI1.42.tiff", "KM.FE3.20.tiff", "KM.HA1.4.tiff", "YM.NE2.50.tiff", "YM.SA1.55.tiff",
             "UY.SU2.144.tiff")  # fmt: skip
    KDEF = ("AF01ANS.JPG", "AF02DIS.JPG", "BM03AFHL.JPG", "AM04HAFR.JPG", "BF05NES.JPG", "AF06SAS.JPG", "AM07SUS.JPG")

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (JAFFE, ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")),
            (KDEF, ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")),
            (("img001_anger.jpg", "img002-Happiness.jpg", "sad (3).png"), ("angry", "happy", "sad")),
            (("train/1_fear.jpg", "test/2_joy.jpg"), ("fear", "happy")),
        ],
    )
    def test_known_ones_are_read(self, names: Sequence[str], expected: Sequence[str], tmp_path: Path) -> None:
        for seed, name in enumerate(names):
            face(tmp_path / name, seed, "L")
        samples = read(tmp_path, val_fraction=0)
        assert labels(samples) == dict(zip(names, expected, strict=True))
        if names == self.JAFFE:
            assert samples.columns["subject"].tolist() == sorted(name[:2] for name in names)
        if names[0].startswith("train"):
            assert splits(samples) == {name: name.split("/")[0] for name in names}

    def test_they_go_before_a_table_of_unknown_columns(self, tmp_path: Path) -> None:
        rows = faces(tmp_path)
        table(tmp_path / "sizes.csv", ("photo_of", "width"), [(path, 24) for path, _ in rows])
        assert labels(read(tmp_path)) == dict(rows)

    @pytest.mark.usefixtures("blank_pictures")
    def test_a_pattern_names_others(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for seed, (code, k) in enumerate((code, k) for code in "abc" for k in range(3)):
            face(tmp_path / "faces" / f"p{k}_{code}7.jpg", seed)
        out = f"--out={tmp_path / 'out'}"
        pattern = r"--data.pattern=^(?P<subject>p\d)_(?P<label>[a-z])\d"
        typed = ["data", "inspect", "--data=ManifestDataModule", f"--data.root={tmp_path / 'faces'}", out]
        assert fer(*typed) == 2
        assert "--data.pattern '_(?P<label>[a-z]+)[.]'" in capsys.readouterr().err
        assert fer(*typed, pattern) == 2
        assert "data.mapping" in (message := capsys.readouterr().err)
        assert "unknown class names 'a', 'b', 'c'" in message
        assert fer(*typed, pattern, "--data.mapping={a: angry, b: happy, c: sad}", "--data.image_size=16") == 0

    @pytest.mark.parametrize(
        ("pattern", "message"),
        [
            ("(?P<label>", "data.pattern: expected a regular expression"),
            ("[a-z]+", r"data.pattern: expected a group \(\?P<label>...\)"),
            ("(?P<label>xyz)", "data.pattern fits no image's name, such as 0_angry.jpg"),
        ],
    )
    def test_wrong_patterns_are_refused(self, pattern: str, message: str, tmp_path: Path) -> None:
        faces(tmp_path)
        with pytest.raises(Exception, match=message):
            ManifestDataModule(str(tmp_path), pattern=pattern)


def test_a_hybrid_set_reads_them_too(tmp_path: Path) -> None:
    rows = faces(tmp_path / "flat")
    table(tmp_path / "flat" / "train_labels.csv", ("image", "emotion"), rows)
    (tmp_path / "web").mkdir()
    named = faces(tmp_path / "web" / "faces")
    (tmp_path / "web" / "faces.json").write_text(json.dumps([{"image": f"faces/{p}", "label": n} for p, n in named]))
    sources = {
        "flat": HybridSource(path=str(tmp_path / "flat")),
        "web": HybridSource(path=str(tmp_path / "web" / "faces.json")),
        "names": HybridSource(path=str(tmp_path / "web" / "faces")),
    }
    found = labels(HybridDataModule(sources, min_side=0, image_size=16).table)
    assert {name: label for name, label in found.items() if name.startswith("flat/")} == {
        f"flat/{path}": label for path, label in rows
    }
    assert len(found) == 3 * len(rows)


def test_labels_in_an_archive(tmp_path: Path) -> None:
    rows = faces(tmp_path / "set")
    table(tmp_path / "set" / "labels.csv", ("image", "label"), rows)
    archive = shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path, "set")
    data: EmotionDataModule = ManifestDataModule(archive, image_size=16)
    assert labels(data.table) == dict(rows)
