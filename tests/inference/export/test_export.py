from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.inference.export import package
from fer_lightning.inference.export.int8 import _end, quantized
from fer_lightning.inference.export.onnx_file import OnnxBackend, onnx_bytes, read_onnx, write_onnx
from fer_lightning.inference.export.package import INT8, ONNX, PROGRAM, Samples, export, export_table
from fer_lightning.inference.framing import Framing
from fer_lightning.inference.model import Model
from fer_lightning.inference.model_folder import model_of_folder
from fer_lightning.models.views import Views
from fer_lightning.runs.model_folder import WEIGHTS
from fer_lightning.types import Preprocessing
from tests.inference.helpers import CALIBRATION, tiny_model

COLOUR: Preprocessing = {
    "image_size": 40,
    "channels": 3,
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.25, 0.3],
    "interpolation": "area",
}


def crops(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 90, 70), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    model = tiny_model(preprocessing=COLOUR)
    model.framings, model.calibration = {"haar": Framing(0.8, 0.5, 0.6)}, CALIBRATION
    images = model.scaled(crops(64))
    labels = model.backend(images).argmax(dim=1).numpy()
    folder = tmp_path_factory.mktemp("export") / "out"
    checks = export(model, folder, Samples(images, images, labels))
    assert [check.file for check in checks] == [WEIGHTS, ONNX, PROGRAM, INT8]
    assert [check.accuracy for check in checks[:3]] == [1.0, 1.0, 1.0]
    assert export_table(checks)[0].split()[:2] == ["form", "kB"]
    return model, folder


@pytest.mark.parametrize("count", [1, 3, 17])
def test_onnx_answers_as_the_original_for_any_batch(exported: tuple[Model, Path], count: int) -> None:
    model, folder = exported
    read = read_onnx(folder / ONNX)
    assert np.abs(read.probabilities(crops(count)) - model.probabilities(crops(count))).max() < 1e-5
    assert (read.class_names, read.preprocessing, read.framings) == (
        model.class_names,
        model.preprocessing,
        model.framings,
    )
    assert (read.calibration, read.card) == (model.calibration, model.card)


@pytest.mark.parametrize("views", ["flip", "flip_shift"])
def test_views_are_averaged_in_every_form(views: Views, tmp_path: Path) -> None:
    model = tiny_model(preprocessing=COLOUR)
    plain = model.probabilities(crops(3))
    model.set_views(views)
    wanted = model.probabilities(crops(3))
    assert np.abs(wanted - plain).max() > 1e-4
    assert [check.accuracy for check in export(model, tmp_path / "out", None)] == [None, None, None]
    for read in (read_onnx(tmp_path / "out" / ONNX), model_of_folder(tmp_path / "out")):
        assert np.abs(read.probabilities(crops(3)) - wanted).max() < 1e-5
    with pytest.raises(ConfigError, match="the views of .* are part of its file: choose them where it is exported"):
        read_onnx(tmp_path / "out" / ONNX).set_views("none")


def test_int8_is_smaller_and_mostly_agrees(exported: tuple[Model, Path]) -> None:
    model, folder = exported
    read = read_onnx(folder / INT8)
    assert (read.probabilities(crops(64)).argmax(1) == model.probabilities(crops(64)).argmax(1)).mean() >= 0.95
    assert read.class_names == model.class_names
    report = json.loads((folder / "export.json").read_text())
    assert report["forms"][3]["agreement"] >= 0.98
    assert report["images"] == 64


@pytest.mark.parametrize("count", [5, 70])
def test_any_number_of_images_gives_int8_its_ranges(exported: tuple[Model, Path], count: int) -> None:
    model, folder = exported
    small = OnnxBackend(quantized((folder / ONNX).read_bytes(), model.scaled(crops(count))))
    images = model.scaled(crops(64))
    assert (small(images).argmax(1) == model.backend(images).argmax(1)).float().mean() > 0.8


def test_views_are_one_batch_and_int8_keeps_small_probabilities() -> None:
    import onnx

    model = tiny_model(preprocessing=COLOUR)
    kinds = [node.op_type for node in onnx.load_from_string(onnx_bytes(model)).graph.node]
    model.set_views("flip")
    content = onnx_bytes(model)
    assert [node.op_type for node in onnx.load_from_string(content).graph.node].count("Conv") == kinds.count("Conv")
    images = model.scaled(crops(64))
    images[:, :, ::2] *= 4  # so that some probabilities are small
    differences = OnnxBackend(quantized(content, images))(images) - model.backend(images)
    assert differences.abs().max() < 1


def test_convolutions_are_quantized_even_as_the_last_layer() -> None:
    nodes = [("Conv", "first", "image", "a"), ("Conv", "last", "a", "b"), ("Flatten", "flat", "b", "logits")]
    graph = SimpleNamespace(
        node=[SimpleNamespace(op_type=kind, name=name, input=[old], output=[new]) for kind, name, old, new in nodes],
        output=[SimpleNamespace(name="logits")],
    )
    assert _end(graph) == ["flat"]


def test_the_folder_is_a_model_folder(exported: tuple[Model, Path]) -> None:
    model, folder = exported
    assert np.array_equal(model_of_folder(folder).probabilities(crops(4)), model.probabilities(crops(4)))


def test_the_program_needs_no_package_of_ours(exported: tuple[Model, Path]) -> None:
    model, folder = exported
    program = torch.export.load(folder / PROGRAM).module()
    images = model.scaled(crops(5))
    assert torch.allclose(program(images), model.backend(images), atol=1e-5)


def test_a_form_that_differs_is_refused_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    other = onnx_bytes(tiny_model(seed=1))
    monkeypatch.setattr(package, "onnx_bytes", lambda model: other)
    monkeypatch.setattr(package, "program_bytes", lambda model: b"")
    monkeypatch.setattr(package, "ProgramBackend", lambda content: model.backend)
    with pytest.raises(ConfigError, match=r"model\.onnx differs from the original"):
        export(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(ConfigError, match="was not written by fer export"):
        export(tiny_model(), tmp_path)


def test_what_is_no_onnx_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no")
    with pytest.raises(CheckpointError, match=r"a\.onnx: not an ONNX network"):
        read_onnx(tmp_path / "a.onnx")
    import onnx

    proto = onnx.load(write_onnx(tiny_model(), tmp_path / "b.onnx"))
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "b.onnx")
    with pytest.raises(CheckpointError, match="only files of fer export do"):
        read_onnx(tmp_path / "b.onnx")
    with pytest.raises(ConfigError, match="has no PyTorch network"):
        write_onnx(
            Model(OnnxBackend((tmp_path / "b.onnx").read_bytes()), ("a", "b"), COLOUR, tiny_model().card),
            tmp_path / "c.onnx",
        )
