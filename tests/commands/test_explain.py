"""``fer explain``: what it writes, where the truth is known and where it is not, and what it refuses."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from fer_lightning.inference.model_folder import write_model_folder
from fer_lightning.runs.looks import read_looks
from tests.helpers.cli import fer
from tests.helpers.html import PageText
from tests.inference.helpers import tiny_model

DRAWN = ["--data", "SketchDataModule", "--data.train=7", "--data.val=70", "--data.test=7"]


@pytest.fixture(scope="module")
def run(whole_run: Callable[..., Path]) -> Path:
    return whole_run(epochs=1)


def test_a_run_is_explained_on_its_own_data(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert fer("explain", str(run), f"--out={out}", "--images=21", "--shown=2") == 0
    found = json.loads((out / "explain.json").read_text())
    assert (found["images"], [each["images"] for each in found["classes"]]) == (21, [3] * 7)
    assert found["right"] == sum(each["right"] for each in found["classes"])
    assert found["pointing"]["faces"] == "drawn"
    assert 0 < found["pointing"]["images"] < 300
    assert found["parts"] is None
    assert found["covering"]["fill"] == "blur"
    assert [order["name"] for order in found["covering"]["orders"]][-3:] == ["edges", "centre", "random"]
    assert found["randomisation"][0]["stage"] == "head"
    printed = capsys.readouterr().out
    drawn = shlex.join(["fer", "explain", str(run), "--data", "SketchDataModule", "--out", f"{out}_drawn"])
    assert f"More on drawn faces:\n{drawn}\n" in printed
    assert printed.rstrip().endswith(f"report       {out / 'index.html'}")
    page = (out / "index.html").read_text()
    assert drawn in PageText(page).words
    for foreign in ("http://", "https://", "<script"):
        assert foreign not in page.replace("http://www.w3.org/", "")  # the names of SVG's own elements
    assert page.count('src="data:image/webp;base64,') == page.count("<img")
    for name in ("class_happy.png", "samples.png" if found["right"] else "class_sad.png"):
        with Image.open(out / name) as picture:
            assert picture.width > 200
    assert (out / "means.svg").read_text().startswith("<svg")


def test_on_drawn_faces_the_truth_is_known(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("explain", str(run), *DRAWN, f"--out={tmp_path}", "--images=70", "--shown=1") == 0
    found = json.loads((tmp_path / "explain.json").read_text())
    assert found["covering"]["fill"] == "resting face"
    assert found["covering"]["orders"][-1]["name"] == "truth"
    pointing = found["pointing"]
    moving = sum(each["right"] for each in found["classes"] if each["class"] != "neutral")
    assert (pointing["faces"], pointing["images"]) == ("own", moving)
    assert moving > 0
    ways = {way["name"]: way for way in pointing["ways"]}
    assert {"edges", "centre", "any pixel"} < set(ways)
    assert pointing["area"] < pointing["area_widened"] == ways["any pixel"]["share"]
    assert [each["class"] for each in found["parts"]] == [
        each["class"] for each in found["classes"] if each["right"] and each["class"] != "neutral"
    ]
    assert "points at what moved on" in capsys.readouterr().out


def test_a_model_folder_needs_its_data_named_and_classes_can_be_chosen(run: Path, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        model = tiny_model()
    folder, data = write_model_folder(model, tmp_path / "model"), ["--data.train=7", "--data.val=7", "--data.test=14"]
    words = [
        "explain",
        str(folder),
        "--data",
        "SketchDataModule",
        *data,
        "--classes=joy, sad",
        "--split=test",
        "--shown=1",
        f"--root={tmp_path}",
    ]
    for out in ("first", "second"):
        assert fer(*words, "--classes=joy, sad", f"--out={tmp_path / out}") == 0
    first, second = (json.loads((tmp_path / out / "explain.json").read_text()) for out in ("first", "second"))
    assert {each["class"] for each in first["classes"] if each["images"]} == {"happy", "sad"}
    assert {**first, "command": ""} == {**second, "command": ""}
    looks = read_looks(tmp_path)
    assert [(look.verb, look.split, look.n) for look in looks] == [("explain", "test", 14)] * 2
    assert looks[0].checkpoint == "model/model.safetensors"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there is no folder nowhere|there is no checkpoint nowhere"),
        (["RUN", "--classes=happi"], "there is no class 'happi'; did you mean 'happy'? (known: angry,"),
        (
            ["RUN", "--split=test", "--data.test=0"],
            "the data has no image in its split 'test'; splits with images: train, val",
        ),
        (["RUN", "--images=0"], "--images must be at least 1, not 0"),
        (["RUN", "--shown=0"], "--shown must be at least 1, not 0"),
        (["RUN", "--data=SketchDataModule", "--data.sise=3"], "sise"),
        (["RUN", "missing"], "missing does not exist"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], message: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert fer("explain", *(str(run) if word == "RUN" else word for word in words), f"--out={out}") == 2
    said = capsys.readouterr().err
    assert any(each in said for each in message.split("|"))
    assert said.count("\n") == 1
    assert not out.exists()


def test_other_classes_are_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    for name in ("angry", "sad"):
        (data / "val" / name).mkdir(parents=True)
        Image.new("L", (16, 16), 90).save(data / "val" / name / "a.png")
    assert fer("explain", str(run), str(data), f"--out={tmp_path / 'out'}", "--data.class_names=[angry, sad]") == 2
    assert "the model knows angry, disgust, fear, happy, sad" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_maps_of_a_trained_network_hit_what_moved(tmp_path: Path) -> None:
    quickstart = [
        "--config=configs/quickstart.yaml",
        "--trainer.max_epochs=4",
        f"--trainer.default_root_dir={tmp_path}",
    ]
    assert fer("fit", *quickstart, "--trainer.precision=32-true", "--trainer.enable_progress_bar=false") == 0
    assert fer("explain", str(tmp_path / "quickstart/version_0"), f"--out={tmp_path / 'out'}") == 0
    pointing = json.loads((tmp_path / "out/explain.json").read_text())["pointing"]
    shares = {way["name"]: way["share"] for way in pointing["ways"]}
    assert pointing["passed"]
    assert shares["LayerCAM 24x24"] >= 0.85
    assert shares["LayerCAM 24x24, random weights"] <= 0.4
    assert max(shares["edges"], shares["centre"]) < 0.85
