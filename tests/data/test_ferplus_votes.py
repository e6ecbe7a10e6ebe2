from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fer_lightning.data.sets.fer2013.fer2013 import scan_fer2013
from fer_lightning.data.sets.fer2013.ferplus_votes import aligned_votes, read_votes, votes_to_soft_labels
from fer_lightning.emotions import FERPLUS_COLUMNS, SEVEN
from fer_lightning.errors import DataError
from tests.helpers.fer2013 import VOTE_COLUMNS, csv_lines, fake_rows, write_fer2013

ROWS = fake_rows()
LABEL_COLUMNS = [4, 5, 6, 1, 3, 2, 0]  # of the votes, in the order of the labels


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


def expected_soft_labels() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    soft = np.zeros((len(ROWS.labels), 7))
    for row, votes in enumerate(ROWS.votes.tolist()):
        kept = [votes[column] for column in LABEL_COLUMNS]
        soft[row] = [count / sum(kept) for count in kept] if sum(kept) else np.eye(7)[ROWS.labels[row]]
    return soft


@pytest.mark.parametrize("form", ["csv", "icml"])
def test_votes_become_soft_labels(tmp_path: Path, form: str) -> None:
    write_fer2013(write_fer2013(tmp_path, form), "ferplus")
    table = scan_fer2013(tmp_path, soft_labels=True)
    assert table.soft_labels is not None
    assert table.soft_labels.dtype == np.float32
    np.testing.assert_allclose(table.soft_labels, expected_soft_labels(), rtol=1e-6)


@pytest.mark.parametrize("where", [".", ".."])
def test_a_folder_is_aligned_by_the_numbers_in_its_names(tmp_path: Path, where: str) -> None:
    root = write_fer2013(tmp_path / "fer", "folder")
    write_fer2013(root / where, "ferplus")
    table = scan_fer2013(root, soft_labels=True)
    assert table.soft_labels is not None
    numbers = [int(Path(name).stem.split("_")[1]) for name in table.files.tolist()]
    np.testing.assert_allclose(table.soft_labels, expected_soft_labels()[numbers], rtol=1e-6)


def test_a_folder_may_hold_a_part_of_the_rows(tmp_path: Path) -> None:
    root = write_fer2013(write_fer2013(tmp_path, "folder"), "ferplus")
    shutil.rmtree(root / "test")
    table = scan_fer2013(root, soft_labels=True)
    assert len(table) == 70


def test_skipped_rows_do_not_shift_the_votes(tmp_path: Path) -> None:
    lines = csv_lines(ROWS)
    lines[5] = "9" + lines[5][1:]
    lines.insert(3, "")
    (tmp_path / "fer2013.csv").write_text("\n".join(lines))
    write_fer2013(tmp_path, "ferplus")
    table = scan_fer2013(tmp_path, soft_labels=True, on_error="skip")
    assert table.soft_labels is not None
    np.testing.assert_allclose(table.soft_labels, np.delete(expected_soft_labels(), 4, axis=0), rtol=1e-6)


def test_column_order_and_bom_do_not_matter(tmp_path: Path) -> None:
    write_fer2013(tmp_path, "ferplus")
    usages, votes = read_votes(tmp_path / "fer2013new.csv")
    lines = [line.split(",") for line in (tmp_path / "fer2013new.csv").read_text().splitlines()]
    text = "\r\n".join(",".join(reversed(fields)) for fields in lines)
    (tmp_path / "fer2013new.csv").write_bytes(("\ufeff" + text).encode())
    again = read_votes(tmp_path / "fer2013new.csv")
    np.testing.assert_array_equal(again[0], usages)
    np.testing.assert_array_equal(again[1], votes)
    np.testing.assert_array_equal(votes, ROWS.votes)


def test_votes_for_no_expression_are_dropped() -> None:
    votes = np.array([[1, 0, 0, 0, 3, 0, 0, 4, 1, 1], [0, 0, 0, 0, 0, 0, 0, 9, 1, 0]])
    soft = votes_to_soft_labels(votes, np.array([0, 5]))
    assert soft.tolist() == [[0.75, 0, 0, 0, 0, 0, 0.25], [0, 0, 0, 0, 0, 1, 0]]


def refuse(root: Path, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        scan_fer2013(root, soft_labels=True)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) <= 250
    for part in parts:
        assert part in message


def test_missing_votes_are_refused_with_the_places(tmp_path: Path) -> None:
    root = write_fer2013(tmp_path / "fer", "csv")
    with pytest.raises(DataError, match=f"no fer2013new.csv in .*/fer and .*{tmp_path.name} "):
        scan_fer2013(root, soft_labels=True)


def test_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    write_fer2013(tmp_path, "csv")
    write_fer2013(tmp_path, "ferplus", {"Training": 70, "PublicTest": 14})
    refuse(tmp_path, "fer2013.csv has 98 rows", "fer2013new.csv has 84")


def test_another_order_of_usages_is_refused(tmp_path: Path) -> None:
    write_fer2013(tmp_path, "csv")
    write_fer2013(tmp_path, "ferplus", {"PublicTest": 14, "Training": 70, "PrivateTest": 14})
    refuse(tmp_path, "fer2013.csv, line 2: Training, but row 0 of", "is PublicTest")


def test_another_order_within_a_usage_is_refused(tmp_path: Path) -> None:
    write_fer2013(tmp_path, "csv", {"Training": 500})
    write_fer2013(tmp_path, "ferplus", {"Training": 500}, seed=3)
    refuse(tmp_path, "fer2013.csv and", "of the labels have the most votes", "not in the same order")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Training_88305.png", "88305 is no row of"),
        ("Training_80.png", "train/fear/Training_80.png: Training, but row 80 of"),
        ("Training_x.png", "train/fear/Training_x.png: no number in the name"),
        ("photo.png", "train/fear/photo.png: no number in the name"),
    ],
)
def test_numbers_that_are_no_rows_are_refused(tmp_path: Path, name: str, message: str) -> None:
    root = write_fer2013(write_fer2013(tmp_path, "folder"), "ferplus")
    image = sorted((root / "train" / "fear").iterdir())[0]
    image.rename(image.with_name(name))
    refuse(root, message, name)


def test_a_number_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    root = write_fer2013(write_fer2013(tmp_path, "folder"), "ferplus")
    image = sorted((root / "train" / "fear").iterdir())[0]
    shutil.copy(image, root / "train" / "happy" / image.name)
    refuse(root, f"train/happy/{image.name}: the same row number as train/fear/{image.name}")


HEADER = f"Usage,Image name,{','.join(VOTE_COLUMNS)}\n".encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: expected the columns of FER+, found no 'usage'"),
        (HEADER.replace(b",contempt", b""), "line 1: expected the columns of FER+, found no 'contempt'"),
        (HEADER + b"Training,a.png,1,2\n", "line 2: expected 12 columns, found 4"),
        (HEADER + b"Train,a.png,1,0,0,0,0,0,0,0,0,0\n", "line 2: unknown usage 'Train'"),
        (HEADER + b"Training,a.png,1,0,0,0,-1,0,0,0,0,0\n", "line 2: expected a number of votes, found '-1'"),
        (HEADER + b"Training,a.png,1,0,0,0,many,0,0,0,0,0\n", "line 2: expected a number of votes, found 'many'"),
        (HEADER + b"Training,a.png,1,0,0,0,99999999999999999999,0,0,0,0,0\n", "found '99999999999999999999'"),
        (HEADER + b"Training,\xe9.png,1,0,0,0,0,0,0,0,0,0\n", "expected UTF-8 text in CSV form"),
        (HEADER + b'Training,"a.png,1,0,0,0,0,0,0,0,0,0\n', "expected UTF-8 text in CSV form"),
        (HEADER + b"\0\0\0\0", "expected "),
    ],
)
def test_malformed_votes_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    write_fer2013(tmp_path, "csv")
    (tmp_path / "fer2013new.csv").write_bytes(content)
    refuse(tmp_path, "fer2013new.csv", message)


def votes_file(folder: Path, lines: list[str]) -> Path:
    """Write a file of votes below the usual header."""
    path = folder / "fer2013new.csv"
    path.write_text("\n".join([",".join(["Usage", "Image name", *FERPLUS_COLUMNS]), *lines, ""]))
    return path


def a_layout(folder: Path, is_csv: bool) -> Any:
    return SimpleNamespace(path=folder / "fer2013.csv", is_csv=is_csv, votes_folders=[folder])


def some_rows(numbers: list[int], labels: list[int] | None = None, total: int | None = None) -> Any:
    """Return rows of Training by their numbers in the original file."""
    return SimpleNamespace(
        numbers=np.array(numbers),
        labels=np.array(labels or [0] * len(numbers)),
        usages=np.zeros(len(numbers), np.int64),
        places=np.array([f"place {number}" for number in numbers]),
        total=np.array(len(numbers) if total is None else total),
    )


def test_votes_are_read_line_by_line(tmp_path: Path) -> None:
    own = ["Training,a.png,999999,0,0,0,0,0,0,0,0,1", "", "PrivateTest,b.png,1,2,3,4,5,6,7,8,9,10"]
    usages, votes = read_votes(votes_file(tmp_path, own))
    assert usages.tolist() == [0, 2]
    assert votes.tolist() == [[999999, *[0] * 8, 1], list(range(1, 11))]
    for line, said in (
        ("Training,a.png,1000000,0,0,0,0,0,0,0,0,1", "line 3: expected a number of votes, found '1000000'"),
        ("Training,a.png,0,0,0,0,0,0,0,0,0,1,2", "line 3: expected 12 columns, found 13"),
        ("Training,a.png,0,0,0,0,0,0,0,0,0", "line 3: expected 12 columns, found 11"),
        ("Training,a.png,\u00b2,0,0,0,0,0,0,0,0,1", "line 3: expected a number of votes, found '\u00b2'"),
    ):
        with pytest.raises(DataError) as caught:
            read_votes(votes_file(tmp_path, [own[0], line]))
        assert str(caught.value).endswith(f"fer2013new.csv, {said}")


def test_votes_and_rows_are_as_many_and_have_the_same_numbers(tmp_path: Path) -> None:
    votes_file(tmp_path, [f"Training,,{number + 1},0,0,0,0,0,0,0,0,0" for number in range(3)])
    chosen = aligned_votes(some_rows([2, 0], total=3), a_layout(tmp_path, True))
    assert chosen[:, 0].tolist() == [3, 1]
    for total in (2, 4):
        with pytest.raises(DataError, match=f"has {total} rows, .* has 3: expected the same"):
            aligned_votes(some_rows([0, 1], total=total), a_layout(tmp_path, True))
    assert aligned_votes(some_rows([2, 0]), a_layout(tmp_path, False))[:, 0].tolist() == [3, 1]
    for number, said in ((3, "3 is no row of .* [(]3 rows[)]"), (-1, "no number in the name")):
        with pytest.raises(DataError, match=f"^place {number}: {said}"):
            aligned_votes(some_rows([0, number]), a_layout(tmp_path, False))


@pytest.mark.parametrize(
    ("rows", "right", "agrees"), [(200, 70, True), (200, 69, False), (199, 0, True), (201, 70, False)]
)
def test_votes_hardly_ever_agree_where_less_than_35_percent_of_200_rows_do(
    rows: int, right: int, agrees: bool, tmp_path: Path
) -> None:
    # one vote each, for neutral, and rows without a vote for an expression, which do not count
    votes_file(tmp_path, ["Training,,1,0,0,0,0,0,0,0,0,0"] * rows + ["Training,,0,0,0,0,0,0,0,0,5,5"] * 50)
    neutral = SEVEN.index("neutral")
    given = some_rows(list(range(rows + 50)), [neutral] * right + [neutral - 1] * (rows - right) + [neutral] * 50)
    if agrees:
        assert len(aligned_votes(given, a_layout(tmp_path, True))) == rows + 50
    else:
        with pytest.raises(DataError, match="only 3[45]% of the labels have the most votes, expected about 64 %"):
            aligned_votes(given, a_layout(tmp_path, True))
