from __future__ import annotations

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
from fer_lightning.inference.inputs import named_inputs
from fer_lightning.inference.many import Outputs, output_names, recognize_all
from fer_lightning.inference.model_folder import write_model_folder
from fer_lightning.inference.recognizer import Recognizer
from fer_lightning.inference.rows import RowWriter, read_rows
from tests.inference.clips import clip
from tests.inference.helpers import BrightSquares, scene, tiny_model


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


def test_a_copy_never_replaces_its_picture(tmp_path: Path) -> None:
    file = picture(tmp_path / "x.png", (20, 20, 30))
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="annotated copies would lie among the originals in .*: give another folder"):
        run([file], copies=tmp_path)
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
