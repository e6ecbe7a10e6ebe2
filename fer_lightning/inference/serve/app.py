"""The HTTP application: recognition, health, metrics and the page."""

from __future__ import annotations

import asyncio
import hashlib
import html
import time
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from fer_lightning import __version__
from fer_lightning.data.files.decode import TooManyPixelsError, decode
from fer_lightning.errors import DataError
from fer_lightning.inference.card import NOTICE
from fer_lightning.inference.recognizer import Face, Recognizer
from fer_lightning.inference.serve.body import BadRequestError, images_of
from fer_lightning.inference.serve.guard import Guard, problem
from fer_lightning.inference.serve.schema import ERRORS, REFUSALS, REQUEST, Answer, Health, Labels
from fer_lightning.inference.serve.settings import Access, Limits

__all__ = ["make_app"]

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".onnx": "application/octet-stream",
    ".txt": "text/plain",
    ".wasm": "application/wasm",
}
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF")  # JPEG, PNG, WebP
_MOST_SCANS = 100  # of a progressive JPEG, each of which is a pass over all pixels; ten are usual


def make_app(
    recognizer: Recognizer,
    limits: Limits | None = None,
    access: Access | None = None,
    page: Mapping[str, bytes] | str = "no page",
) -> FastAPI:
    """Make the application.

    Args:
        recognizer: answers.
        limits: of requests.
        access: who may ask; programs and pages of this machine, if ``None``.
        page: files of the page, served below ``/``; or why there is none.
    """
    desk = _Desk(recognizer, Limits() if limits is None else limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        yield
        desk.pool.shutdown()

    app = FastAPI(
        title="fer_lightning", version=__version__, description=NOTICE, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.add_middleware(Guard, access=Access() if access is None else access, requests=desk.requests)

    @app.exception_handler(BadRequestError)
    async def refused(request: Request, error: BadRequestError) -> Response:
        return problem(error.status, str(error), desk.limits.retry_s)

    @app.post("/recognize", responses=ERRORS, openapi_extra={"requestBody": REQUEST})
    async def recognize(request: Request) -> Answer:
        """Find the faces in images and tell their expressions. No image is kept."""
        return await desk.answer(request)

    @app.get("/labels", responses=REFUSALS)
    async def labels() -> Labels:
        """Return the classes in order, the label scheme and the model's name."""
        model = recognizer.model
        return Labels(labels=list(model.class_names), scheme=model.scheme, model=model.card.name, notice=NOTICE)

    @app.get("/health", responses=REFUSALS)
    async def health() -> Health:
        """Tell that the server answers, and how many requests are worked on."""
        return Health(status="ok", waiting=desk.waiting, version=__version__)

    @app.get("/metrics", responses=REFUSALS, response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return counts and times for Prometheus."""
        return Response(generate_latest(desk.registry), media_type="text/plain; version=0.0.4")

    _add_page(app, {"index.html": _sentence(page)} if isinstance(page, str) else page)
    return app


class _Desk:
    """Takes requests, within bounds, and has them answered by a pool of threads."""

    def __init__(self, recognizer: Recognizer, limits: Limits) -> None:
        self.recognizer, self.limits, self.waiting = recognizer, limits, 0
        self.pool = ThreadPoolExecutor(max_workers=limits.threads, thread_name_prefix="recognize")
        self.registry = CollectorRegistry()
        self.requests = Counter("fer_requests_total", "requests by status", ["status"], registry=self.registry)
        self.faces = Counter("fer_faces_total", "faces recognized", registry=self.registry)
        self.seconds = Histogram("fer_request_seconds", "time of answered requests", registry=self.registry)

    async def answer(self, request: Request) -> Answer:
        """Answer a request.

        Raises:
            BadRequestError: if it is refused.
        """
        if self.waiting >= self.limits.waiting:
            raise BadRequestError(429, f"{self.waiting} requests are waiting; come back in {self.limits.retry_s} s")
        self.waiting += 1
        start = time.perf_counter()
        try:
            files = await images_of(request, self.limits)
            loop = asyncio.get_running_loop()
            found = [await loop.run_in_executor(self.pool, self._faces, *each) for each in enumerate(files)]
        finally:
            self.waiting -= 1
        self.faces.inc(sum(map(len, found)))
        self.seconds.observe(time.perf_counter() - start)
        return Answer.model_validate({"images": [{"faces": faces} for faces in found]})

    def _faces(self, number: int, file: bytes) -> list[dict[str, Any]]:
        """Decode an image and return its faces; in a thread of the pool, so that few are in memory at a time."""
        what = f"image {number}"
        if not file.startswith(_SIGNATURES):
            raise BadRequestError(422, f"{what} is no JPEG, PNG or WebP file")
        if file.count(b"\xff\xda") > _MOST_SCANS:
            raise BadRequestError(422, f"{what} is a JPEG of more than {_MOST_SCANS} scans")
        try:
            pixels = decode(file, channels=3, max_pixels=self.limits.pixels)
        except TooManyPixelsError as error:
            raise BadRequestError(413, f"{what}: {error}") from error
        except DataError as error:
            raise BadRequestError(422, f"{what}: {error}") from error
        return [_plain(face) for face in self.recognizer(pixels)]


def _plain(face: Face) -> dict[str, Any]:
    left, top, width, height = (round(value, 1) for value in face.box)
    return {
        **{"x": left, "y": top, "w": width, "h": height},
        "det_score": None if np.isnan(face.det_score) else round(face.det_score, 4),
        "label": face.label,
        "confidence": round(face.confidence, 6),
        "uncertain": face.uncertain,
        "probabilities": {name: round(share, 6) for name, share in face.probabilities.items()},
    }


def _sentence(why: str) -> bytes:
    """Return a page that says why there is no other."""
    return (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>fer serve</title>'
        f"<p>There is no page here: {html.escape(why)}.</p><p>Images can be sent to <code>POST /recognize</code>; "
        f'<a href="openapi.json">openapi.json</a> says how.</p><p>{NOTICE}</p></html>'
    ).encode()


def _add_page(app: FastAPI, files: Mapping[str, bytes]) -> None:
    """Serve files below ``/``; a browser asks each time whether its copy is still the right one."""
    for name, content in files.items():
        endpoint = _file_endpoint(content, _TYPES[name[name.rindex(".") :]])
        for path in {f"/{name}", f"/{name.removesuffix('index.html')}"}:
            app.add_api_route(path, endpoint, methods=["GET", "HEAD"], include_in_schema=False)


def _file_endpoint(content: bytes, kind: str) -> Any:
    headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()[:20]}"', "Cache-Control": "no-cache"}

    async def endpoint(request: Request) -> Response:
        if request.headers.get("if-none-match", "").removeprefix("W/") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=kind)

    return endpoint
