"""``fer serve``: answer over HTTP.

What needs torch is imported inside of the function.
"""

from __future__ import annotations

import os
from typing import Literal

__all__ = ["serve"]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    model: str,
    *,
    port: int = 8000,
    host: str = "127.0.0.1",
    token: str = "",
    detector: str = "auto",
    views: Literal["none", "squares", "fine"] = "none",
    waiting: int = 64,
) -> None:
    """Answer requests for recognition over HTTP: POST /recognize, and a page at /.

    No image is kept or logged. An expression is what a face shows, not what a person feels.

    Args:
        model: a model folder, a run folder, a checkpoint, or an ONNX file of fer export.
        port: to listen on.
        host: to listen on; beyond this machine a token is required.
        token: that clients must send as Authorization: Bearer TOKEN; FER_TOKEN in the environment does as well.
        detector: auto, blazeface, blazeface_short, haar, or the class path of another.
        views: look for small faces also in parts of the picture.
        waiting: requests that are worked on or wait; further ones are refused with 429.
    """
    from fer_lightning.errors import ConfigError, MissingExtraError
    from fer_lightning.inference.recognizer import Recognizer

    token = token or os.environ.get("FER_TOKEN", "")
    if host not in _LOOPBACK and not token:
        raise ConfigError(f"--host {host} can be reached from other machines: give a --token, or set FER_TOKEN")
    try:
        import uvicorn

        from fer_lightning.inference.serve.app import make_app
        from fer_lightning.inference.serve.settings import Limits
    except ImportError as error:
        raise MissingExtraError(f"the server needs more packages ({error.name}): pip install 'fer_lightning[serve]'") from error
    recognizer = Recognizer.load(model, detector, views)
    app = make_app(recognizer, Limits(waiting=waiting), token)
    print(f"{recognizer.model!r}\nhttp://{host}:{port}/  (Ctrl-C ends it)", flush=True)
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=10)
