"""The page of the server as files: its own, the runtime that ``make web`` fetches, the detector and a model.

``python -m fer_lightning.inference.serve.page FOLDER`` takes the runtime from a folder of the npm package
onnxruntime-web.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from fer_lightning.errors import ConfigError
from fer_lightning.files import file_digest, json_text, part_beside, write_atomically
from fer_lightning.inference.export.onnx_file import metadata_of, onnx_bytes
from fer_lightning.inference.faces.model_files import FETCH, blazeface_file
from fer_lightning.inference.model import Model

__all__ = ["MISSING", "is_built", "take_runtime", "write_page"]

SOURCE = Path(__file__).parent / "page"
RUNTIME = SOURCE / "ort"
MISSING = "The page was not built here: run `make web` in the repository, or install a released package."
_FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""Files of onnxruntime-web 1.30.0 and their SHA-256."""
_OWN = ("index.html", "page.css", "app.js", "recognize.js", "faces.js", "pixels.js")
_NOTICE = """\
onnxruntime-web: Copyright (c) Microsoft Corporation, MIT License: https://opensource.org/license/mit
BlazeFace (MediaPipe Face Detection): Copyright Google LLC, Apache License 2.0: https://www.apache.org/licenses/LICENSE-2.0
"""


def is_built() -> bool:
    """Tell whether the runtime of the page is there."""
    return all((RUNTIME / name).is_file() for name in _FILES)


def take_runtime(folder: Path) -> None:
    """Copy the runtime from a folder of onnxruntime-web, with its digests checked.

    Raises:
        ConfigError: if a file is missing or another one.
    """
    for name, digest in _FILES.items():
        path = folder / name
        if not path.is_file():
            raise ConfigError(f"there is no {path}")
        if file_digest(path, "sha256") != digest:
            raise ConfigError(f"{path} is not the file of onnxruntime-web 1.30.0 that the page was written for")
        write_atomically(RUNTIME / name, path.read_bytes())


def write_page(model: Model, folder: Path) -> Path:
    """Write the page with a model in it as static files, which any web server can serve; return the folder.

    Args:
        model: with a PyTorch network.
        folder: to write; must not exist or be empty.

    Raises:
        ConfigError: if the page was not built, the detector was not fetched, or there is something in the folder.
        MissingExtraError: without the packages for ONNX.
    """
    if not is_built():
        raise ConfigError(MISSING)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists already: give another folder")
    detector = blazeface_file("full")
    if detector is None or detector.suffix != ".onnx":
        raise ConfigError(f"the page needs the detector as ONNX: {FETCH}")
    with part_beside(folder) as part:
        shutil.copytree(RUNTIME, part / "ort")
        for name in _OWN:
            shutil.copyfile(SOURCE / name, part / name)
        shutil.copyfile(detector, part / "blazeface.onnx")
        (part / "model.onnx").write_bytes(onnx_bytes(model))
        (part / "model.json").write_text(json_text(metadata_of(model)), encoding="utf-8")
        (part / "NOTICE.txt").write_text(_NOTICE, encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    return folder


if __name__ == "__main__":
    take_runtime(Path(sys.argv[1]))
