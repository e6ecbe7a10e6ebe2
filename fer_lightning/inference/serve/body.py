"""Reading the images of a request, within bounds, from a form or from JSON. Nothing is written to a disk."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from fer_lightning.inference.serve.settings import Limits

__all__ = ["FIELD", "BadRequestError", "images_of"]

FIELD = "files"
"""Name of the form's field, which may stand several times."""
_MOST_PARTS = 1000


class BadRequestError(Exception):
    """A request that is refused.

    Args:
        status: HTTP status, 4xx.
        message: what is wrong and what would be right.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def images_of(request: Request, limits: Limits) -> list[bytes]:
    """Return the images of a request, as files.

    Raises:
        BadRequestError: if there are none, too many, the body is too large, malformed, or comes too slowly.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("multipart/form-data", "application/json"):
        raise BadRequestError(415, f"send multipart/form-data with fields '{FIELD}', or application/json; got '{kind}'")
    try:
        body = await asyncio.wait_for(_read(request, limits), limits.read_s)
    except (asyncio.TimeoutError, TimeoutError):
        raise BadRequestError(408, f"the body did not come within {limits.read_s:g} s") from None
    except ClientDisconnect:
        raise BadRequestError(400, "the client went away") from None
    found = _in_json(body) if kind == "application/json" else await _in_form(request, body, limits)
    if not found:
        raise BadRequestError(
            422, f"there is no image in the request: fields '{FIELD}', or JSON {{\"images\": [base64, ...]}}"
        )
    if len(found) > limits.images:
        raise BadRequestError(413, f"{len(found)} images in a request; at most {limits.images}")
    return found


async def _read(request: Request, limits: Limits) -> bytes:
    """Return the body; stop as soon as it is too large, whatever its header promised."""
    promised = request.headers.get("content-length", "0")
    if not (promised.isascii() and promised.isdigit() and len(promised) < 20):
        raise BadRequestError(400, "Content-Length is no number of bytes")
    if int(promised) > limits.body:
        raise BadRequestError(413, f"the body has {int(promised):,} bytes; at most {limits.body:,}")
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limits.body:
            raise BadRequestError(413, f"the body has more than {limits.body:,} bytes")
        parts.append(chunk)
    return b"".join(parts)


def _in_json(body: bytes) -> list[bytes]:
    if sum(body.count(mark) for mark in b"[{,") > _MOST_PARTS:  # each would become an object in memory
        raise BadRequestError(413, f"the JSON has more than {_MOST_PARTS:,} parts")
    try:
        values: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(422, f"the body is no JSON: {error}") from None
    listed = values.get("images") if isinstance(values, dict) else None
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise BadRequestError(422, 'expected {"images": [base64, ...]}')
    try:
        return [base64.b64decode(each.rpartition(",")[2], validate=True) for each in listed]  # a data URL has a comma
    except (binascii.Error, ValueError) as error:
        raise BadRequestError(422, f"an image is no base64: {error}") from None


async def _in_form(request: Request, body: bytes, limits: Limits) -> list[bytes]:
    """Return the files of the form, by Starlette's parser, which keeps them in memory up to the size of the body."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, stream(), max_files=limits.images + 1, max_fields=limits.images + 1)
    parser.spool_max_size = limits.body
    try:
        form = await parser.parse()
    except MultiPartException as error:
        status = 413 if error.message.startswith("Too many") else 422
        raise BadRequestError(status, f"the form is malformed: {error.message}") from None
    except (KeyError, ValueError, UnicodeDecodeError) as error:  # its head says too little
        raise BadRequestError(422, f"the form is malformed: {error}") from None
    try:
        return [await each.read() for each in form.getlist(FIELD) if isinstance(each, UploadFile)]
    finally:
        await form.close()
