"""Many clients of a server at once, and what they were answered.

``python -m tests.inference.serve.clients http://127.0.0.1:8000/ photo.jpg --seconds 60`` prints it for a running one.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

__all__ = ["Answers", "ask_for", "request_of"]


@dataclass
class Answers:
    """What the clients were answered.

    Attributes:
        statuses: number of answers by their status.
        seconds: how long each answer with status 200 took.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} x {status}" for status, count in sorted(self.statuses.items()))
        p50, p95, p99 = (1000 * np.percentile(self.seconds, share) for share in (50, 95, 99))
        return f"{counts}; of those with 200 p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms"


def request_of(file: bytes, host: str = "127.0.0.1") -> bytes:
    """Return a whole request for the recognition of an image."""
    before = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    body = before + file + b"\r\n--b--\r\n"
    lines = ("POST /recognize HTTP/1.1", f"Host: {host}", "Content-Type: multipart/form-data; boundary=b")
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


async def ask_for(seconds: float, port: int, request: bytes, clients: int = 200) -> Answers:
    """Let clients ask one request after the other for some seconds; one that is sent away waits as it was told."""
    answers, end = Answers(), time.monotonic() + seconds
    await asyncio.gather(*(_client(port, request, end, answers) for _ in range(clients)))
    return answers


async def _client(port: int, request: bytes, end: float, answers: Answers) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < end:
        begin = time.monotonic()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        await reader.readexactly(int(_header(head, "content-length")))
        status = int(head.split()[1])
        answers.statuses[status] += 1
        if status == 200:
            answers.seconds.append(time.monotonic() - begin)
        elif status == 429:
            await asyncio.sleep(float(_header(head, "retry-after")))
    writer.close()


def _header(head: str, name: str) -> str:
    return next(line.partition(":")[2].strip() for line in head.splitlines() if line.startswith(f"{name}:"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Ask a server of fer serve by many clients at once.")
    parser.add_argument("address")
    parser.add_argument("image", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=200)
    given = parser.parse_args()
    port = urlsplit(given.address).port or 80
    print(asyncio.run(ask_for(given.seconds, port, request_of(given.image.read_bytes()), given.clients)))
