"""The page in headless Chromium."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.inference.serve.running import address, listening

__all__ = ["Visit", "browsing", "files_served", "server_of"]

MODULE = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | MODULE  # as in the base

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the browser was closed in the middle of a file


@contextmanager
def files_served(folder: Path) -> Iterator[str]:
    """Serve a folder as any static server does, and give its address."""
    with _Server(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Visit:
    """A page that was opened, and what it asked for and complained of.

    Attributes:
        page: of playwright.
        asked: addresses of its requests.
        complaints: errors of its scripts, what it wrote to the console as one, and answers above 399.
    """

    def __init__(self, page: Any) -> None:
        self.page = page
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("response", lambda answer: self.complaints.append(answer.url) if answer.status > 399 else None)

    def beyond(self, address: str) -> list[str]:
        """Return the addresses that it asked for outside of its origin."""
        return [each for each in self.asked if not each.startswith((address, f"blob:{address}", "data:"))]


@contextmanager
def browsing(camera: Path | None = None) -> Iterator[Callable[..., Visit]]:
    """Start a browser and give a function that opens an address in it, with options such as ``viewport``.

    Args:
        camera: what the camera sees, as MJPEG; ``None`` for no camera.
    """
    api = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium")
    flags = ["--no-sandbox"]
    if camera is not None:
        flags += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={camera}"]
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)

        def visit(address: str, **options: Any) -> Visit:
            page = browser.new_context(**options).new_page()
            page.set_default_timeout(120_000)
            visit = Visit(page)
            page.goto(address)
            return visit

        yield visit
        browser.close()


@contextmanager
def server_of(app: Any) -> Iterator[str]:
    """Run an application in a thread and give its address."""
    uvicorn = pytest.importorskip("uvicorn")
    with listening("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield address(listener)
        server.should_exit = True
        thread.join()
