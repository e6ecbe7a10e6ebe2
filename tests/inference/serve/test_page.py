from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("onnxruntime")

from fer_lightning.errors import ConfigError
from fer_lightning.files import file_digest
from fer_lightning.inference.export.onnx_file import read_onnx
from fer_lightning.inference.loading import DEFAULT_MODEL, load_model
from fer_lightning.inference.model import Model
from fer_lightning.inference.serve import page, runtime
from fer_lightning.inference.serve.guard import POLICY
from fer_lightning.inference.serve.page import page_files, write_page
from fer_lightning.inference.serve.runtime import take_runtime
from fer_lightning.models.calibration import Calibration
from fer_lightning.runs.model_folder import released as released_models
from tests.inference.helpers import tiny_model

PAGE = Path(page.__file__).parent / "page"


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A stand-in for everything that is fetched, and a model that is not exported."""
    for name in ("ort/ort.wasm.bundle.min.mjs", "ort/ort-wasm-simd-threaded.wasm", "full.onnx", "short.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    for module in (page, runtime):
        monkeypatch.setattr(module, "RUNTIME", tmp_path / "ort")
    monkeypatch.setattr(page, "blazeface_file", lambda kind: tmp_path / f"{kind}.onnx")
    monkeypatch.setattr(page, "onnx_bytes", lambda model: b"network")
    return tiny_model()


def test_the_page_is_written_with_a_model_in_it(built: Model, tmp_path: Path) -> None:
    folder = write_page(built, tmp_path / "site")
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(page_files(built))
    values = json.loads((folder / "model.json").read_text())
    assert values["class_names"] == list(built.class_names) == list(values["colors"])
    assert values["served"] is False
    assert (folder / "model.onnx").read_bytes() == b"network"
    assert (folder / "blazeface_short.onnx").read_bytes() == b"short.onnx"
    with pytest.raises(ConfigError, match="site exists already"):
        write_page(built, folder)


def test_a_folder_that_cannot_be_written_is_told(built: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/site cannot be written: "):
        write_page(built, tmp_path / "file/site")


def test_a_network_that_was_exported_before_is_taken(built: Model) -> None:
    released = load_model()
    shipped = page_files(released)["model.onnx"]
    assert len(shipped) > 100_000
    assert page_files(read_onnx(released_models()[DEFAULT_MODEL] / "model.onnx"))["model.onnx"] == shipped
    assert page_files(replace(released, calibration=Calibration(threshold=0.9)))["model.onnx"] == b"network"
    assert page_files(built, "no such folder")["model.onnx"] == b"network"


def test_what_the_page_refers_to_lies_beside_it(built: Model) -> None:
    files = page_files(built)
    for name in [name for name in files if name.endswith((".html", ".js")) and "/" not in name]:
        text = files[name].decode()
        named = re.findall(r"""(?:href|src)="([^"]+)"|from "\./([^"]+)"|(?:session|fetched)\("([^"]+)"\)""", text)
        assert {each for found in named for each in found if each and not each.startswith("data:")} <= set(files)
    assert set(page._OWN) == {path.name for path in PAGE.iterdir() if path.is_file()}


def test_the_page_names_no_other_address() -> None:
    for path in [path for path in PAGE.iterdir() if path.suffix in (".html", ".js", ".css")]:
        assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", path.read_text()), path


def test_the_page_has_the_policy_of_the_server() -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', (PAGE / "index.html").read_text())
    assert policy == POLICY
    assert "style=" not in (PAGE / "index.html").read_text()


def test_what_is_missing_is_named(built: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "blazeface_file", lambda kind: None)
    with pytest.raises(ConfigError, match="the page needs the detector as ONNX: fer models fetch blazeface"):
        write_page(built, tmp_path / "site")
    (tmp_path / "ort/ort.wasm.bundle.min.mjs").unlink()
    with pytest.raises(ConfigError, match="the page was not built here: run make web"):
        write_page(built, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_only_the_right_runtime_is_taken(tmp_path: Path, built: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dist").mkdir()
    for name in runtime._FILES:
        (tmp_path / "dist" / name).write_text(name)
    with pytest.raises(ConfigError, match="is not the file of onnxruntime-web"):
        take_runtime(tmp_path / "dist")
    assert (tmp_path / "ort/ort.wasm.bundle.min.mjs").read_text().startswith("ort/")
    monkeypatch.setattr(
        runtime, "_FILES", {name: file_digest(tmp_path / "dist" / name, "sha256") for name in runtime._FILES}
    )
    take_runtime(tmp_path / "dist")
    assert (tmp_path / "ort/ort.wasm.bundle.min.mjs").read_text() == "ort.wasm.bundle.min.mjs"
    assert "THIRD PARTY" in (tmp_path / "ort/ThirdPartyNotices.txt").read_text(errors="replace")


def test_the_lock_has_digests_and_no_addresses() -> None:
    web = Path(__file__).parents[3] / "web"
    packages = json.loads((web / "package-lock.json").read_text())["packages"]
    del packages[""]
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert "http" not in (web / "package-lock.json").read_text()
    wanted = json.loads((web / "package.json").read_text())["dependencies"]["onnxruntime-web"]
    assert packages["node_modules/onnxruntime-web"]["version"] == wanted
