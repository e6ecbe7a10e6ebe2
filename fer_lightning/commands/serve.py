"""``fer serve``: answer over HTTP.

What needs torch is imported inside of the function.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from fer_lightning.errors import ConfigError
from fer_lightning.extras import need_extra

__all__ = ["serve"]

_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "pydantic")


def serve(
    model: str | None = None,
    *,
    port: int = 8000,
    host: str = "127.0.0.1",
    token: str = "",
    public_name: Annotated[str, "NAME"] = "",
    detector: str = "auto",
    views: Literal["none", "squares", "fine"] = "squares",
    waiting: int = 64,
    export: Annotated[Path | None, "DIR"] = None,
) -> None:
    """Answer requests for recognition over HTTP: POST /recognize, and a page at /.

    No image is kept or logged. An expression is what a face shows, not what a person feels.

    Args:
        model: as for fer recognize; the released default, if not given.
        port: to listen on; 0 takes a free one.
        host: to listen on; beyond this machine a token is required.
        token: that clients must send as Authorization: Bearer TOKEN; FER_TOKEN in the environment does as well.
        public_name: name under which a reverse proxy passes requests on, such as faces.example.org.
        detector: auto, blazeface, blazeface_short, haar, the .onnx file of YuNet, or the class path of another.
        views: look for small faces also in parts of the picture.
        waiting: requests that are worked on or wait; further ones are refused with 429.
        export: write the page with the model in it as static files into this folder, and end.
    """
    token = token or os.environ.get("FER_TOKEN", "")
    _check_numbers(port, waiting)
    need_extra("serve", "fer serve needs", *_PACKAGES)
    from fer_lightning.inference.loading import load_model
    from fer_lightning.inference.recognizer import Recognizer
    from fer_lightning.inference.serve.app import make_app
    from fer_lightning.inference.serve.page import page_or_why_not, write_page
    from fer_lightning.inference.serve.running import address, listening, run, serving_threads
    from fer_lightning.inference.serve.settings import LOOPBACK, Access, Limits

    if export is not None:
        print(f"page: {write_page(load_model(model), export, model) / 'index.html'}")
        return
    local = host in LOOPBACK
    if not local and not token:
        raise ConfigError(f"--host {host} can be reached from other machines: give a --token, or set FER_TOKEN")
    with listening(host, port) as listener:
        limits = Limits(waiting=waiting, threads=serving_threads())
        recognizer = Recognizer.load(model, detector, views)
        page = page_or_why_not(recognizer.model, model)
        app = make_app(recognizer, limits, Access(token, LOOPBACK if local else (), public_name), page)
        print(f"{recognizer.model!r}\n{address(listener)}  (Ctrl-C ends it)", flush=True)
        run(app, listener)


def _check_numbers(port: int, waiting: int) -> None:
    if not 0 <= port < 2**16:
        raise ConfigError(f"--port {port}: ports are 0 to 65535")
    if waiting < 1:
        raise ConfigError(f"--waiting {waiting}: it must be 1 or more")
