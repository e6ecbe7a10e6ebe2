"""Bounds of the server."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """What a request may ask for. All are checked before an image is decoded.

    Attributes:
        body: bytes of a request.
        images: in one request.
        pixels: width times height of an image.
        read_s: seconds within which a request's body must have come.
        waiting: requests that are worked on or wait; further ones get 429.
        retry_s: seconds that a refused client is asked to wait.
    """

    body: int = 16 * 2**20
    images: int = 16
    pixels: int = 25_000_000
    read_s: float = 10.0
    waiting: int = 64
    retry_s: int = 1
