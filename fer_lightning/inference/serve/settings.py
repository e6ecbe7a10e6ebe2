"""Bounds of the server, and who may reach it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LOOPBACK", "Access", "Limits"]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names of this machine, as seen from itself."""


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
        threads: requests that are worked on at a time.
    """

    body: int = 16 * 2**20
    images: int = 16
    pixels: int = 25_000_000
    read_s: float = 10.0
    waiting: int = 64
    retry_s: int = 1
    threads: int = 2


@dataclass(frozen=True)
class Access:
    """Who may ask.

    A page of another site that a browser on this machine shows must not use the server: its address is in ``Origin``,
    and after a change of its DNS entry (rebinding) in ``Host``.

    Attributes:
        token: that clients must send as ``Authorization: Bearer ...``; empty for none.
        hosts: names that a request may be addressed to; empty for any, which needs a token.
        public: further name, under which a reverse proxy passes requests on; empty for none.
    """

    token: str = ""
    hosts: tuple[str, ...] = LOOPBACK
    public: str = ""
