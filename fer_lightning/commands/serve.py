"""``fer serve``: answer over HTTP.

What needs torch is imported inside of the function.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

__all__ = ["serve"]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    model: str | None = None,
    *,
    port: int = 8000,
    host: str = "127.0.0.1",
    token: str = "",
    detector: str = "auto",
    views: Literal["none", "squares", "fine"] = "none",
    waiting: int = 64,
    export: Annotated[Path | None, "DIR"] = None,
) -> None:
    """Answer requests for recognition over HTTP: POST /recognize, and a page at /.

    No image is kept or logged. An expression is what a face shows, not what a person feels.

    Args:
        model: as for fer recognize; the released default, if not given.
        port: to listen on.
        host: to listen on; beyond this machine a token is required.
        token: that clients must send as Authorization: Bearer TOKEN; FER_TOKEN in the environment does as well.
        detector: auto, blazeface, blazeface_short, haar, the .onnx file of YuNet, or the class path of another.
        views: look for small faces also in parts of the picture.
        waiting: requests that are worked on or wait; further ones are refused with 429.
        export: write the page with the model in it as static files into this folder, and end.
    """
    from fer_lightning.errors import ConfigError, FERError, MissingExtraError
    from fer_lightning.inference.recognizer import Recognizer

    if export is not None:
        from fer_lightning.inference.loading import load_model
        from fer_lightning.inference.serve.page import write_page

        print(f"page: {write_page(load_model(model), export) / 'index.html'}")
        return
    token = token or os.environ.get("FER_TOKEN", "")
    if host not in _LOOPBACK and not token:
        raise ConfigError(f"--host {host} can be reached from other machines: give a --token, or set FER_TOKEN")
    try:
        import uvicorn

        from fer_lightning.inference.serve.app import make_app
        from fer_lightning.inference.serve.page import write_page
        from fer_lightning.inference.serve.settings import Limits
    except ImportError as error:
        raise MissingExtraError(
            f"the server needs more packages ({error.name}): pip install 'fer_lightning[serve]'"
        ) from error
    recognizer = Recognizer.load(model, detector, views)
    with TemporaryDirectory() as folder:
        try:
            page: Path | None = write_page(recognizer.model, Path(folder))
        except FERError as error:
            print(f"without the page: {error}", file=sys.stderr)
            page = None
        app = make_app(recognizer, Limits(waiting=waiting), token, page)
        print(f"{recognizer.model!r}\nhttp://{host}:{port}/  (Ctrl-C ends it)", flush=True)
        uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=10)
