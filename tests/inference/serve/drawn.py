"""Drawn faces as pictures and as what a camera sees.

``python -m tests.inference.serve.drawn docs`` makes the two screenshots of the page that stand in the documentation.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
from PIL import Image

from fer_lightning.inference.recognizer import Recognizer
from fer_lightning.inference.serve.app import make_app
from fer_lightning.inference.serve.page import page_files
from tests.helpers.drawn_clip import HEIGHT, WIDTH, Minutes, persons, scene
from tests.inference.serve.browser import browsing, server_of

__all__ = ["write_camera", "write_clip", "write_pictures"]

_MINUTES = Minutes(seed=8)
_BEGIN_S = 10.0  # from when on the released network sees these persons as they are drawn
_FRAMES = 15


def write_camera(path: Path) -> Path:
    """Write what a camera sees, as JPEG files one after the other: two persons who walk."""
    faces = persons(_MINUTES)
    with path.open("wb") as file:
        for frame in range(_FRAMES):
            buffer = io.BytesIO()
            Image.fromarray(scene(_MINUTES, _BEGIN_S + frame / 2, faces)).save(buffer, "JPEG", quality=90)
            file.write(buffer.getvalue())
    return path


def write_clip(path: Path) -> Path:
    """Write what that camera sees as a video of VP9, which every Chromium plays."""
    faces = persons(_MINUTES)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libvpx-vp9", rate=5, options={"deadline": "realtime"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in range(_FRAMES):
            picture = scene(_MINUTES, _BEGIN_S + frame / 2, faces)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def write_pictures(folder: Path) -> None:
    """Write ``two.png`` (two faces), ``nobody.png``, ``close.png`` (a face that fills it) and ``bad.png``, damaged."""
    faces = persons(_MINUTES)
    Image.fromarray(scene(_MINUTES, _BEGIN_S, faces)).save(folder / "two.png")
    Image.fromarray(scene(_MINUTES, 27.5, faces)).save(folder / "nobody.png")
    Image.fromarray(faces[0, "happy"]).resize((120, 120)).save(folder / "close.png")
    (folder / "bad.png").write_bytes((folder / "two.png").read_bytes()[:2000])


def _save(page: Any, path: Path) -> None:
    """Save what a page shows, in few colours, so that the file is small."""
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


def _screenshots(folder: Path) -> None:
    recognizer = Recognizer.load()
    app = make_app(recognizer, page=page_files(recognizer.model))
    with tempfile.TemporaryDirectory() as name:
        files = Path(name)
        write_pictures(files)
        with server_of(app) as address, browsing(write_camera(files / "camera.mjpeg")) as visit:
            page = visit(address, viewport={"width": 1100, "height": 700}).page
            page.wait_for_selector("body[data-ready]")
            page.set_input_files("#file", files / "two.png")
            page.wait_for_selector("#status:text-matches('^2 faces')")
            _save(page, folder / "serve_picture.png")
            options = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark", "permissions": ["camera"]}
            page = visit(address, **options).page
            page.wait_for_selector("body[data-ready]")
            page.click("#camera")
            page.wait_for_timeout(15_000)
            _save(page, folder / "serve_camera.png")


if __name__ == "__main__":
    _screenshots(Path(sys.argv[1]))
