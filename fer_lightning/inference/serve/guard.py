"""Looks at each request before the application does, and puts headers on each answer."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from prometheus_client import Counter
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fer_lightning.inference.serve.settings import Access

__all__ = ["POLICY", "Guard", "problem"]

POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'"
)
"""Nothing is loaded from, or sent to, another address. The page itself says it too, for static copies of it."""
_HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_WITH_TOKEN = ("/recognize", "/metrics")


class Guard:
    """ASGI middleware: refuses strangers, adds headers, counts answers.

    Args:
        app: answers.
        access: who may ask.
        requests: counts the answers of ``/recognize`` by their status.
    """

    def __init__(self, app: ASGIApp, access: Access, requests: Counter) -> None:
        self._app, self._access, self._requests = app, access, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if scope["path"] == "/recognize":
                    self._requests.labels(str(message["status"])).inc()
            await send(message)

        answer = self._refused(scope["path"], Headers(scope=scope))
        await (self._app if answer is None else answer)(scope, receive, send_with_headers)

    def _refused(self, path: str, headers: Headers) -> JSONResponse | None:
        """Return why a request is refused, ``None`` if it is not."""
        access, host, origin = self._access, headers.get("host", ""), headers.get("origin")
        name = _name(host)
        if access.hosts and (not name or name not in (*access.hosts, access.public.lower())):
            ours = ", ".join(access.hosts)
            return problem(403, f"this server is called {ours}, not '{name}' (fer serve --public_name adds a name)")
        if origin is not None and not self._same(origin, host):
            return problem(403, f"pages of {origin} may not use this server")
        if access.token and path in _WITH_TOKEN:
            sent = headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(sent.encode(), access.token.encode()):
                return problem(401, "send the header Authorization: Bearer TOKEN")
        return None

    def _same(self, origin: str, host: str) -> bool:
        """Tell whether a page's address is this server's."""
        address = origin.partition("://")[2].lower()
        return address == host.lower() or (bool(self._access.public) and _name(address) == self._access.public.lower())


def problem(status: int, message: str, retry_s: int = 1) -> JSONResponse:
    """Return an answer that says what is wrong."""
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": str(retry_s)}}
    return JSONResponse({"detail": message}, status, headers.get(status))


def _name(host: str) -> str:
    """Return the name in a ``Host`` header, without its port, in lower case; empty if there is none.

    >>> _name("[::1]:8000"), _name("LocalHost")
    ('::1', 'localhost')
    """
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
