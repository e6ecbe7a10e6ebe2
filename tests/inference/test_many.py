from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_lightning.__main__ import main
from fer_lightning.data.files.decode import decode
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.inference.annotate import annotated
from fer_lightning.inference.inputs import named_inputs
from fer_lightning.inference.many import Outputs, output_names, recognize_all
from fer_lightning.inference.model_folder import write_model_folder
from fer_lightning.inference.recognizer import Recognizer
from fer_lightning.inference.rows import RowWriter, read_rows
from fer_lightning.inference.video.smoothing import Following
from fer_lightning.inference.video.writing import VideoWriter
from tests.inference.clips import clip
from tests.inference.helpers import CALIBRATION, BrightSquares, scene, tiny_model


def picture(path: Path, *squares: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene(*squares)).save(path)
    return path


def run(files: list[Path] | dict[Path, str], **outputs: Any) -> int:
    called = files if isinstance(files, dict) else {file: str(file) for file in files}
    return recognize_all(Recognizer(tiny_model(), BrightSquares()), called, Outputs(**outputs))


def test_copies_of_the_same_name_do_not_meet(tmp_path: Path) -> None:
    files = [
        picture(tmp_path / "in" / name, (20, 20, 30 + number))
        for number, name in enumerate(("x.png", "b/x.png", "b/x.bmp"))
    ]
    assert run(files, copies=tmp_path / "out") == 0
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert found == ["b/x.bmp.png", "b/x.png.png", "x.png"]
    assert output_names({tmp_path / "x.png": "x.png"}) == {tmp_path / "x.png": Path("x")}
    both = {Path(name): name for name in ("X.png", "x.jpg")}  # one file where a disk knows no capitals
    assert list(output_names(both).values()) == [Path("X.png"), Path("x.jpg")]


def test_what_is_written_and_how_unless_something_else_is_asked_for() -> None:
    following = Following(window=1.0, smooth="none", neutral=0.0)
    assert Outputs() == Outputs(table=None, copies=None, report=None, every=1, following=following, skip=True)
    assert Following() == following


def test_the_last_line_counts_files_and_faces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [picture(tmp_path / "in/a.png", (10, 10, 20), (60, 60, 30), (120, 10, 20)), tmp_path / "in/b.png"]
    files[1].write_bytes(b"")
    files += [picture(tmp_path / "in" / name) for name in ("c.png", "d.png")]
    table = tmp_path / "rows.csv"
    assert run(files, table=table, copies=tmp_path / "out") == 1
    wanted = f"4 files, 3 faces, 2 without a face, 1 could not be read; rows in {table}"
    assert capsys.readouterr().out.splitlines()[-1] == wanted
    result = Recognizer(tiny_model(), BrightSquares())(files[0])
    drawn = annotated(decode(files[0], channels=3), result.faces)
    assert np.array_equal(decode(tmp_path / "out/a.png", channels=3), drawn)
    assert {row["scheme"] for row in read_rows(table)} == {"fer7"}
    whole = table.read_bytes()
    lines = whole.splitlines(keepends=True)
    for kept, copies, code in ((len(lines), None, 0), (len(lines), tmp_path / "out", 1), (2, None, 1)):
        table.write_bytes(b"".join(lines[:kept]))  # a kill may leave one of the faces of a picture
        assert run(files, table=table, copies=copies) == code
        assert table.read_bytes() == whole


def test_prediction_sets_have_a_column(tmp_path: Path) -> None:
    model = tiny_model()
    model.calibration = CALIBRATION
    file = picture(tmp_path / "a.png", (10, 10, 20))
    recognizer = Recognizer(model, BrightSquares(), coverage=0.9)
    recognize_all(recognizer, {file: "a.png"}, Outputs(table=tmp_path / "rows.csv"))
    (row,) = read_rows(tmp_path / "rows.csv")
    assert row["set"] == "|".join(recognizer(file)[0].prediction_set or ())


def test_each_video_has_a_report_of_its_own_as_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    for name in "ab":
        (tmp_path / name).mkdir()
        clip(tmp_path / name / "x.mp4", [0.0, 0.1, 0.2, 0.3])
    with VideoWriter(tmp_path / "empty.mp4", 160, 120) as writer:
        for number in range(3):
            writer.add(number / 10, scene())
    files = [tmp_path / "a/x.mp4", tmp_path / "b/x.mp4", tmp_path / "empty.mp4"]
    assert run(files, report=tmp_path / "out", every=2, following=Following(smooth="majority", window=0.5)) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"{files[0]}: 2 frames, 2 persons, 0 without a face"
    assert told[4] == f"{files[2]}: 2 frames, 0 persons, 2 without a face"
    assert told[-1] == "3 files, 4 faces, 1 without a face"
    for name in ("a/x", "b/x", "empty"):
        summary = json.loads((tmp_path / "out" / name / "summary.json").read_text())
        assert (summary["every"], summary["smooth"], summary["window_s"]) == (2, "majority", 0.5)


def test_a_copy_never_replaces_its_picture(tmp_path: Path) -> None:
    file = picture(tmp_path / "x.png", (20, 20, 30))
    before = file.read_bytes()
    for original in (file, picture(tmp_path / "y.bmp", (20, 20, 30))):
        with pytest.raises(
            ConfigError, match="annotated copies would lie among the originals in .*: give another folder"
        ):
            run([original], copies=tmp_path)
    assert file.read_bytes() == before


def test_a_second_start_draws_what_is_missing_and_keeps_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [picture(tmp_path / f"{name}.png", (20, 20, 30)) for name in "abc"]
    table = tmp_path / "rows.csv"
    run(files, table=table)
    before = table.read_bytes()
    assert run(files[:1], table=table, copies=tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    assert not np.array_equal(decode(tmp_path / "out/a.png", channels=3), decode(files[0], channels=3))
    assert table.read_bytes() == before  # the last picture was not named: its rows stay
    run(files[:2], table=table)
    assert "already has 2 of the 2 files" in capsys.readouterr().out


def test_a_table_is_read_once_however_many_videos_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    files = [clip(tmp_path / f"{name}.mp4", [0.0, 0.1, 0.2]) for name in "abcd"]
    run(files, table=tmp_path / "rows.csv")
    whole = (tmp_path / "rows.csv").read_bytes()
    read: list[int] = []
    real = RowWriter.earlier

    def counted(self: RowWriter, file: str) -> Any:
        for row in real(self, file):
            read.append(1)
            yield row

    monkeypatch.setattr(RowWriter, "earlier", counted)
    run(files, table=tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_bytes() == whole
    assert len(read) <= 2 * whole.count(b"\n")


def test_what_cannot_be_read_or_written_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = picture(tmp_path / "x.png", (20, 20, 30))
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff no")
    assert run([tmp_path / "bad.jpg", file], table=tmp_path / "rows.csv") == 1
    told = capsys.readouterr()
    assert told.err.startswith(f"{tmp_path / 'bad.jpg'}: ")
    assert "1 could not be read" in told.out
    assert [row["label"] is None for row in read_rows(tmp_path / "rows.csv")] == [True, False]
    with pytest.raises(DataError, match="bad.jpg: "):
        run([tmp_path / "bad.jpg"], skip=False)
    with pytest.raises(ConfigError, match=r"ends in \.csv, \.jsonl, \.parquet, such as rows\.csv"):
        run([file], table=tmp_path / "rows.xls")
    with pytest.raises(ConfigError, match=r"x\.png: expected a folder to write into, found a file"):
        run([file], copies=file)


def test_a_damaged_video_is_told_and_its_rows_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    whole = clip(tmp_path / "a.mp4", [number / 10 for number in range(60)]).read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "b.mp4").write_bytes(b"no video")
    assert run([tmp_path / "a.mp4", tmp_path / "b.mp4"], table=tmp_path / "rows.csv") == 1
    told = capsys.readouterr()
    # with several threads FFmpeg leaves the damaged frame out and says nothing
    assert re.search(r"the video is (damaged after frame|cut off: it ends at)", told.out)
    assert "1 could not be read, 1 damaged" in told.out
    assert told.err.count("\n") == 1
    assert "not a video, or damaged (Invalid data found when processing input)" in told.err
    assert len(list(read_rows(tmp_path / "rows.csv"))) > 10
    assert run([tmp_path / "a.mp4"]) == 1


@pytest.mark.parametrize(
    ("options", "loaded", "outputs"),
    [
        ([], ((None, "auto", "squares", False, None), {"min_score": 0.5, "min_size": 0.0}), Outputs()),
        (
            [
                *("--model=m", "--detector=haar", "--views=fine", "--offline", "--set=0.9"),
                *("--min-score=0.7", "--min-size=9", "--out=o.csv", "--annotate=a", "--report=r", "--every=3"),
                *("--window=2", "--smooth=hysteresis", "--neutral=4s", "--on-error=raise"),
            ],
            (("m", "haar", "fine", True, 0.9), {"min_score": 0.7, "min_size": 9.0}),
            Outputs(Path("o.csv"), Path("a"), Path("r"), 3, Following(2.0, "hysteresis", 4.0), skip=False),
        ),
        (["--no-detect"], ((None, None, "squares", False, None), {"min_score": 0.5, "min_size": 0.0}), Outputs()),
    ],
)
def test_what_is_said_reaches_the_recognition(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    loaded: tuple[tuple[object, ...], dict[str, float]],
    outputs: Outputs,
) -> None:
    found: list[object] = []

    def load(*given: object, **more: float) -> str:
        found.append((given, more))
        return "recognizer"

    def everything(*given: object) -> int:
        found.append(given)
        return 0

    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "x.png")
    monkeypatch.setattr("fer_lightning.inference.recognizer.Recognizer.load", load)
    monkeypatch.setattr("fer_lightning.inference.many.recognize_all", everything)
    assert main(["recognize", "x.png", *options]) == 0
    assert found == [loaded, ("recognizer", {Path("x.png"): "x.png"}, outputs)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "rows.xls"], "rows.xls: a table of predictions ends in .csv, .jsonl, .parquet"),
        (["--neutral", "soon"], "--neutral soon: expected seconds, such as 3s"),
        (["--every", "0"], "n must be at least 1"),
        (["--window", "0"], "a window must be longer than 0 seconds, not 0"),
        (["--seconds", "3"], "--seconds is of the camera: add --camera 0"),
    ],
)
def test_wrong_options(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model_folder(tiny_model(), tmp_path / "model")
    clip(tmp_path / "a.mp4", [0.0, 0.1])
    assert main(["recognize", "a.mp4", "--model", "model", *options]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_video_without_its_extra_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model_folder(tiny_model(), tmp_path / "model")
    clip(tmp_path / "a.mp4", [0.0, 0.1])
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["recognize", str(tmp_path / "a.mp4"), "--model", str(tmp_path / "model"), "--no-detect"]) == 2
    assert "videos need PyAV: pip install 'fer_lightning[video]'" in capsys.readouterr().err


def test_rows_of_other_frames_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("av")
    video = clip(tmp_path / "a.mp4")
    run([video], table=tmp_path / "rows.csv", every=4)
    before = (tmp_path / "rows.csv").read_bytes()
    with pytest.raises(ConfigError, match=r"rows\.csv has rows of other frames of .*: give the same --every"):
        run([video], table=tmp_path / "rows.csv", every=2)
    run([video], table=tmp_path / "rows.csv", every=4)
    assert (tmp_path / "rows.csv").read_bytes() == before


def test_a_full_disk_names_what_could_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    file = picture(tmp_path / "x.png", (20, 20, 30))
    monkeypatch.setattr("fer_lightning.inference.many.write_atomically", full)
    with pytest.raises(ConfigError, match=r"out/x\.png cannot be written \(No space left on device\)"):
        run([file], table=tmp_path / "rows.csv", copies=tmp_path / "out")
    assert len(list(read_rows(tmp_path / "rows.csv"))) == 1


def test_copies_from_an_archive_lie_below_its_name(tmp_path: Path) -> None:
    file = picture(tmp_path / "in/x.png", (20, 20, 30))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("one/x.png", "two/x.png"):
            archive.write(file, name)
    files = named_inputs([str(tmp_path / "a.zip"), str(file)])
    assert run(files, copies=tmp_path / "out") == 0
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert found == ["a.zip/one/x.png", "a.zip/two/x.png", "in/x.png"]
