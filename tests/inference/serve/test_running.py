from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from fer_lightning.__main__ import main
from fer_lightning.errors import ConfigError
from fer_lightning.inference.serve.running import address, listening
from fer_lightning.inference.serve.settings import LOOPBACK, Access
from tests.inference.serve.bodies import png
from tests.inference.serve.clients import ask_for, request_of

ROOT = Path(__file__).parents[3]


def test_a_taken_port_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert address(listener) == f"http://127.0.0.1:{port}/"
        assert main(["serve", "nothing", "--port", str(port)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fer: error: cannot listen on 127.0.0.1, port {port} (Address already in use)")
    assert line.endswith("--port 0 takes a free one")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--port", "70000"), "--port 70000: ports are 0 to 65535"),
        (("--port", "-1"), "--port -1: ports are 0 to 65535"),
        (("--waiting", "0"), "--waiting 0: it must be 1 or more"),
        (("--host", "0.0.0.0"), "--host 0.0.0.0 can be reached from other machines: give a --token, or set FER_TOKEN"),
        (("--host", "::", "--token", ""), "--host :: can be reached from other machines"),
        (("--host", "no.such.name.invalid", "--token", "x"), "--host no.such.name.invalid: there is no such name"),
        (("--port", "0"), "nothing"),
    ],
)
def test_wrong_options_are_told_in_one_line(
    options: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FER_TOKEN", raising=False)
    assert main(["serve", "nothing", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize(
    ("options", "variable", "expected"),
    [
        ((), "", ("127.0.0.1", 8000, "auto", "squares", 64, "", LOOPBACK, "")),
        ((), "b", ("127.0.0.1", 8000, "auto", "squares", 64, "b", LOOPBACK, "")),
        (("--token=a", "--port=0", "--waiting=1"), "b", ("127.0.0.1", 0, "auto", "squares", 1, "a", LOOPBACK, "")),
        (
            ("--host=0.0.0.0", "--token=a", "--detector=haar", "--views=fine", "--public-name=x.org"),
            "",
            ("0.0.0.0", 8000, "haar", "fine", 64, "a", (), "x.org"),
        ),
    ],
)
def test_what_is_said_reaches_the_server(
    options: tuple[str, ...], variable: str, expected: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_TOKEN", variable)
    found: dict[str, tuple[Any, ...]] = {}

    def load(*args: Any) -> Any:
        found["load"] = args
        return SimpleNamespace(model="model")

    monkeypatch.setattr("fer_lightning.inference.recognizer.Recognizer.load", load)
    monkeypatch.setattr("fer_lightning.inference.serve.page.page_or_why_not", lambda *args: "page")
    monkeypatch.setattr("fer_lightning.inference.serve.app.make_app", lambda *args: found.setdefault("app", args))
    monkeypatch.setattr("fer_lightning.inference.serve.running.listening", lambda *at: nullcontext(at))
    monkeypatch.setattr("fer_lightning.inference.serve.running.address", lambda listener: "address")
    monkeypatch.setattr("fer_lightning.inference.serve.running.run", lambda *args: found.setdefault("run", args))
    assert main(["serve", "a model", *options]) == 0
    host, port, detector, views, waiting, token, hosts, public = expected
    assert found["run"][1] == (host, port)
    assert found["load"] == ("a model", detector, views)
    _, limits, access, page = found["app"]
    assert (limits.waiting, access, page) == (waiting, Access(token, hosts, public), "page")  # type: ignore[arg-type]


def test_a_port_that_may_not_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("socket.socket.bind", refuse)
    with pytest.raises(ConfigError, match=r"port 80 \(Permission denied\): give another --port"):
        listening("127.0.0.1", 80)


class Server:
    """``fer serve`` with the released model in a process of its own."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "fer_lightning", "serve", "--port", "0"]
        command += ["--detector", "tests.inference.helpers.BrightSquares"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.match(r"http://127\.0\.0\.1:(\d+)/ ", line):
                self.port = int(found[1])
                return
        raise AssertionError(self.process.communicate()[1])

    def rss(self) -> float:
        """Return its resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1000

    def connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.process.kill()
    made.process.communicate()


@pytest.mark.slow
def test_two_hundred_clients_are_answered_or_sent_away(server: Server) -> None:
    request = request_of(png((20, 20, 40), (80, 40, 50)))
    asyncio.run(ask_for(5, server.port, request))
    before = server.rss()
    answers = asyncio.run(ask_for(60, server.port, request))
    print(f"{answers}; {before:.0f} MB before, {server.rss():.0f} MB after")
    assert set(answers.statuses) == {200, 429}
    assert answers.statuses[200] > 500
    assert server.rss() < before + 50


@pytest.mark.slow
def test_a_stalled_body_is_given_up(server: Server) -> None:
    begin = time.monotonic()
    with server.connected() as stalled:
        stalled.sendall(request_of(png((20, 20, 40)))[:-500])
        assert stalled.recv(100).startswith(b"HTTP/1.1 408")
    assert 9 < time.monotonic() - begin < 20


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_request_that_was_begun_is_finished_after_a_signal(server: Server, stop: signal.Signals) -> None:
    request = request_of(png((20, 20, 40)))
    with server.connected() as begun:
        begun.sendall(request[:-500])
        time.sleep(1)
        server.process.send_signal(stop)
        time.sleep(1)
        with pytest.raises(ConnectionRefusedError):
            server.connected()
        begun.sendall(request[-500:])
        assert begun.recv(100).startswith(b"HTTP/1.1 200")
    printed = server.process.communicate(timeout=30)[1]
    assert server.process.returncode == {signal.SIGTERM: -signal.SIGTERM, signal.SIGINT: 130}[stop]
    assert "Traceback" not in printed


@pytest.mark.slow
def test_what_http_itself_forbids_is_refused(server: Server) -> None:
    for lines in (
        b"POST /recognize HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /recognize HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde",
        b"POST /recognize HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ):
        with server.connected() as client:
            client.sendall(lines)
            assert client.recv(100).split()[1].startswith(b"4")
