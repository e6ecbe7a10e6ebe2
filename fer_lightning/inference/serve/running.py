"""Listening on a port, and running the application there until a signal ends it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import cv2
import torch
import uvicorn

from fer_lightning.errors import ConfigError

__all__ = ["address", "listening", "run", "serving_threads"]

_GRACE_S = 10  # seconds that requests have to end after a signal
_MOST_THREADS = 4


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises:
        ConfigError: if the port is taken or may not be used, or there is no such host.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"--host {host}: there is no such name or address ({error.strerror})") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}, port {port} ({error.strerror}): give another --port; --port 0 takes a free one"
        ) from error
    return listener


def address(listener: socket.socket) -> str:
    """Return where a socket listens, as a browser takes it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serving_threads() -> int:
    """Return how many requests to work on at a time, and have each of them use one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


def run(app: Callable[..., Any], listener: socket.socket) -> None:
    """Answer until SIGINT or SIGTERM; requests that were begun are finished before. The signal is then raised again."""
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it tells of each malformed form
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=_GRACE_S)
    uvicorn.Server(config).run(sockets=[listener])
