from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError
from fer_lightning.inference.recognizer import Face
from fer_lightning.inference.rows import FORMS, RowWriter, face_rows, faces_of, read_rows

SHARES = {name: share for name, share in zip(SEVEN.class_names, (0.5, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05), strict=True)}
FACE = Face(0, (1.23456789, 2.0, 3.0, 4.0), 0.9, SHARES)
NAN = float("nan")


def write(path: Path, *files: str, model: str = "m") -> None:
    with RowWriter(path, SEVEN.class_names, model) as rows:
        for file in files:
            faces = [] if file.startswith("empty") else [FACE, Face(1, (0.0, 0.0, 9.0, 9.0), NAN, SHARES, True)]
            rows.add(face_rows(rows.columns, faces, file=file, model=model, scheme="fer7"))


@pytest.mark.parametrize("form", FORMS)
def test_rows_come_back(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"rows{form}"
    write(path, "a.jpg", "empty.jpg")
    first, second, third = read_rows(path)
    assert (first["file"], first["x"], first["label"], first["confidence"], first["p_angry"]) == (
        "a.jpg",
        1.23457,
        "angry",
        0.5,
        0.5,
    )
    assert (first["frame"], first["face_id"], first["uncertain"]) == (None, 0, False)
    assert (second["det_score"], second["face_id"], second["uncertain"]) == (None, 1, True)
    assert {name for name, value in third.items() if value is not None} == {"file", "model", "scheme"}
    assert list(tmp_path.iterdir()) == [path]
    assert [first[name] for name in "xywh"] == [1.23457, 2.0, 3.0, 4.0]
    assert isinstance(first["face_id"], int)
    sure, unsure = faces_of([first, second, third])  # the third has no face
    assert sure == replace(FACE, box=(1.23457, 2.0, 3.0, 4.0))
    assert math.isnan(unsure.det_score)
    assert (unsure.number, unsure.box, unsure.probabilities, unsure.uncertain) == (1, (0, 0, 9, 9), SHARES, True)


@pytest.mark.parametrize("form", FORMS)
def test_any_name_of_a_file_makes_one_row(tmp_path: Path, form: str) -> None:
    write(tmp_path / f"rows{form.upper()}", 'ü, "a"|b\nc.jpg')
    first, second = read_rows(tmp_path / f"rows{form.upper()}")
    assert first["file"] == second["file"] == ('ü, "a"|b c.jpg' if form == ".csv" else 'ü, "a"|b\nc.jpg')
    assert form == ".parquet" or "ü" in (tmp_path / f"rows{form.upper()}").read_text()


def test_a_large_table_is_written_and_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("fer_lightning.inference.rows._AT_ONCE", 4)
    files = [f"{number}.jpg" for number in range(5)]
    write(tmp_path / "rows.parquet", *files)
    assert [(row["file"], row["face_id"]) for row in read_rows(tmp_path / "rows.parquet")] == [
        (file, face) for file in files for face in (0, 1)
    ]
    whole = parquet.ParquetFile(tmp_path / "rows.parquet")
    assert [whole.metadata.row_group(group).num_rows for group in range(whole.num_row_groups)] == [4, 4, 2]


def test_the_last_unit_is_kept_where_its_file_is_not_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flushed = tmp_path / "rows.jsonl", list[Path]()
    monkeypatch.setattr("fer_lightning.inference.rows.flush", flushed.append)
    write(path, "a.jpg", "b.jpg")
    assert flushed == [path]
    whole = path.read_bytes()
    for again, content, kept in (
        ({"b.jpg"}, whole, ["a.jpg"]),
        ({"a.jpg"}, whole, ["a.jpg", "b.jpg"]),
        ({"a.jpg"}, whole[:-5], ["a.jpg"]),
        (None, whole, ["a.jpg"]),
    ):
        path.write_bytes(content)
        with RowWriter(path, SEVEN.class_names, "m", again) as rows:
            assert list(rows.files) == kept
            assert [row["face_id"] for file in kept for row in rows.earlier(file)] == [0, 1] * len(kept)


@pytest.mark.parametrize("form", FORMS)
def test_sets_come_back(tmp_path: Path, form: str) -> None:
    path, faces = tmp_path / f"rows{form}", [replace(FACE, prediction_set=each) for each in (("angry", "sad"), ())]
    with RowWriter(path, SEVEN.class_names, "m", sets=True) as rows:
        rows.add(face_rows(rows.columns, faces, file="a.jpg", model="m", scheme="fer7"))
    found = list(read_rows(path))
    assert list(found[0])[-1] == "set"
    assert [face.prediction_set for face in faces_of(found)] == [("angry", "sad"), ()]
    with pytest.raises(ConfigError, match="has other columns"), RowWriter(path, SEVEN.class_names, "m"):
        pass


@pytest.mark.parametrize("form", FORMS)
def test_a_second_start_adds(tmp_path: Path, form: str) -> None:
    path, whole = tmp_path / f"rows{form}", tmp_path / f"whole{form}"
    write(path, "a.jpg", "b.jpg")
    with RowWriter(path, SEVEN.class_names, "m") as rows:  # the last unit is done again
        assert list(rows.files) == ["a.jpg"]
        assert [row["face_id"] for row in rows.earlier("a.jpg")] == [0, 1]
        for file in ("b.jpg", "empty.jpg"):
            rows.add(
                face_rows(
                    rows.columns,
                    [] if "empty" in file else [FACE, Face(1, (0.0, 0.0, 9.0, 9.0), NAN, SHARES, True)],
                    file=file,
                    model="m",
                    scheme="fer7",
                )
            )
    write(whole, "a.jpg", "b.jpg", "empty.jpg")
    assert list(read_rows(path)) == list(read_rows(whole))


@pytest.mark.parametrize("form", [".csv", ".jsonl"])
def test_wherever_it_was_cut_off_the_rest_is_done_again(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"rows{form}"
    write(path, "a.jpg", "b.jpg", "empty.jpg")
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with RowWriter(path, SEVEN.class_names, "m") as rows:
            done = set(rows.files)
            for file in ("a.jpg", "b.jpg", "empty.jpg"):
                if file not in done:
                    faces = [] if "empty" in file else [FACE, Face(1, (0.0, 0.0, 9.0, 9.0), NAN, SHARES, True)]
                    rows.add(face_rows(rows.columns, faces, file=file, model="m", scheme="fer7"))
        assert path.read_bytes() == whole


def test_rows_of_another_model_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "rows.csv", "a.jpg")
    with pytest.raises(ConfigError, match="holds rows of the model m: give another --out"):
        RowWriter(tmp_path / "rows.csv", SEVEN.class_names, "other")
    with pytest.raises(ConfigError, match="other columns"):
        RowWriter(tmp_path / "rows.csv", ["happy", "sad"], "m")
    with pytest.raises(ConfigError, match=r"ends in \.csv, \.jsonl, \.parquet"):
        RowWriter(tmp_path / "rows.txt", SEVEN.class_names, "m")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        RowWriter(tmp_path / "file" / "rows.csv", SEVEN.class_names, "m")


def test_an_error_keeps_the_rows_before(tmp_path: Path) -> None:
    def fail() -> None:
        with RowWriter(tmp_path / "rows.parquet", SEVEN.class_names, "m") as rows:
            rows.add(face_rows(rows.columns, [FACE], file="a.jpg", model="m", scheme="fer7"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet.part.jsonl"]
    write(tmp_path / "rows.parquet", "b.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_a_full_disk_keeps_the_rows_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        """A file on a disk that has room for ten more bytes."""

        def __init__(self, file: Any) -> None:
            self.file, self.room = file, 10

        def write(self, content: bytes) -> int:
            if not self.room:
                raise OSError(28, "No space left on device")
            written: int = self.file.write(content[: self.room])
            self.room -= written
            return written

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    path = tmp_path / "rows.csv"
    write(path, "a.jpg")
    before = path.read_bytes()
    with RowWriter(path, SEVEN.class_names, "m", ()) as rows:
        monkeypatch.setattr(rows, "_file", Full(rows._file))
        with pytest.raises(ConfigError, match=r"rows\.csv cannot be written \(No space left on device\)"):
            rows.add(face_rows(rows.columns, [FACE], file="b.jpg", model="m", scheme="fer7"))
    assert path.read_bytes() == before
    (tmp_path / "full.csv").symlink_to("/dev/full")
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        RowWriter(tmp_path / "full.csv", SEVEN.class_names, "m")
