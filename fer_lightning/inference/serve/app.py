"""The HTTP application: recognition, health, metrics and the page."""

from __future__ import annotations

import asyncio
import hmac
import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from numpy.typing import NDArray
from PIL import Image
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.types import ASGIApp

from fer_lightning import __version__
from fer_lightning.data.files.decode import decode
from fer_lightning.errors import DataError
from fer_lightning.inference.recognizer import Face, Recognizer
from fer_lightning.inference.serve.body import BadRequestError, images_of
from fer_lightning.inference.serve.settings import Limits

__all__ = ["NOTICE", "make_app"]

NOTICE = (
    "An expression is what a face shows, not what a person feels. Inferring emotions at work and in education is "
    "prohibited in the EU (AI Act, Art. 5(1)(f))."
)
_POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
    "img-src 'self' blob: data:; media-src 'self' blob:; style-src 'self'; connect-src 'self'; frame-ancestors 'none'"
)
_ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"description": text, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for code, text in {
        400: "the client went away",
        401: "the token is missing or wrong",
        408: "the body came too slowly",
        413: "too large: the body, an image, or their number",
        415: "neither a form nor JSON",
        422: "no image, or one that cannot be read",
        429: "too many requests at once; Retry-After says when to come back",
    }.items()
}
"""What a request may be answered by, besides 200."""


def make_app(
    recognizer: Recognizer, limits: Limits | None = None, token: str = "", page: Path | None = None
) -> FastAPI:
    """Make the application.

    Args:
        recognizer: answers.
        limits: of requests.
        token: that clients must send as ``Authorization: Bearer ...``; empty for none.
        page: folder of the page, served below ``/``; ``None`` for a sentence in its place.
    """
    limits = Limits() if limits is None else limits
    app = FastAPI(title="fer_lightning", version=__version__, description=NOTICE, docs_url=None, redoc_url=None)
    desk = _Desk(recognizer, limits)
    app.state.desk = desk

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Response:
        if token and request.url.path == "/recognize":
            sent = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(sent.encode(), token.encode()):
                return _problem(401, "send the header Authorization: Bearer TOKEN")
        response: Response = await call_next(request)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    @app.exception_handler(BadRequestError)
    async def refused(request: Request, error: BadRequestError) -> Response:
        return _problem(error.status, str(error), limits.retry_s)

    @app.post("/recognize", responses=_ERRORS, openapi_extra={"requestBody": _REQUEST})
    async def recognize(request: Request) -> dict[str, Any]:
        """Find the faces in images and tell their expressions. No image is kept."""
        return await desk.answer(request)

    @app.get("/labels")
    async def labels() -> dict[str, Any]:
        """Return the classes in order, the label scheme and the model's name."""
        model = recognizer.model
        return {"labels": list(model.class_names), "scheme": model.scheme, "model": model.card.name, "notice": NOTICE}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Tell that the server answers, and how many requests are worked on."""
        return {"status": "ok", "waiting": desk.waiting, "version": __version__}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return counts and times for Prometheus."""
        return Response(generate_latest(desk.registry), media_type="text/plain; version=0.0.4")

    _mount_page(app, page)
    _describe_problem(app)
    return app


class _Desk:
    """Takes requests, within bounds, and has them answered by a pool of threads."""

    def __init__(self, recognizer: Recognizer, limits: Limits) -> None:
        self.recognizer, self.limits, self.waiting = recognizer, limits, 0
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recognize")
        self._decoders = ThreadPoolExecutor(max_workers=2, thread_name_prefix="decode")
        self.registry = CollectorRegistry()
        self.requests = Counter("fer_requests_total", "requests by status", ["status"], registry=self.registry)
        self.faces = Counter("fer_faces_total", "faces recognized", registry=self.registry)
        self.seconds = Histogram("fer_request_seconds", "time of answered requests", registry=self.registry)

    async def answer(self, request: Request) -> dict[str, Any]:
        if self.waiting >= self.limits.waiting:
            self.requests.labels("429").inc()
            raise BadRequestError(429, f"{self.waiting} requests are waiting; come back in {self.limits.retry_s} s")
        self.waiting += 1
        start = time.perf_counter()
        try:
            found = await self._recognized(await images_of(request, self.limits))
        except BadRequestError as error:
            self.requests.labels(str(error.status)).inc()
            raise
        finally:
            self.waiting -= 1
        self.requests.labels("200").inc()
        self.seconds.observe(time.perf_counter() - start)
        return {"model": self.recognizer.model.card.name, "images": found}

    async def _recognized(self, files: list[bytes]) -> list[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        found = []
        for number, file in enumerate(files):
            pixels = await loop.run_in_executor(self._decoders, self._decoded, number, file)
            result = await loop.run_in_executor(self._pool, self.recognizer, pixels)
            self.faces.inc(len(result))
            height, width = pixels.shape[:2]
            found.append({"width": width, "height": height, "faces": [_plain(face) for face in result]})
        return found

    def _decoded(self, number: int, file: bytes) -> NDArray[np.uint8]:
        """Return the pixels of a file; its size is looked at in its header before anything is decoded."""
        try:
            with Image.open(io.BytesIO(file), formats=("JPEG", "PNG", "WEBP", "BMP", "GIF")) as image:
                width, height = image.size
        except Exception as error:  # Pillow raises several kinds for damaged headers
            raise BadRequestError(422, f"image {number} is no JPEG, PNG, WebP, BMP or GIF, or damaged") from error
        if width * height > self.limits.pixels:
            raise BadRequestError(413, f"image {number} has {width}x{height} pixels; at most {self.limits.pixels:,}")
        try:
            return decode(file, channels=3, max_pixels=self.limits.pixels)
        except DataError as error:
            raise BadRequestError(422, f"image {number}: {error}") from error


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


def _problem(status: int, message: str, retry_s: int = 1) -> JSONResponse:
    headers = {"Retry-After": str(retry_s)} if status == 429 else None
    return JSONResponse({"detail": message}, status, headers)


def _mount_page(app: FastAPI, page: Path | None) -> None:
    if page is not None and (page / "index.html").is_file():
        static: ASGIApp = StaticFiles(directory=page, html=True)
        app.mount("/", static)
        return

    @app.get("/", include_in_schema=False)
    async def no_page() -> Response:
        return Response(
            f"The page was not built here: make web. POST images to /recognize.\n\n{NOTICE}\n", media_type="text/plain"
        )


_REQUEST: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        },
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "properties": {"images": {"type": "array", "items": {"type": "string", "format": "byte"}}},
            }
        },
    },
}


def _describe_problem(app: FastAPI) -> None:
    """Say in the schema what an error looks like."""
    schema = app.openapi()
    problem = {"type": "object", "required": ["detail"], "properties": {"detail": {"type": "string"}}}
    schema.setdefault("components", {}).setdefault("schemas", {})["Problem"] = problem
    app.openapi_schema = schema
