from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.inference.framing import Framing
from fer_lightning.inference.loading import checkpoint_of, load_model
from fer_lightning.inference.model import Card
from fer_lightning.inference.model_folder import add_framings, model_of_folder, write_model_folder
from fer_lightning.models.task import EmotionTask
from fer_lightning.runs.model_folder import CONFIG, WEIGHTS, is_model_folder
from tests.helpers.cli import QUICK, fer, fit
from tests.inference.helpers import CALIBRATION, tiny_model


def test_a_folder_gives_the_same_answers(tmp_path: Path) -> None:
    model = tiny_model()
    model.framings, model.calibration = {"haar": Framing(0.8, 0.5, 0.6, None, None, 90, 100)}, CALIBRATION
    read = model_of_folder(write_model_folder(model, tmp_path / "model"))
    crops = torch.randint(0, 256, (5, 3, 60, 70), dtype=torch.uint8)
    assert np.array_equal(model.probabilities(crops), read.probabilities(crops))
    assert (read.framings, read.calibration, read.card) == (model.framings, model.calibration, model.card)
    assert (read.class_names, read.preprocessing, read.scheme) == (model.class_names, model.preprocessing, "fer7")
    assert is_model_folder(tmp_path / "model")
    assert not is_model_folder(tmp_path)
    add_framings(tmp_path / "model", {"haar": Framing(0.7, 0.4, 0.5), "other": Framing(0.9, 0.5, 0.5)})
    found = model_of_folder(tmp_path / "model").framings
    assert {name: framing.size for name, framing in found.items()} == {"haar": 0.7, "other": 0.9}


def test_a_checkpoint_gives_what_its_task_gives(whole_run: Callable[..., Path], tmp_path: Path) -> None:
    run = whole_run("--model.tau=0.7")
    model = load_model(run)
    task = EmotionTask.load_from_checkpoint(run / "checkpoints/best.ckpt").eval()
    images = torch.rand(6, task.preprocessing["channels"], *[task.preprocessing["image_size"]] * 2)
    from fer_lightning.preprocessing import normalised

    with torch.inference_mode():
        wanted = task(normalised(images, task.preprocessing["mean"], task.preprocessing["std"]))
    assert torch.equal(model.backend(images), wanted)
    root = run.parents[1]
    assert model.card.name == load_model("whole", root).card.name == "whole/version_0"
    assert load_model("best", root).card.name == load_model("last", root).card.name == "whole/version_0"
    assert checkpoint_of("whole", root) == run / "checkpoints/best.ckpt"
    assert model.card.training["code"] == json.loads((run / "lineage.json").read_text())["nodes"][-1]["code"]
    assert model.card.training["code"]["package"]
    lineage = json.loads((run / "lineage.json").read_text())
    lineage["nodes"].append({**lineage["nodes"][-1], "code": {"package": "later"}})
    (run / "lineage.json").write_text(json.dumps(lineage))
    assert load_model(run).card.training["code"] == {"package": "later"}
    with pytest.raises(ConfigError, match=r"needs the class .*TinyBackbone"):
        model_of_folder(write_model_folder(model, tmp_path / "own"))


def changed(folder: Path, **values: object) -> Path:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **values}))
    return folder


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    folder = write_model_folder(tiny_model(), tmp_path / "model")
    weights = load_file(folder / WEIGHTS)
    save_file({name: value + 1 for name, value in weights.items()}, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="is not the file that"):
        model_of_folder(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="holds no"):
        model_of_folder(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schema": 2}, "later version"),
        ({"format": "timm"}, "not of a model of this package"),
        ({"preprocessing": {"image_size": 48}}, "preprocessing .* is damaged"),
        ({"architecture": {"backbone": "fer_b"}}, "names no backbone and head"),
        (
            {"architecture": {"backbone": "fer_b", "backbone_args": {}, "head": {"class_path": "os.system"}}},
            "os.system",
        ),
        (
            {
                "architecture": {
                    "backbone": "fer_a",
                    "backbone_args": {},
                    "head": {"class_path": "fer_lightning.models.heads.LinearHead"},
                }
            },
            "does not fit",
        ),
    ],
)
def test_a_wrong_config_is_refused(tmp_path: Path, values: dict[str, object], message: str) -> None:
    folder = changed(write_model_folder(tiny_model(), tmp_path / "model"), **values)
    with pytest.raises((CheckpointError, ConfigError), match=message):
        model_of_folder(folder)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="a file of weights alone"):
        load_model(tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_model(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="there is no run 'empty' in"):
        load_model("empty", tmp_path)


def test_a_folder_is_evaluated_as_its_checkpoint_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = json.dumps({"stem": [4, 4], "stages": [[4, 1], [8, 1], [8, 1]]})
    options = ("--model.backbone=fer_b_fast", f"--model.backbone_args={network}", "--data.image_size=32")
    assert fit(tmp_path, *options, epochs=1) == 0
    run = tmp_path / "tiny/version_0"
    folder = write_model_folder(load_model(run), tmp_path / "model")
    data = ("--data=tests.helpers.data.StripesDataModule", f"--trainer.default_root_dir={tmp_path / 'own'}")
    assert fer("test", f"--ckpt_path={run}", "--trainer.precision=32-true", *QUICK) == 0
    assert fer("test", f"--ckpt_path={folder}", *data, *QUICK) == 0
    reports = [run / "test/report.json", tmp_path / "own/default/version_0/report.json"]
    first, second = (json.loads(path.read_text()) for path in reports)
    assert first["confusion_matrix"] == second["confusion_matrix"]
    assert first["ece"] == second["ece"]
    capsys.readouterr()
    assert fer("fit", f"--ckpt_path={folder}", *data) == 2
    assert f"without the state of its training: --model.weights {folder}" in capsys.readouterr().err
    assert fit(tmp_path, *options, f"--model.weights={folder}", name="again", epochs=1) == 0


def test_a_released_model_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_lightning.runs.model_folder.shipped", lambda folder: tmp_path / folder)
    with pytest.raises(CheckpointError, match="no released model comes with this installation"):
        load_model()
    with pytest.raises(CheckpointError, match="there is no checkpoint fer2013-a; there is no checkpoint under"):
        load_model("fer2013-a", root=tmp_path)
    write_model_folder(tiny_model("a"), tmp_path / "checkpoints/fer2013-a")
    write_model_folder(tiny_model("b", seed=1), tmp_path / "checkpoints/fer2013-b")
    assert load_model().card.name == load_model("fer2013-a").card.name == "a"
    assert load_model("fer2013-b").card.name == "b"
    with pytest.raises(CheckpointError, match="models that come with the package: fer2013-a, fer2013-b"):
        load_model("fer2013-c", root=tmp_path)


def test_a_model_of_the_hub_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None, bool]] = []

    def fetched(name: str, *, revision: str | None, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append((name, revision, local_files_only))
        if local_files_only:
            raise FileNotFoundError("nothing in the cache")
        return str(write_model_folder(tiny_model("hub"), tmp_path / "cache"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    assert load_model("someone/faces@v2").card.name == "hub"
    with pytest.raises(CheckpointError, match="no model someone/faces among the models fetched before: nothing in"):
        load_model("someone/faces", offline=True)
    assert asked == [("someone/faces", "v2", False), ("someone/faces", None, True)]


def test_the_card_says_what_is_known(tmp_path: Path) -> None:
    model = tiny_model("mine")
    scores = {"n": 1234, "accuracy": 0.5, "accuracy_ci95": [0.45, 0.55], "f1_macro": 0.4, "ece": 0.03}
    model.card = Card("mine", {"data": "faces", "seed": 3}, {"val": scores}, "research only")
    text = (write_model_folder(model, tmp_path) / "README.md").read_text()
    count = sum(weights.numel() for weights in load_file(tmp_path / WEIGHTS).values() if weights.ndim != 0)
    assert "from gray face crops of 48x48 pixels" in text
    assert "| val | 1,234 | 50.0% | 45.0% to 55.0% | 40.0% | - | 3.0% |" in text
    assert "- read by `faces`\n" in text
    assert "- seed 3\n" in text
    assert text.endswith("## Licence\n\nresearch only\n")
    assert 0 < int(text.split(" parameters")[0].split()[-1].replace(",", "")) <= count
