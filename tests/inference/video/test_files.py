from __future__ import annotations

import csv
import errno
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

av = pytest.importorskip("av")

from fer_lightning.emotions import SEVEN  # noqa: E402
from fer_lightning.errors import ConfigError, DataError  # noqa: E402
from fer_lightning.inference.faces.found import Faces  # noqa: E402
from fer_lightning.inference.recognizer import Recognizer  # noqa: E402
from fer_lightning.inference.rows import RowWriter, read_rows  # noqa: E402
from fer_lightning.inference.video import writing  # noqa: E402
from fer_lightning.inference.video.frames import Seen, seen_frames  # noqa: E402
from fer_lightning.inference.video.neutral import Baselines  # noqa: E402
from fer_lightning.inference.video.reading import Video, av_package  # noqa: E402
from fer_lightning.inference.video.report import write_session_report  # noqa: E402
from fer_lightning.inference.video.session import Session  # noqa: E402
from fer_lightning.inference.video.smoothing import Following, make_smoother  # noqa: E402
from fer_lightning.inference.video.writing import VideoWriter  # noqa: E402
from tests.inference.clips import EVEN, clip  # noqa: E402
from tests.inference.helpers import BrightSquares, scene, tiny_model  # noqa: E402


def test_frames_come_back_at_their_times(tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.1, 40))
    times -= times[0]
    video = Video(clip(tmp_path / "a.mp4", times.tolist(), 161, 121))
    frames = list(video.read())
    assert np.abs(np.array([frame.time for frame in frames]) - times).max() < 1e-4
    assert [frame.number for frame in frames] == list(range(40))
    assert (video.width, video.height, video.frames, video.problem) == (162, 122, 40, "")
    assert all(frame.picture.shape == (122, 162, 3) for frame in frames)
    assert [frame.number for frame in Video(tmp_path / "a.mp4", every=7).read(7)] == [7, 14, 21, 28, 35]


def test_red_stays_red_and_an_odd_edge_is_repeated(tmp_path: Path) -> None:
    picture = np.full((31, 33, 3), (230, 20, 60), np.uint8)
    picture[:, 32], picture[30] = (20, 200, 40), (20, 200, 40)
    with VideoWriter(tmp_path / "a.mp4", 33, 31) as writer:
        for _ in range(3):  # at one time
            writer.add(0.0, picture)
    assert Video(tmp_path / "a.mp4").frames == 3
    with av.open(str(tmp_path / "a.mp4")) as file:
        kept = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert kept.shape == (32, 34, 3)
    wanted = np.pad(picture, ((0, 1), (0, 1), (0, 0)), mode="edge").astype(int)
    assert np.abs(kept[4:28, 4:28] - wanted[4:28, 4:28]).max() < 12
    assert np.abs(kept[:, 32:].mean(axis=(0, 1)) - wanted[:, 32:].mean(axis=(0, 1))).max() < 25
    assert np.array_equal(next(Video(tmp_path / "a.mp4").read()).picture, kept)


def test_a_time_that_is_missing_or_goes_back(tmp_path: Path) -> None:
    video = Video(clip(tmp_path / "a.mp4", EVEN))
    assert video.duration == pytest.approx(1.95, abs=0.1)
    video.rate = 10.0
    for time, begin, last, number, wanted in (
        (None, 0.0, 2.0, 3, 2.1),
        (None, None, 0.0, 0, 0.0),
        (1.0, 0.0, 2.0, 5, 2.0),
        (5.0, 3.0, 1.5, 9, 2.0),
    ):
        assert video._time(SimpleNamespace(time=time), begin, last, number) == pytest.approx(wanted)
    for longer, problem in ((0.15, ""), (0.3, "cut off: it ends at 1.9 s and claims 2.3 s")):
        again = Video(tmp_path / "a.mp4")
        again.duration, again.rate = 2.0 + longer, 10.0
        assert len(list(again.read())) == 20
        assert again.problem == problem


def test_leaving_early_ends_the_decoding(tmp_path: Path) -> None:
    import threading

    before = threading.active_count()
    for _ in Video(clip(tmp_path / "a.mp4", EVEN)).read():
        break
    assert threading.active_count() == before


def test_a_turned_video_stands_upright(tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4", EVEN)
    with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(tmp_path / "turned.mp4"), "w") as target:
        stream = source.streams.video[0]
        out = target.add_stream_from_template(stream)
        out.set_display_rotation(90)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = out
                target.mux(packet)
    plain, turned = Video(tmp_path / "a.mp4"), Video(tmp_path / "turned.mp4")
    assert (turned.width, turned.height) == (plain.height, plain.width)
    assert np.array_equal(next(turned.read()).picture, np.rot90(next(plain.read()).picture, k=1))


def test_a_cut_off_file_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    whole = clip(tmp_path / "a.mp4", [number / 10 for number in range(100)]).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    video = Video(tmp_path / "cut.mp4")
    frames = list(video.read())
    assert 10 < len(frames) < 100
    assert video.problem.startswith(("damaged after frame", "cut off"))


def test_a_cut_off_file_that_ends_without_an_error_is_told_by_its_duration(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for _ in range(60):
            picture = rng.integers(0, 256, (120, 160, 3)).astype(np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    video = Video(tmp_path / "cut.mkv")
    assert 30 < len(list(video.read())) < 50
    assert video.problem.startswith(("cut off: it ends at", "damaged after frame"))
    assert list(Video(tmp_path / "a.mkv").read())[-1].number == 59


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(DataError, match="not a video, or damaged"):
        Video(tmp_path / "a.mp4")
    with pytest.raises(DataError, match="there is no video"):
        Video(tmp_path / "b.mp4")
    with pytest.raises(ConfigError, match="at least 1"):
        Video(tmp_path / "b.mp4", every=0)


def test_a_disk_that_is_full_at_the_very_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, "flush", full)
    writer = VideoWriter(tmp_path / "a.mp4", 32, 32)
    writer.add(0.0, np.zeros((32, 32, 3), np.uint8))
    told: list[BaseException] = []

    def close() -> None:
        with pytest.raises(ConfigError, match="No space left on device") as caught:
            writer.close()
        told.append(caught.value)

    closing = threading.Thread(target=close, daemon=True)  # a writer that waits for ever must not keep the tests
    closing.start()
    closing.join(30)
    assert told
    assert list(tmp_path.iterdir()) == []


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    def stopped() -> None:
        with VideoWriter(tmp_path / "a.mp4", 32, 32) as writer:
            writer.add(0.0, np.zeros((32, 32, 3), np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"), VideoWriter(tmp_path / "file/a.mp4", 32, 32) as writer:
        writer.add(0.0, np.zeros((32, 32, 3), np.uint8))


def test_pictures_of_another_size_are_fitted(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 33, 32) as writer:
        for number, size in enumerate([(32, 33), (64, 66), (10, 12)]):
            writer.add(number / 10, np.full((*size, 3), 80 * number, np.uint8))
    frames = [frame.picture for frame in Video(tmp_path / "a.mp4").read()]
    assert [picture.shape for picture in frames] == [(32, 34, 3)] * 3
    assert [int(picture.mean()) for picture in frames] == pytest.approx([0, 80, 160], abs=4)


def session(
    tmp_path: Path, video: Path, name: str = "rows.csv", every: int = 1, copy: Path | None = None, **following: Any
) -> Session:
    recognizer = Recognizer(tiny_model(), BrightSquares())
    with RowWriter(tmp_path / name, recognizer.model.class_names, "tiny") as rows:
        return Session(recognizer, Video(video, every), str(video), rows, copy, Following(**following)).run()


def test_a_session_follows_people(tmp_path: Path) -> None:
    found = session(tmp_path, clip(tmp_path / "a.mp4", EVEN), copy=tmp_path / "copy.mp4")
    assert {number: len(person.times) for number, person in found.persons.items()} == {0: 20, 1: 10}
    assert (found.frames, found.without, found.problem) == (20, 0, "")
    rows = list(read_rows(tmp_path / "rows.csv"))
    assert [row["frame"] for row in rows if row["face_id"] == 1] == list(range(10, 20))
    assert np.allclose([row["time_s"] for row in rows if row["face_id"] == 0], EVEN, atol=1e-4)
    assert [row["x"] for row in rows if row["face_id"] == 0] == pytest.approx([10 + 2 * k for k in range(20)], abs=2)
    drawn: NDArray[np.uint8] = next(Video(tmp_path / "copy.mp4").read()).picture
    assert Video(tmp_path / "copy.mp4").frames == 20
    assert np.abs(drawn.astype(int) - next(Video(tmp_path / "a.mp4").read()).picture).max() > 50


@pytest.mark.parametrize("part", [0.1, 0.5, 0.93, 1.0])
@pytest.mark.parametrize("options", [{}, {"neutral": 0.8}])
def test_an_interrupted_session_gives_the_same_rows(tmp_path: Path, part: float, options: dict[str, Any]) -> None:
    video = clip(tmp_path / "a.mp4")
    whole = session(tmp_path, video, "whole.csv", every=2, **options)
    text = (tmp_path / "whole.csv").read_bytes()
    (tmp_path / "rows.csv").write_bytes(text[: int(len(text) * part)])
    again = session(tmp_path, video, every=2, copy=tmp_path / "copy.mp4", **options)
    assert (tmp_path / "rows.csv").read_bytes() == text
    assert (again.frames, again.without) == (whole.frames, whole.without) == (10, 0)
    for number, person in whole.persons.items():
        assert again.persons[number].times.tolist() == person.times.tolist()
        assert again.persons[number].frames.tolist() == person.frames.tolist()
        assert again.persons[number].probabilities.tolist() == person.probabilities.tolist()
    assert Video(tmp_path / "copy.mp4").frames == 10  # the frames of the first start are drawn from their rows


class Thirds(BrightSquares):
    """Its boxes end in thirds of pixels."""

    def __call__(self, picture: NDArray[np.uint8]) -> Faces:
        return super().__call__(picture).moved(1.0, 1 / 3, 1 / 3)


def test_who_came_first_keeps_the_number_when_a_session_goes_on(tmp_path: Path) -> None:
    """The second person is larger and so found first; the frames of the first start are not looked at again."""
    with VideoWriter(tmp_path / "a.mp4", 160, 120) as writer:
        for number in range(12):
            writer.add(number / 10, scene((10 + 2 * number, 20, 24), *([(100, 70, 30)] if number >= 4 else [])))
    recognizer = Recognizer(tiny_model(), Thirds())
    for name, kept in (("whole.csv", 0), ("rows.csv", 0.7)):
        text = (tmp_path / "whole.csv").read_bytes() if kept else b""
        (tmp_path / name).write_bytes(text[: int(kept * len(text))])
        with RowWriter(tmp_path / name, recognizer.model.class_names, "tiny") as rows:
            Session(recognizer, Video(tmp_path / "a.mp4"), "a.mp4", rows).run()
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    first, *_, second, last = read_rows(tmp_path / "whole.csv")
    assert (second["w"], second["face_id"], last["w"], last["face_id"]) == pytest.approx((30, 1, 24, 0), abs=2)
    frames = list(seen_frames(recognizer, Video(tmp_path / "a.mp4").read()))
    assert frames[0].faces[0].box == pytest.approx((first["x"], first["y"], first["w"], first["h"]), abs=1e-5)
    assert frames[0].faces[0].box[0] == np.float32(first["x"])  # what is stored is what was looked at


def test_what_is_watched_and_drawn_is_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = clip(tmp_path / "a.mp4", EVEN)
    seconds: list[float] = []
    drawn: list[dict[int, tuple[str, float]]] = []

    class Noted(Baselines):
        def __init__(self, class_names: Sequence[str], given: float) -> None:
            seconds.append(given)
            super().__init__(class_names, given)

    def draw(picture: NDArray[np.uint8], faces: object, shown: dict[int, tuple[str, float]]) -> NDArray[np.uint8]:
        drawn.append(shown)
        return picture

    monkeypatch.setattr("fer_lightning.inference.video.session.Baselines", Noted)
    monkeypatch.setattr("fer_lightning.inference.video.session.annotated", draw)
    for copy, stop in ((None, 3), (tmp_path / "copy.mp4", 20)):
        watched: list[tuple[int, dict[int, tuple[str, float]]]] = []

        def watch(
            seen: Seen, shown: dict[int, tuple[str, float]], watched: list[Any] = watched, stop: int = stop
        ) -> bool:
            watched.append((seen.frame.number, shown))
            return len(watched) < stop

        recognizer = Recognizer(tiny_model(), BrightSquares())
        names = recognizer.model.class_names
        with RowWriter(tmp_path / f"{stop}.csv", names, "tiny") as rows:
            following = Following(window=0.4, smooth="majority", neutral=0.3)
            Session(recognizer, Video(video), "a.mp4", rows, copy, following, watch).run()
        assert [number for number, _ in watched] == list(range(stop))
        smoothers: dict[int, Any] = {}
        for row in read_rows(tmp_path / f"{stop}.csv"):
            smoother = smoothers.setdefault(row["face_id"], make_smoother("majority", 0.4))
            best, value = smoother(row["time_s"], np.array([row[f"p_{name}"] for name in names]))
            assert watched[row["frame"]][1][row["face_id"]] == (names[best], value)
    assert drawn == [shown for _, shown in watched]
    assert seconds == [0.3, 0.3]


def test_a_time_has_microseconds_even_after_hours(tmp_path: Path) -> None:
    times = [0.0, 7199.9667, 7199.9987]
    session(tmp_path, clip(tmp_path / "a.mp4", times))
    found = [row["time_s"] for row in read_rows(tmp_path / "rows.csv") if row["face_id"] in (0, 1)]
    assert np.abs(np.array(found)[:2] - times[:2]).max() < 1e-4


def test_the_report_of_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"window": 0.5, "smooth": "majority", "neutral": 0.5}
    found = session(tmp_path, clip(tmp_path / "a<b>.mp4", EVEN), every=2, **options)
    summary = write_session_report(found, tmp_path / "report")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    pictures = {f"{kind}_{number}.png" for kind in ("time", "heat", "share") for number in (0, 1)}
    assert names == {"summary.json", "windows.csv", "frames.csv", "index.html", *pictures}
    page = (tmp_path / "report/index.html").read_text()
    assert "a&lt;b&gt;.mp4" in page
    assert "a<b>" not in page
    assert all(name in page for name in pictures)
    assert [len(person["windows"]) for person in summary["persons"].values()] == [4, 2]
    assert (tmp_path / "report/windows.csv").read_text().count("\n") == 7
    for words in ("Of 2 frames, one", "The first 0.5 s of each person", "majority of 0.5 s"):
        assert words in page
    frames = list(csv.DictReader((tmp_path / "report/frames.csv").open()))
    rows = [row for row in read_rows(tmp_path / "rows.csv") if row["face_id"] == 0]
    mine = [row for row in frames if row["face_id"] == "0"]
    assert [(int(row["frame"]), float(row["time_s"]), row["label"]) for row in mine] == [
        (row["frame"], row["time_s"], row["label"]) for row in rows
    ]
    assert mine[0]["d_happy"] == ""
    assert float(mine[3]["d_happy"]) == pytest.approx(rows[3]["p_happy"] - rows[2]["p_happy"], abs=2e-6)
    assert {float(row["shown_value"]) for row in mine} <= {1, 2 / 3, 0.5, 0.666667}
    assert (summary["frames"], summary["without_face"], summary["class_names"]) == (10, 0, list(SEVEN.class_names))
    monkeypatch.setattr("fer_lightning.inference.video.report._MOST", 1)
    monkeypatch.setattr("fer_lightning.inference.video.report._AT_ONCE", 3)
    write_session_report(found, tmp_path / "again")
    assert {path.name for path in (tmp_path / "again").glob("*.png")} == {
        f"{kind}_0.png" for kind in ("time", "heat", "share")
    }
    assert (tmp_path / "again/frames.csv").read_bytes() == (tmp_path / "report/frames.csv").read_bytes()


def test_ffmpeg_never_asks_for_pythons_lock() -> None:
    av.logging.set_level(av.logging.VERBOSE)  # as another library may
    assert av_package().logging.get_level() is None  # at any other level closing a file may wait for ever
