"""PyTorch, ONNX, int8 and the page give the same labels on faces of FER2013 that are brought from 160 pixels."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("onnxruntime")

from fer_lightning.data import FER2013DataModule
from fer_lightning.inference.export.int8 import quantized
from fer_lightning.inference.export.onnx_file import OnnxBackend
from fer_lightning.inference.export.package import ONNX
from fer_lightning.inference.faces.model_files import blazeface_file
from fer_lightning.inference.loading import DEFAULT_MODEL, load_model
from fer_lightning.inference.model import Model
from fer_lightning.inference.serve.page import write_page
from fer_lightning.inference.serve.runtime import is_built
from fer_lightning.runs.model_folder import released
from tests.helpers.fer2013 import unpack_real_fer2013
from tests.inference.serve.browser import browsing, files_served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

IMAGES = 1000
SIDE = 160
SAME = {"onnx": 0.995, "page": 0.995, "int8": 0.98, "int8 page": 0.98}
"""Share of the images on which the label of PyTorch must be given."""
CLOSE = 1e-4
"""Largest difference of a probability, without int8."""

SCRIPT = """async ([images, side]) => {
  const ort = await import("./ort/ort.wasm.bundle.min.mjs");
  const { classify } = await import("./recognize.js");
  const model = await (await fetch("model.json")).json();
  const content = new Uint8Array(await (await fetch("model.onnx")).arrayBuffer());
  const network = await ort.InferenceSession.create(content, { executionProviders: ["wasm"] });
  const gray = Uint8Array.from(atob(images), (byte) => byte.charCodeAt(0));
  const found = [];
  for (let start = 0; start < gray.length; start += side * side) {
    const image = new ImageData(side, side);
    for (let k = 0; k < side * side; k++) image.data.set([...Array(3).fill(gray[start + k]), 255], 4 * k);
    found.push(await classify(model, network, image, { left: 0, top: 0, side }));
  }
  return found;
}"""


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.uint8]:
    """Return validation images as if they had been cut out of photographs, uint8 ``(1000, 160, 160)``."""
    table = FER2013DataModule(root=str(unpack_real_fer2013(tmp_path_factory.mktemp("fer"), "csv"))).table
    rows = np.random.default_rng(0).permutation(table.rows("val"))[:IMAGES]
    tiles = map(Image.fromarray, table.images[rows][:, 0])
    return np.stack([np.asarray(tile.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for tile in tiles])


@pytest.fixture(scope="module")
def models(faces: NDArray[np.uint8]) -> dict[str, Model]:
    """Return the released model as it is, as ONNX and as int8 that is calibrated on other images."""
    model, content = load_model(), (released()[DEFAULT_MODEL] / ONNX).read_bytes()
    small = quantized(content, model.scaled(crops(faces[-200:])))
    parts = {name: getattr(model, name) for name in ("class_names", "preprocessing", "card", "framings", "calibration")}
    return {"torch": model, "onnx": Model(OnnxBackend(content), **parts), "int8": Model(OnnxBackend(small), **parts)}


def crops(faces: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return list(np.repeat(faces[..., None], 3, axis=3))


def in_page(model: Model, faces: NDArray[np.uint8], folder: Path) -> NDArray[np.float64]:
    """Return the probabilities that the page computes, float64 ``(N, K)``."""
    with files_served(write_page(model, folder)) as address, browsing() as visit:
        page = visit(address).page
        parts = np.array_split(faces, len(faces) // 100)
        return np.concatenate(
            [page.evaluate(SCRIPT, [base64.b64encode(part.tobytes()).decode(), SIDE]) for part in parts]
        )


def check(name: str, found: NDArray[Any], wanted: NDArray[Any]) -> None:
    same, largest = float((found.argmax(1) == wanted.argmax(1)).mean()), float(np.abs(found - wanted).max())
    print(f"{name}: the same label on {same:.1%} of {len(found):,} images, largest difference {largest:.1e}")
    assert same >= SAME[name]
    if "int8" not in name:
        assert largest <= CLOSE


@pytest.mark.parametrize("name", ["onnx", "int8"])
def test_files_give_the_labels_of_the_original(name: str, models: dict[str, Model], faces: NDArray[np.uint8]) -> None:
    check(name, models[name].probabilities(crops(faces)), models["torch"].probabilities(crops(faces)))


@pytest.mark.skipif(not is_built(), reason="the page's runtime is not there: make web")
@pytest.mark.skipif(blazeface_file("full") is None, reason="BlazeFace is not there: fer models fetch blazeface")
@pytest.mark.parametrize(("name", "form"), [("page", "onnx"), ("int8 page", "int8")])
def test_the_page_gives_the_labels_of_the_original(
    name: str, form: str, models: dict[str, Model], faces: NDArray[np.uint8], tmp_path: Path
) -> None:
    found = in_page(models[form], faces, tmp_path / "site")
    check(name, found, models["torch"].probabilities(crops(faces)))
