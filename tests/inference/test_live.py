from __future__ import annotations

import json
import signal
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.__main__ import main
from fer_lightning.errors import ConfigError
from fer_lightning.inference.faces.found import Faces
from fer_lightning.inference.live import _ending, recognize_camera
from fer_lightning.inference.many import Outputs
from fer_lightning.inference.model_folder import write_model_folder
from fer_lightning.inference.recognizer import Recognizer
from fer_lightning.inference.rows import read_rows
from fer_lightning.inference.video.camera import Camera
from fer_lightning.inference.video.smoothing import Following
from fer_lightning.inference.video.window import open_window
from tests.inference.clips import EVEN, clip
from tests.inference.helpers import BrightSquares, scene, tiny_model


class FakeCamera:
    """Gives a moving square; each picture waits until the one before was looked at."""

    def __init__(self, pictures: int, stop_at: int = -1, signum: int = signal.SIGINT) -> None:
        self.pictures, self.stop_at, self.looked_at, self.closed = pictures, stop_at, 0, False
        self.signum = signum
        self._given = 0
        self._free = threading.Semaphore(1)

    def read(self) -> NDArray[np.uint8] | None:
        self._free.acquire(timeout=0.5)
        if self._given == self.pictures:
            return None
        self._given += 1
        return scene((10 + 2 * self._given, 20, 30))

    def close(self) -> None:
        self.closed = True

    def detector(self, picture: NDArray[np.uint8]) -> Faces:
        """Find the square and let the next picture come."""
        if self.looked_at == self.stop_at:
            signal.raise_signal(self.signum)
        self.looked_at += 1
        self._free.release()
        return BrightSquares()(picture)


def run(camera: FakeCamera, seconds: float | None = None, **outputs: Any) -> int:
    recognizer = Recognizer(tiny_model(), camera.detector)
    return recognize_camera(recognizer, camera, "0", Outputs(**outputs), seconds, headless=True)


def test_a_session_leaves_what_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    camera, out = FakeCamera(12), tmp_path / "out"
    assert run(camera, table=tmp_path / "rows.csv", report=out, copies=out, following=Following(neutral=0.001)) == 0
    told = capsys.readouterr()
    rows = list(read_rows(tmp_path / "rows.csv"))
    assert [row["frame"] for row in rows] == list(range(12))
    times = [row["time_s"] for row in rows]
    assert times == sorted(times)
    assert times[0] == 0
    (report,) = out.glob("camera_0_*Z")
    summary = json.loads((report / "summary.json").read_text())
    assert (summary["frames"], summary["neutral_s"], len(summary["persons"])) == (12, 0.001, 1)
    assert summary["problem"].startswith("the camera gave no more pictures after")
    assert (report / "index.html").is_file()
    assert [path.suffix for path in out.glob("camera_0_*.mp4")] == [".mp4"]
    assert "its pictures are looked at in memory and go nowhere else; kept will be rows of numbers in" in told.err
    assert "an annotated video in" in told.err
    assert "Look neutral for the first 0.001 s" in told.err
    assert "    0.0 s  person 0: " in told.out
    assert camera.closed


def test_nothing_is_kept_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(FakeCamera(3)) == 0
    assert list(tmp_path.iterdir()) == []
    assert "nothing is kept" in capsys.readouterr().err


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_ctrl_c_ends_the_session_and_writes_the_report(tmp_path: Path, signum: int, code: int) -> None:
    before = signal.getsignal(signal.SIGINT)
    camera = FakeCamera(100, stop_at=5, signum=signum)
    assert run(camera, table=tmp_path / "rows.csv", report=tmp_path / "report") == code
    assert len(list(read_rows(tmp_path / "rows.csv"))) == 6
    assert len(list((tmp_path / "report").glob("*/summary.json"))) == 1
    assert signal.getsignal(signal.SIGINT) is before


def test_only_the_first_signal_is_kept_from_ending_the_program() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        with _ending(Camera(FakeCamera(1))) as told:
            signal.raise_signal(signal.SIGINT)
            assert (told, came) == ([signal.SIGINT], [])
            signal.raise_signal(signal.SIGINT)
            assert (told, came) == ([signal.SIGINT], [signal.SIGINT])
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_session_adds_to_the_table(tmp_path: Path) -> None:
    for _ in range(2):
        run(FakeCamera(4), table=tmp_path / "rows.csv")
    assert [row["frame"] for row in read_rows(tmp_path / "rows.csv")] == [0, 1, 2, 3] * 2


def test_it_ends_when_the_time_is_over() -> None:
    clock = iter(np.arange(0, 100, 0.5).tolist())
    camera = Camera(FakeCamera(1), seconds=2.0, clock=lambda: next(clock))
    assert [frame.number for frame in camera.read()] == [0]
    with pytest.raises(ConfigError, match="--seconds must be above 0"):
        Camera(FakeCamera(1), seconds=0)
    with pytest.raises(ConfigError, match="gives no picture"):
        Camera(FakeCamera(0))


def test_frames_that_come_meanwhile_are_left_out() -> None:
    class Fast:
        """Gives a hundred pictures at once."""

        given = 0

        def read(self) -> NDArray[np.uint8] | None:
            self.given += 1
            return scene() if self.given <= 100 else None

        def close(self) -> None:
            pass

    frames = []
    for frame in Camera(Fast()).read():
        frames.append(frame.number)
        threading.Event().wait(0.2)
    assert frames[-1] == 99
    assert len(frames) <= 3


def test_a_driver_that_fails_ends_the_session() -> None:
    class Failing:
        """Gives one picture."""

        given = 0

        def read(self) -> NDArray[np.uint8] | None:
            self.given += 1
            if self.given > 1:
                raise RuntimeError("unplugged")
            return scene()

        def close(self) -> None:
            pass

    camera = Camera(Failing(), seconds=30)
    assert [frame.number for frame in camera.read()] == [0]
    assert "no more pictures" in camera.problem


def test_a_file_plays_as_a_camera(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    write_model_folder(tiny_model(), tmp_path / "model")
    video = clip(tmp_path / "a.mp4", EVEN[:6])
    options = ["--model", str(tmp_path / "model"), "--headless", "--no-detect", "--out", str(tmp_path / "rows.csv")]
    assert main(["recognize", "--camera", str(video), *options]) == 0
    times = [row["time_s"] for row in read_rows(tmp_path / "rows.csv")]
    assert times[-1] >= 0.4  # of half a second; more if the machine is busy
    capfd.readouterr()
    assert main(["recognize", "--camera", "77", *options]) == 2
    told = capfd.readouterr().err
    assert told.startswith("fer: error: there is no camera 77 that can be opened (")
    assert told.count("\n") == 1
    assert main(["recognize", "--camera", "0", "x.jpg", *options]) == 2
    assert "not both: --camera 0 and x.jpg" in capfd.readouterr().err
    assert main(["recognize", *options]) == 2
    assert "expected pictures, videos or folders, or --camera 0" in capfd.readouterr().err


def test_a_window_shows_pictures_until_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert open_window("x") is None
    monkeypatch.setenv("DISPLAY", ":77")
    assert open_window("x") is None  # Tk finds no screen there, and OpenCV is headless
    bound: dict[str, Any] = {}
    shown: list[bytes] = []

    class Part:
        def __init__(self, *args: Any, **options: Any) -> None:
            shown.extend([options["data"]] if "data" in options else [])

        def bind(self, key: str, action: Any) -> None:
            bound[key] = action

        def __getattr__(self, name: str) -> Any:
            return lambda *args, **options: None

    monkeypatch.setitem(sys.modules, "tkinter", types.SimpleNamespace(Tk=Part, Label=Part, PhotoImage=Part))
    show = open_window("x")
    assert show is not None
    assert show(np.full((2, 3, 3), 7, np.uint8))
    assert shown == [b"P6 3 2 255 " + b"\7" * 18]
    bound["q"]()
    assert not show(np.zeros((2, 3, 3), np.uint8))
