from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fer_lightning.commands.trained import find_trained
from tests.helpers.cli import fer
from tests.helpers.html import PageText
from tests.helpers.parts import TinyBackbone


@pytest.fixture(scope="module")
def run(whole_run: Callable[..., Path]) -> Path:
    return whole_run(epochs=2)


def test_features_are_mapped_before_and_after(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert fer("embed", str(run), f"--out={out}", "--data.val=56") == 0
    found = json.loads((out / "embed.json").read_text())
    assert found["images"] == 56
    assert found["start"] == "random weights"
    assert set(found["scores"]) == {"pixels", "before training", "after training"}
    with (out / "places.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 56
    assert {"file", "class", "predicted", "before_x", "after_y"} <= rows[0].keys()
    page = (out / "index.html").read_text()
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert found["verdicts"][0] in PageText(page).words
    assert (out / "class_before.svg").read_text().startswith("<svg")
    assert (out / "projector/projector_config.pbtxt").is_file()
    assert f"projector    tensorboard --logdir {out / 'projector'}" in capsys.readouterr().out


def test_groups_of_drawn_faces_are_colours_too(run: Path, tmp_path: Path) -> None:
    drawn = ["--data", "SketchDataModule", "--data.train=7", "--data.val=35", "--data.test=7"]
    assert fer("embed", str(run), *drawn, f"--out={tmp_path}", "--groups=glasses") == 0
    found = json.loads((tmp_path / "embed.json").read_text())
    assert list(found["scores"]["pixels"]) == ["class", "glasses"]
    assert (tmp_path / "glasses_after.svg").is_file()


def test_before_training_stand_the_weights_that_it_began_with(whole_run: Callable[..., Path], tmp_path: Path) -> None:
    torch.manual_seed(5)
    backbone, file = TinyBackbone(), tmp_path / "start.safetensors"
    save_file(dict(backbone.state_dict()), file)
    run = whole_run(f"--model.weights={file}", epochs=1)
    network, what = find_trained("fer embed", str(run), tmp_path).start(0)
    assert what == f"the weights in {file}"
    assert all(torch.equal(network.backbone.state_dict()[name], value) for name, value in backbone.state_dict().items())
    file.unlink()
    network, what = find_trained("fer embed", str(run), tmp_path).start(0)
    assert what.startswith(f"random weights, because the weights in {file} cannot be had (")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images=0"], "--images must be at least 1, not 0"),
        (["--images=3"], "t-SNE of 3 images: expected at least 5"),
        (["--groups=gender"], "there is no column 'gender' (columns with groups: none)"),
        (["--split=test", "--data.test=0"], "no image in its split 'test'"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], message: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fer("embed", str(run), *words, f"--out={tmp_path / 'out'}") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
