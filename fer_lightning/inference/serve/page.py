"""The page of the server as files: its own, the runtime that ``make web`` fetches, the detectors and a model."""

from __future__ import annotations

import sys
from pathlib import Path

from fer_lightning.errors import ConfigError, FERError
from fer_lightning.figures import class_colors
from fer_lightning.files import json_text, part_beside
from fer_lightning.inference.export.onnx_file import OnnxBackend, metadata_of, onnx_bytes, read_onnx
from fer_lightning.inference.export.package import ONNX
from fer_lightning.inference.faces.blazeface import Kind
from fer_lightning.inference.faces.model_files import FETCH, blazeface_file
from fer_lightning.inference.loading import DEFAULT_MODEL
from fer_lightning.inference.model import Model
from fer_lightning.inference.serve.runtime import RUNTIME, is_built
from fer_lightning.runs.model_folder import released

__all__ = ["MISSING", "page_files", "page_or_why_not", "write_page"]

MISSING = "the page was not built here: run make web in the repository, or install a released package"
"""What is said where the page has no runtime."""
_SOURCE = Path(__file__).parent / "page"
_OWN = ("index.html", "page.css", "app.js", "draw.js", "recognize.js", "faces.js", "pixels.js", "NOTICE.txt")
_DETECTORS: dict[str, Kind] = {"blazeface_full.onnx": "full", "blazeface_short.onnx": "short"}


def page_files(model: Model, source: str | None = None, served: bool = True) -> dict[str, bytes]:
    """Return the files of the page with a model in it, by their paths in its folder.

    Args:
        model: whose network is put into the page.
        source: what it was loaded from, see ``load_model``: an exported folder has the network in it already.
        served: whether a server that recognizes is behind the page, so that it offers to send pictures there.

    Raises:
        ConfigError: if the page was not built, a detector was not fetched, or the model cannot be exported.
        MissingExtraError: without the packages for ONNX.
    """
    if not is_built():
        raise ConfigError(MISSING)
    files = {name: (_SOURCE / name).read_bytes() for name in _OWN}
    for path in sorted(RUNTIME.iterdir()):
        files[f"ort/{path.name}"] = path.read_bytes()
    for name, kind in _DETECTORS.items():
        detector = blazeface_file(kind)
        if detector is None or detector.suffix != ".onnx":
            raise ConfigError(f"the page needs the detector as ONNX: {FETCH}")
        files[name] = detector.read_bytes()
    files["model.onnx"] = _network(model, source)
    colors = {name: f"#{bytes(color).hex()}" for name, color in class_colors(model.class_names).items()}
    files["model.json"] = json_text({**metadata_of(model), "colors": colors, "served": served}).encode()
    return files


def page_or_why_not(model: Model, source: str | None = None) -> dict[str, bytes] | str:
    """Return what ``page_files`` does; where that is not possible, print and return why."""
    try:
        return page_files(model, source)
    except FERError as error:
        print(f"without the page: {error}", file=sys.stderr)
        return str(error)


def write_page(model: Model, folder: Path, source: str | None = None) -> Path:
    """Write the page with a model in it as static files, which any web server can serve; return the folder.

    Args:
        model: whose network is put into the page.
        folder: to write; must not exist or be empty.
        source: as in ``page_files``.

    Raises:
        ConfigError: as ``page_files``, or if there is something in the folder, or it cannot be written.
        MissingExtraError: without the packages for ONNX.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists already: give another folder")
    files = page_files(model, source, served=False)
    try:
        with part_beside(folder) as part:
            for name, content in files.items():
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                (part / name).write_bytes(content)
            if folder.exists():
                folder.rmdir()
            part.rename(folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from error
    return folder


def _network(model: Model, source: str | None) -> bytes:
    """Return the network as ONNX; making it anew takes some seconds."""
    if isinstance(model.backend, OnnxBackend):
        return model.backend.content
    name = DEFAULT_MODEL if source is None else source
    ready = released().get(name, Path(name)) / ONNX
    if ready.is_file() and metadata_of(read_onnx(ready)) == metadata_of(model):
        return ready.read_bytes()
    return onnx_bytes(model)
