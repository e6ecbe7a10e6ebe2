"""Malformed data sets: each is refused with one line that names file and place; nothing else is ever raised."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fer_lightning.data.sets.fer2013.fer2013 import scan_fer2013
from fer_lightning.data.sets.fer2013.fer2013_csv import _parse_pixels
from fer_lightning.data.table.bad_rows import BadRows
from fer_lightning.errors import DataError, FERError, LabelError
from tests.helpers.fer2013 import csv_lines, fake_rows, write_fer2013

COUNTS = {"Training": 7, "PublicTest": 3}
ROWS = fake_rows(COUNTS)
LINES = csv_lines(ROWS)
CSV = ("\n".join(LINES) + "\n").encode()
ICML = ("\n".join(csv_lines(ROWS, "icml")) + "\n").encode()
PIXELS = LINES[4].split(",")[1]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


def line_5(row: str | bytes) -> bytes:
    """Return the CSV with another line 5."""
    lines = [line.encode() for line in LINES]
    lines[4] = row if isinstance(row, bytes) else row.encode()
    return b"\n".join(lines) + b"\n"


def with_pixels(pixels: str) -> bytes:
    return line_5(f"3,{pixels},Training")


def swap(position: int, value: str) -> bytes:
    values = PIXELS.split(" ")
    values[position] = value
    return with_pixels(" ".join(values))


def png(size: tuple[int, int] = (48, 48)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 50).save(buffer, "png")
    return buffer.getvalue()


FEW = "line 5: expected 2304 pixel values (48x48), found "
RANGE = "line 5: expected whole numbers in 0..255, found "
HEADER = "line 1: expected a header with the columns emotion, pixels and Usage; "
BAD_CSV: dict[str, tuple[bytes, str]] = {
    "pixels: one too few": (
        with_pixels(PIXELS.rsplit(" ", 1)[0]),
        FEW + "2303",
    ),
    "pixels: one too many": (with_pixels(PIXELS + " 7"), FEW + "2305"),
    "pixels: none": (with_pixels(""), FEW + "0"),
    "pixels: 300": (swap(16, "300"), RANGE + "'300' as pixel 17"),
    "pixels: 65537": (swap(16, "65537"), RANGE + "'65537' as pixel 17"),
    "pixels: negative": (swap(0, "-1"), RANGE + "'-1' as pixel 1"),
    "pixels: fraction": (swap(2303, "0.5"), RANGE + "'0.5' as pixel 2304"),
    "pixels: word": (
        swap(9, "x" * 500),
        RANGE + f"'{'x' * 30}...' as pixel 10",
    ),
    "pixels: 5000 digits": (swap(9, "9" * 5000), RANGE + "'999"),
    "pixels: list": (with_pixels(f"[{PIXELS}]"), RANGE + "'["),
    "label: 9": (
        line_5(f"9,{PIXELS},Training"),
        "line 5: unknown emotion code '9', expected one of 0 angry, 1",
    ),
    "label: x": (line_5(f"x,{PIXELS},Training"), "line 5: unknown emotion code 'x'"),
    "label: empty": (line_5(f",{PIXELS},Training"), "line 5: unknown emotion code ''"),
    "label: fraction": (line_5(f"3.0,{PIXELS},Training"), "line 5: unknown emotion code '3.0'"),
    "usage: unknown": (
        line_5(f"3,{PIXELS},Trial"),
        "line 5: unknown usage 'Trial', expected one of Training, ",
    ),
    "usage: empty": (line_5(f"3,{PIXELS},"), "line 5: unknown usage ''"),
    "columns: one too few": (line_5(f"3,{PIXELS}"), "line 5: expected 3 columns, found 2"),
    "columns: one too many": (line_5(f"3,{PIXELS},Training,1"), "line 5: expected 3 columns, found 4"),
    "quote: unclosed": (
        line_5(f'3,"{PIXELS},Training'),
        "line 5: expected a row of CSV, found quotes that do not match",
    ),
    "bytes: NUL": (line_5(b"3," + b"\0" * 100), "line 5: expected text, found NUL bytes"),
    "bytes: latin-1": (line_5(b"3,\xe9,Training"), "line 5: expected UTF-8 text, found byte 0xe9"),
    "last line: no usage": (CSV[:-12], "line 11: expected 3 columns, found 2; the file ends in the middle of a row?"),
    "last line: half a usage": (CSV[:-3], "line 11: unknown usage 'PublicTe', expected one of Training, PublicTest"),
    "last line: few pixels": (ICML[:-5000], "; the file ends in the middle of a row?"),
    "line: endless": (
        line_5("3," + "1 " * 40_000),
        "line 5: expected a row of about 9,000 characters, found one",
    ),
    "file: empty": (
        b"",
        HEADER + "it looks like an empty file (0 bytes)",
    ),
    "file: header only": (LINES[0].encode() + b"\n", "has a header (line 1) but no rows"),
    "file: no header": (
        CSV.split(b"\n", 1)[1],
        HEADER + "no 'emotion' in '",
    ),
    "file: column missing": (
        CSV.replace(b",Usage", b",use", 1),
        HEADER + "no 'usage' in 'emotion,",
    ),
    "file: column twice": (
        CSV.replace(b"Usage", b"Usage,emotion", 1),
        "line 1: expected a header with the columns emotion",
    ),
    "file: semicolons": (CSV.replace(b",", b";"), "are the columns separated by commas?"),
    "file: old Mac line ends": (CSV.replace(b"\n", b"\r"), "line 1: expected a header"),
    "file: UTF-16": (CSV.decode().encode("utf-16"), "it looks like UTF-16 text"),
    "file: binary": (bytes(range(256)) * 40, "it looks like binary data"),
    "file: ZIP": (b"PK\x03\x04" + bytes(5000), "expected a whole .zip archive, found a ZIP archive"),
    "file: HTML": (b"<!DOCTYPE html>\n<html></html>", "it looks like an HTML page"),
    "file: LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid 1\n", "it looks like a Git LFS pointer"),
}


def assert_one_line(error: FERError, *parts: str) -> None:
    message = str(error)
    assert message.isprintable()
    assert len(message) <= 250
    for part in parts:
        assert part in message


@pytest.mark.parametrize("case", BAD_CSV)
def test_a_malformed_csv_is_refused(tmp_path: Path, case: str) -> None:
    content, expected = BAD_CSV[case]
    (tmp_path / "fer2013.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        scan_fer2013(tmp_path)
    assert type(caught.value) is (LabelError if case.startswith("label") else DataError)
    assert_one_line(caught.value, "fer2013.csv", expected)


def coded(path: Path, labels: Sequence[object], usage: str = "Training") -> Path:
    """Write a CSV with one row of each label."""
    path.write_text("emotion,pixels,Usage\n" + "".join(f"{label},{PIXELS},{usage}\n" for label in labels))
    return path


@pytest.mark.parametrize("labels", [[*range(8)] * 2, [*range(1, 8)] * 2, [*[0] * 997, 7, 7]])
def test_the_code_7_says_that_the_others_are_not_those_of_fer2013(labels: list[int], tmp_path: Path) -> None:
    root = coded(tmp_path / "ferplus.csv", labels)
    with pytest.raises(LabelError, match=r"2 rows have the code 7, so the codes are not FER2013's") as caught:
        scan_fer2013(root, on_error="skip")
    message = str(caught.value)
    assert "pass --data FERPlusDataModule if they are FER+'s (0 neutral), --data CKPlusDataModule if CK+'s" in message
    assert message.endswith("else write names instead of codes into column emotion and pass --data FERPlusDataModule")
    assert len(scan_fer2013(coded(tmp_path / "one.csv", [*range(7), 7]), on_error="skip")) == 7
    assert len(scan_fer2013(coded(tmp_path / "few.csv", [*[0] * 999, 7, 7]), on_error="skip")) == 999


def test_names_of_expressions_and_of_splits_are_read_too(tmp_path: Path) -> None:
    root = coded(tmp_path / "named.csv", ["Angry", "happiness", " SAD", "fearful"], "valid")
    table = scan_fer2013(root)
    assert [table.class_names[label] for label in table.labels] == ["angry", "happy", "sad", "fear"]
    assert set(table.splits) == {"val"}


def folder(tmp_path: Path) -> Path:
    return write_fer2013(tmp_path, "folder", COUNTS)


def first_image(root: Path) -> Path:
    return next((root / "train" / "fear").iterdir())


def write_first(content: bytes) -> Callable[[Path], object]:
    return lambda root: first_image(folder(root)).write_bytes(content)


def make_unknown_class(root: Path) -> None:
    (folder(root) / "train" / "fear").rename(root / "train" / "feer")


def make_contempt(root: Path) -> None:
    (folder(root) / "train" / "fear").rename(root / "train" / "contempt")


def move_training_to_test(root: Path) -> None:
    image = first_image(folder(root))
    (root / "test" / "fear").mkdir(exist_ok=True)
    image.rename(root / "test" / "fear" / "Training_3.png")


def make_both(root: Path) -> None:
    write_fer2013(folder(root), "csv", COUNTS)


def make_two_tables(root: Path) -> None:
    write_fer2013(write_fer2013(root, "csv", COUNTS), "icml", COUNTS)


def make_empty_folders(root: Path) -> None:
    (root / "train" / "happy").mkdir(parents=True)


def make_broken_link(root: Path) -> None:
    (folder(root) / "train" / "fear" / "Training_99.png").symlink_to(root / "nowhere.png")


def make_link_out(root: Path) -> None:
    outside = root.parent / f"{root.name}_outside.png"
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(outside)
    (folder(root) / "train" / "fear" / "Training_99.png").symlink_to(outside)


def make_pipe(root: Path) -> None:
    os.mkfifo(folder(root) / "train" / "fear" / "Training_99.png")


def make_subfolder(root: Path) -> None:
    (folder(root) / "train" / "fear" / "more").mkdir()


def make_stray_image(root: Path) -> None:
    (folder(root) / "train" / "stray.jpg").write_bytes(png())


def make_newline_name(root: Path) -> None:
    (folder(root) / "train" / "fear" / "a\nb.png").write_bytes(b"")


def make_something_else(root: Path) -> None:
    (root / "archive.zip").write_bytes(b"PK")
    (root / "notes.csv").write_text("a,b\n")


CUT_PNG = "expected an image, found a PNG file that is damaged or cut off"
BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "image: empty": (write_first(b""), "expected an image, found an empty file (0 bytes)"),
    "image: HTML": (write_first(b"<html><body>404</body></html>"), "expected an image, found an HTML page"),
    "image: text": (write_first(b"hello\nworld"), "expected an image, found something else (it starts with 'hello"),
    "image: LFS pointer": (write_first(b"version https://git-lfs.github.com/spec/v1"), "found a Git LFS pointer"),
    "image: truncated": (write_first(png()[:900]), CUT_PNG),
    "image: cut header": (write_first(png()[:20]), CUT_PNG),
    "image: flipped bits": (write_first(png()[:200] + b"\xff" * 50 + png()[250:]), CUT_PNG),
    "image: another size": (write_first(png((64, 32))), "expected 48x48 pixels, found 64x32"),
    "image: link out": (make_link_out, "Training_99.png: expected an image, found a link that leads out of"),
    "image: link to nowhere": (make_broken_link, "Training_99.png: expected an image, found no regular file"),
    "image: pipe": (make_pipe, "Training_99.png: expected an image, found no regular file"),
    "image: name of two lines": (make_newline_name, r"train/fear/a\nb.png: expected an image, found an empty file"),
    "folder: in a class": (make_subfolder, "train/fear/more: expected an image, found a folder"),
    "folder: image outside classes": (make_stray_image, "train/stray.jpg: expected images in train/<emotion>/ only"),
    "class: unknown": (make_unknown_class, "train/feer: unknown expression 'feer'; did you mean 'fear'?"),
    "class: contempt": (make_contempt, "train/contempt: 'contempt' is not part of the label scheme 'fer7'"),
    "usage: contradiction": (
        move_training_to_test,
        "Training_3.png: the name says Training, the folder says Public",
    ),
    "layout: both": (make_both, "holds FER2013 more than once (fer2013.csv, test/, train/)"),
    "layout: two files": (make_two_tables, "holds FER2013 more than once (fer2013.csv, icml_face_data.csv)"),
    "layout: no images": (make_empty_folders, "expected images under train/<emotion>/, found none"),
    "layout: something else": (make_something_else, "expected fer2013.csv or icml_face_data.csv"),
    "layout: nothing": (lambda root: None, "found nothing"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_malformed_folder_is_refused(tmp_path: Path, case: str) -> None:
    make, expected = BAD_FOLDERS[case]
    make(tmp_path)
    with pytest.raises(DataError) as caught:
        scan_fer2013(tmp_path)
    assert type(caught.value) is (LabelError if case.startswith("class") else DataError)
    place = "train/fear/" if case.startswith("image") else tmp_path.name
    assert_one_line(caught.value, place, expected)


def test_what_was_found_is_listed(tmp_path: Path) -> None:
    make_something_else(tmp_path)
    with pytest.raises(DataError, match=r"found archive.zip, notes.csv; fer data inspect PATH"):
        scan_fer2013(tmp_path)


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fer does not exist; expected a folder with fer2013.csv or icml"):
        scan_fer2013(tmp_path / "fer")


def test_a_very_long_path_still_fits_one_message(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 200) / ("e" * 200)
    deep.mkdir(parents=True)
    (deep / "fer2013.csv").write_bytes(swap(16, "300"))
    with pytest.raises(DataError) as caught:
        scan_fer2013(deep)
    assert_one_line(caught.value, "eee/fer2013.csv, line 5: ", "found '300' as pixel 17")


def test_an_image_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    content = bytearray(png())
    content[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height, as the header states them
    write_first(bytes(content))(tmp_path)
    with pytest.raises(DataError, match="train/fear/") as caught:
        scan_fer2013(tmp_path)
    assert_one_line(caught.value)


EDIT = st.tuples(st.integers(0, len(CSV) - 1), st.binary(max_size=3), st.integers(0, 40))


@given(st.lists(EDIT, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_csv_gives_a_table_or_one_line(tmp_path: Path, edits: list[tuple[int, bytes, int]]) -> None:
    content = CSV
    for position, inserted, removed in edits:
        content = content[:position] + inserted + content[position + removed :]
    path = tmp_path / "fer2013.csv"
    path.write_bytes(content)
    assert_table_or_one_line(path)


IMAGE = png()
IMAGE_EDIT = st.tuples(st.integers(0, len(IMAGE) - 1), st.binary(max_size=3), st.integers(0, 40))


@given(st.lists(IMAGE_EDIT, min_size=1, max_size=3))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_image_gives_a_table_or_one_line(tmp_path: Path, edits: list[tuple[int, bytes, int]]) -> None:
    content = IMAGE
    for position, inserted, removed in edits:
        content = content[:position] + inserted + content[position + removed :]
    (tmp_path / "train" / "sad").mkdir(parents=True, exist_ok=True)
    (tmp_path / "train" / "sad" / "Training_0.png").write_bytes(content)
    assert_table_or_one_line(tmp_path)


def assert_table_or_one_line(root: Path) -> None:
    try:
        table = scan_fer2013(root)
    except DataError as error:
        assert_one_line(error)
    else:
        assert table.images.shape[1:] == (1, 48, 48)


@pytest.mark.parametrize(
    "value", ["255", "0", "007", "00", "256", "257", "299", "1255", "0255", "0001", "25", "2x5", "/5", ":5", "-5"]
)
@pytest.mark.parametrize("position", [0, 9, 2303])
def test_a_pixel_is_read_or_refused_alike_in_both_forms_of_reading(value: str, position: int) -> None:
    texts = PIXELS.split(" ")
    texts[position] = value
    pixels = [int(text) for text in [*texts[:position], "0", *texts[position + 1 :]]]
    for separator in (" ", "  ", "\t"):  # only numbers with single spaces between them take the fast way
        text = separator.join(texts).encode()
        if value.isdigit() and int(value) <= 255:
            pixels[position] = int(value)
            assert _parse_pixels(text).tolist() == pixels
        else:
            with pytest.raises(DataError, match=f"found {value!r} as pixel {position + 1}"):
                _parse_pixels(text)


def test_a_doubled_space_does_not_stand_for_a_value_that_is_lost() -> None:
    text = " ".join(["7"] * 2304).replace("7 7", "77", 1)  # of two numbers one, which is short enough to be one
    for doubled in (text[:100] + " " + text[100:], text[:-2] + " " + text[-2:]):
        assert doubled.count(" ") == 2303
        with pytest.raises(DataError, match="expected 2304 pixel values .*, found 2303"):
            _parse_pixels(doubled.encode())


@given(st.integers(0, 2302), st.sampled_from(["", " ", "\t"]), st.integers(0, 2302))
@settings(max_examples=40, deadline=None)
def test_spaces_that_moved_neither_hide_nor_add_a_value(gap: int, between: str, doubled: int) -> None:
    texts = PIXELS.split(" ")
    gaps = [" "] * 2303
    gaps[doubled] = "  "
    gaps[gap] = between
    text = "".join(text + gap for text, gap in zip(texts, [*gaps, ""], strict=True))
    try:
        wanted: object = np.array([int(value) for value in text.split()], np.uint8).tolist()
        if len(text.split()) != 2304 or max(map(int, text.split())) > 255:
            wanted = DataError
    except OverflowError:
        wanted = DataError
    if wanted is DataError:
        with pytest.raises(DataError):
            _parse_pixels(text.encode())
    else:
        assert _parse_pixels(text.encode()).tolist() == wanted


def test_half_of_the_rows_may_be_bad_and_no_more() -> None:
    bad = BadRows("fer2013.csv, ", "skip")
    bad.add("line 2", DataError("expected a number"))
    bad.check_share(2)
    bad.add("line 3", DataError("expected a number"))
    with pytest.raises(DataError, match="2 of 3 rows are bad, too many to skip; the first: line 2: expected a number"):
        bad.check_share(3)


def test_of_a_long_reason_the_end_is_left_out_and_not_the_way_out() -> None:
    bad = BadRows("folder/", "raise")
    with pytest.raises(DataError) as caught:
        bad.add("a.png", DataError("expected an image, found a PNG file that is damaged (" + "x" * 300 + ")"))
    message = str(caught.value)
    assert message.startswith("folder/a.png: expected an image, found a PNG file that is damaged (xxx")
    assert message.endswith("x ...; --data.on_error skip leaves it out")
    assert len(message) == 250
