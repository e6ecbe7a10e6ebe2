"""Several models as one: the mean of their probabilities."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fer_lightning.errors import CheckpointError
from fer_lightning.evaluation.predictions import PREDICTIONS, read_predictions
from fer_lightning.inference.loading import load_model
from fer_lightning.inference.model import TorchBackend
from fer_lightning.runs.checkpoint import TASK_KEY, read_checkpoint, weights_digest
from fer_lightning.runs.looks import read_looks
from fer_lightning.runs.model_folder import CARD
from fer_lightning.runs.trained_on import joined, read_trained_on
from tests.helpers.cli import QUICK, fer, fit

SMALL = json.dumps({"stem": [4, 4], "stages": [[4, 1], [8, 1], [8, 1]]})
NETWORK = ("--model.backbone=fer_b_fast", f"--model.backbone_args={SMALL}")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs with three members: two alike, and one of larger images and other mean and std."""
    root = tmp_path_factory.mktemp("runs")
    for seed, more in enumerate(((), ("--model.views=flip",), ("--data.image_size=40", "--data.mean=[0.2]"))):
        size = [] if any("image_size" in each for each in more) else ["--data.image_size=32"]
        assert fit(root, *NETWORK, f"--seed_everything={seed}", *size, *more, name=f"m{seed}", epochs=1) == 0
    return root


def member(root: Path, number: int) -> Path:
    return root / f"m{number}/version_0"


def test_an_evaluation_averages_probabilities_and_is_one_of_its_own(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single = []
    for number in (0, 1):
        assert fer("test", f"--ckpt_path={member(root, number)}", *QUICK) == 0
        single.append(read_predictions(member(root, number) / "test" / PREDICTIONS))
    before = {path: path.read_bytes() for path in root.glob("m*/version_0/test/*.csv")}
    own = f"--trainer.default_root_dir={root}"
    assert fer("test", f"--ckpt_path={member(root, 0)},{member(root, 1)}", own, *QUICK) == 0
    assert fer("test", f"--ckpt_path=[{member(root, 1)}, {member(root, 0)}]", own, *QUICK) == 0
    assert {path: path.read_bytes() for path in root.glob("m*/version_0/test/*.csv")} == before
    tables = [read_predictions(root / f"ensemble/version_{number}" / PREDICTIONS) for number in (0, 1)]
    assert np.allclose(tables[0].probs, np.mean([each.probs for each in single], axis=0), atol=2e-6)
    assert np.array_equal(tables[0].probs, tables[1].probs)
    looks = read_looks(root)
    assert len({look.weights for look in looks}) == 3  # the order of the members makes no other look
    assert {Path(name).parts[0] for name in looks[-1].checkpoint.split(",")} == {"m0", "m1"}
    assert len(looks[-1].sha256) == 64
    report = json.loads((root / "ensemble/version_0/report.json").read_text())
    assert report["context"]["weights"] == looks[-1].weights
    assert report["context"]["settings"] == {}
    assert report["context"]["checkpoint"].count("/checkpoints/best.ckpt") == 2
    assert "changed against the checkpoint: model" not in capsys.readouterr().out


def test_members_may_want_other_images(root: Path) -> None:
    both = [member(root, number) for number in (0, 2)]
    model, single = load_model(both), [load_model(each) for each in both]
    faces = torch.rand(4, 1, 32, 32)
    larger = torch.nn.functional.interpolate(faces, (40, 40), mode="bilinear", align_corners=False)
    wanted = [each.backend(images).softmax(dim=1) for each, images in zip(single, (faces, larger), strict=True)]
    assert torch.allclose(model.backend(faces).softmax(dim=1), torch.stack(wanted).mean(dim=0), atol=1e-6)
    assert model.preprocessing["image_size"] == 32
    assert load_model(both[::-1]).preprocessing["image_size"] == 40
    assert model.trained_on is not None
    known = joined(record for run in both if (record := read_trained_on(run / "checkpoints/best.ckpt")) is not None)
    assert np.array_equal(model.trained_on.train, known.train)
    assert len(known.train)


def test_classes_are_averaged_by_name(root: Path, tmp_path: Path) -> None:
    content = read_checkpoint(member(root, 0) / "checkpoints/best.ckpt")
    names = content[TASK_KEY]["class_names"]
    content[TASK_KEY] = {**content[TASK_KEY], "class_names": names[::-1]}
    of_head = [name for name in content["state_dict"] if "head" in name]
    content["state_dict"] |= {name: content["state_dict"][name].flip(0) for name in of_head}
    torch.save(content, tmp_path / "turned.ckpt")
    faces = torch.rand(4, 1, 32, 32)
    alone = load_model(member(root, 0)).backend(faces).softmax(dim=1)
    both = load_model([member(root, 0), tmp_path / "turned.ckpt"])
    assert list(both.class_names) == list(names)
    assert torch.allclose(both.backend(faces).softmax(dim=1), alone, atol=1e-6)


def test_a_pattern_becomes_one_model_folder_with_the_same_answers(root: Path, tmp_path: Path) -> None:
    out, pattern = tmp_path / "both", f"{root}/m[01]/version_0"
    model = load_model(pattern)
    assert model.architecture is not None
    assert model.architecture.get("views", "none") == "none"  # one of them looks at mirror images, too
    assert fer("export", *map(str, sorted(root.glob("m[01]/version_0"))), f"--out={out}", "--pt2=false") == 0
    folder, onnx = load_model(out), load_model(out / "model.onnx")
    faces = torch.rand(4, 1, 32, 32)
    assert torch.equal(folder.backend(faces), model.backend(faces))
    assert torch.allclose(onnx.backend(faces).softmax(1), model.backend(faces).softmax(1), atol=1e-5)
    card = (out / CARD).read_text()
    assert "- averages `m0/version_0/checkpoints/best.ckpt`, SHA-256" in card
    data = ("--data=tests.helpers.data.StripesDataModule", f"--trainer.default_root_dir={tmp_path}")
    assert fer("test", f"--ckpt_path={out}", *data, *QUICK) == 0
    assert isinstance(model.backend, TorchBackend)
    report = json.loads((tmp_path / "default/version_0/report.json").read_text())
    assert report["context"]["weights"] == weights_digest(model.backend.network.state_dict())


def test_what_cannot_be_averaged_is_refused(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = f"{member(root, 0)},{member(root, 1)}"

    def refused(*args: str) -> str:
        assert fer(*args) == 2
        return capsys.readouterr().err

    assert f"--model.teacher '[{both}]'" in refused("fit", f"--ckpt_path={both}")
    assert "has the same weights as" in refused("test", f"--ckpt_path={member(root, 0)},{member(root, 0)}")
    assert f"no model is there: {root}/x*" in refused("test", f"--ckpt_path={root}/x*")
    assert f"there is no checkpoint {root}/x" in refused("test", f"--ckpt_path={member(root, 0)},{root}/x")
    own = "--model.backbone=tests.helpers.parts.TinyBackbone"
    assert fit(tmp_path, own, "--data.image_size=32", epochs=1) == 0
    message = refused("predict", f"--ckpt_path={member(root, 0)},{tmp_path}/tiny/version_0")
    assert "best.ckpt cannot be a member of an ensemble: the network needs the class" in message
    (tmp_path / "m.onnx").touch()
    with pytest.raises(CheckpointError, match=r"m\.onnx cannot be averaged with others"):
        load_model([member(root, 0), tmp_path / "m.onnx"])
