"""The page in headless Chromium, with drawn faces as pictures and as what a camera sees."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("av")  # which the drawn clip needs

from fer_lightning.inference.faces.model_files import blazeface_file
from fer_lightning.inference.recognizer import Recognizer
from fer_lightning.inference.serve.app import make_app
from fer_lightning.inference.serve.page import page_files, write_page
from fer_lightning.inference.serve.runtime import is_built
from tests.inference.serve.browser import Visit, browsing, files_served, server_of
from tests.inference.serve.drawn import write_camera, write_clip, write_pictures

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_built(), reason="the page's runtime is not there: make web"),
    pytest.mark.skipif(blazeface_file("full") is None, reason="BlazeFace is not there: fer models fetch blazeface"),
]

VIEWS = [{"width": 1280, "height": 900}, {"width": 390, "height": 844}, {"width": 360, "height": 640}]


@dataclass
class Place:
    """A served page, a browser, and files to open there."""

    address: str
    visit: Callable[..., Visit]
    files: Path
    recognizer: Recognizer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    files = tmp_path_factory.mktemp("files")
    write_pictures(files)
    recognizer = Recognizer.load()
    app = make_app(recognizer, page=page_files(recognizer.model))
    with server_of(app) as address, browsing(write_camera(files / "camera.mjpeg")) as visit:
        yield Place(address, visit, files, recognizer)


def opened(place: Place, **options: Any) -> Visit:
    visit = place.visit(place.address, **options)
    visit.page.wait_for_selector("body[data-ready]")
    return visit


def wait_for(visit: Visit, words: str) -> None:
    visit.page.wait_for_selector(f"#status:text-matches('{words}')")


def labels(visit: Visit) -> list[str]:
    return [words.split()[-1] for words in visit.page.locator(".face h3").all_inner_texts()]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: str(view["width"]))
def test_a_picture_is_recognized_as_by_python_here_and_by_the_server(place: Place, view: dict[str, int]) -> None:
    visit = opened(place, viewport=view)
    for name in ("two.png", "close.png"):
        wanted = [face.label for face in place.recognizer(place.files / name)]
        assert len(wanted) == {"two.png": 2, "close.png": 1}[name]
        visit.page.set_input_files("#file", place.files / name)
        wait_for(visit, f"^{len(wanted)} face")
        assert labels(visit) == wanted
        assert visit.page.inner_text("#mode") == "Pictures stay on this device."
        assert not any("recognize" in each for each in visit.asked if not each.endswith(".js"))
    visit.page.locator("#choice span").nth(1).click()
    wait_for(visit, "^1 face")
    assert labels(visit) == wanted
    assert "are sent to the server 127.0.0.1" in visit.page.inner_text("#mode")
    assert f"{place.address}recognize" in visit.asked
    assert visit.beyond(place.address) == []
    assert visit.complaints == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= view["width"]


@pytest.mark.parametrize("server", [False, True])
@pytest.mark.parametrize("view", VIEWS[:2], ids=lambda view: str(view["width"]))
def test_the_camera_is_followed(place: Place, view: dict[str, int], server: bool) -> None:
    visit = opened(place, viewport=view, permissions=["camera"])
    visit.page.locator("#choice span").nth(int(server)).click()
    visit.page.click("#camera")
    wait_for(visit, "^The camera is on: [0-9]+ picture")
    visit.page.wait_for_selector(".face >> nth=0")
    assert 1 <= len(labels(visit)) <= 2
    assert visit.page.is_visible("#timeline")
    assert (f"{place.address}recognize" in visit.asked) == server
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= view["width"]
    visit.page.keyboard.press("Escape")
    wait_for(visit, "^Stopped")
    assert not visit.page.is_visible("#stop")
    assert visit.beyond(place.address) == []
    assert visit.complaints == []


def test_a_video_is_played_to_its_end(place: Place) -> None:
    visit = opened(place)
    visit.page.set_input_files("#file", write_clip(place.files / "clip.webm"))
    wait_for(visit, "^(Playing|The video has ended)")
    wait_for(visit, "^The video has ended")
    assert visit.page.is_visible("#timeline")
    assert not visit.page.is_visible("#stop")
    assert visit.beyond(place.address) == []
    assert visit.complaints == []


def test_what_goes_wrong_is_told_in_a_sentence(place: Place) -> None:
    visit = opened(place)
    visit.page.set_input_files("#file", place.files / "nobody.png")
    wait_for(visit, "^No face was found")
    assert labels(visit) == []
    visit.page.set_input_files("#file", place.files / "bad.png")
    wait_for(visit, "^bad.png cannot be opened: .* damaged")
    assert visit.page.locator("#status.problem").count() == 1
    assert not visit.page.is_visible("#view")
    visit.page.click("#camera")  # without a permission
    wait_for(visit, "^The camera was refused")
    visit.page.locator("#choice span").nth(1).click()
    visit.page.route("**/recognize", lambda route: route.abort())
    visit.page.set_input_files("#file", place.files / "two.png")
    wait_for(visit, "^The server cannot be reached")


def test_the_keyboard_is_enough(place: Place) -> None:
    visit = opened(place, permissions=["camera"])
    reached = []
    for _ in range(3):
        visit.page.keyboard.press("Tab")
        reached.append(visit.page.evaluate("document.activeElement.id || document.activeElement.value"))
    assert reached == ["open", "camera", "device"]
    visit.page.keyboard.press("ArrowRight")
    assert "are sent to the server" in visit.page.inner_text("#mode")
    visit.page.keyboard.press("ArrowLeft")
    visit.page.keyboard.press("Shift+Tab")
    visit.page.keyboard.press("Enter")
    wait_for(visit, "^The camera is on")
    with visit.page.expect_file_chooser():
        visit.page.keyboard.press("Shift+Tab")
        visit.page.keyboard.press("Enter")


def test_a_server_that_wants_a_token_is_given_one(place: Place) -> None:
    visit = opened(place)
    visit.page.route(
        "**/recognize",
        lambda route: (
            route.continue_()
            if route.request.headers.get("authorization") == "Bearer secret"
            else route.fulfill(status=401, body=json.dumps({"detail": "send the header"}))
        ),
    )
    assert not visit.page.is_visible("#token")
    visit.page.locator("#choice span").nth(1).click()
    visit.page.set_input_files("#file", place.files / "two.png")
    wait_for(visit, "^The server wants a token")
    visit.page.fill("#token", "secret")
    visit.page.set_input_files("#file", place.files / "two.png")
    wait_for(visit, "^2 faces")


def test_a_busy_server_is_left_in_peace(place: Place) -> None:
    visit = opened(place, permissions=["camera"])
    visit.page.route("**/recognize", lambda route: route.fulfill(status=429, body="{}"))
    visit.page.locator("#choice span").nth(1).click()
    visit.page.set_input_files("#file", place.files / "two.png")
    wait_for(visit, "^The server is busy")
    visit.page.click("#camera")
    wait_for(visit, "^The camera is on")
    visit.asked.clear()
    visit.page.wait_for_timeout(3000)
    assert 1 <= len([each for each in visit.asked if each.endswith("recognize")]) <= 5


def test_static_files_are_enough(place: Place, tmp_path: Path) -> None:
    with files_served(write_page(place.recognizer.model, tmp_path / "site")) as address:
        visit = place.visit(address)
        visit.page.wait_for_selector("body[data-ready]")
        assert not visit.page.is_visible("#choice")
        visit.page.set_input_files("#file", place.files / "two.png")
        wait_for(visit, "^2 faces")
        assert visit.beyond(address) == []
        assert visit.complaints == []


def test_a_page_of_another_site_cannot_use_the_server(place: Place, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>another site")
    script = """async (address) => {
      const form = new FormData();
      form.append("files", new Blob(["x"]), "a");
      const asked = (path, options) => fetch(address + path, options).then(() => "read", () => "refused");
      return [await asked("recognize", { method: "POST", body: form }), await asked("labels")];
    }"""
    with files_served(tmp_path) as other:
        assert place.visit(other).page.evaluate(script, place.address) == ["refused", "refused"]


def test_frames_that_python_and_the_page_see_have_the_same_boxes(place: Place) -> None:
    visit = opened(place)
    picture = np.asarray(Image.open(place.files / "two.png"))
    script = """async ([pixels, width, height]) => {
      const { loadRecognizer } = await import("./recognize.js");
      const { recognize } = await loadRecognizer();
      const image = new ImageData(Uint8ClampedArray.from(atob(pixels), (byte) => byte.charCodeAt(0)), width, height);
      return (await recognize(image, true)).map(({ box, score, probabilities }) => [...box, score, ...probabilities]);
    }"""
    pixels = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)]).tobytes()
    height, width = picture.shape[:2]
    found = visit.page.evaluate(script, [base64.b64encode(pixels).decode(), width, height])
    wanted = [[*face.box, face.det_score, *face.probabilities.values()] for face in place.recognizer(picture)]
    difference = np.abs(np.array(found) - np.array(wanted)).max(axis=0)
    assert (difference[:4] < 0.5).all()
    assert difference[4] < 0.01
    assert (difference[5:] < 0.1).all()  # a box that falls on the other side of a half is cut a pixel further
