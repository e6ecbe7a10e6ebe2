"""What each option of a verb on models and evaluations reaches, and what is used where it is not given."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_lightning.errors import ConfigError
from fer_lightning.evaluation.calibration_place import Wishes
from tests.commands.test_calibrate import COUNTS, run_in
from tests.evaluation.test_calibration import NAMES, validated
from tests.helpers.cli import fer
from tests.helpers.predictions import guessed, write_evaluation
from tests.helpers.spy import Spy

ENOUGH = ConfigError("enough")


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


def of_people(run: Path, split: str = "test") -> Path:
    """Write an evaluation of a run whose images show two ages and three cameras, and return its folder."""
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    groups = {"age": np.array(["old", "young"] * 150), "camera": np.array(["a", "b", "c"] * 100)}
    return write_evaluation(run / split, replace(guessed(0.6, 0), groups=groups, split=split))


def test_audit(spy: Spy, tmp_path: Path) -> None:
    folder = of_people(tmp_path / "mine/version_3")
    spy.on("evaluation.asked.audit", ENOUGH)
    for options, names, drawn in (
        (["--groups=camera"], [("camera",)], (2_000, 0)),
        (["--groups=camera,age", "--shuffles=7", "--seed=5"], [("camera",), ("age",)], (7, 5)),
        (["--groups=camera, ,age,", "--intersect=2"], [("camera",), ("age",), ("camera", "age")], (2_000, 0)),
    ):
        assert fer("audit", str(folder), *options, f"--out={tmp_path / 'out'}") == 2
        predictions, attributes, *rest = spy.calls["audit"][0]
        assert len(predictions.target) == 300
        assert [each.name for each in attributes] == [" x ".join(each) for each in names]
        assert tuple(rest) == drawn


def test_an_audit_says_which_command_made_it_and_of_which_run(tmp_path: Path) -> None:
    of_people(tmp_path / "mine/version_3")
    options = ["--groups=age, camera", "--shuffles=100", "--seed=5", "--split=test", f"--root={tmp_path}"]
    assert fer("audit", "mine", *options) == 0
    found = json.loads((tmp_path / "mine/version_3/audit/audit.json").read_text())
    assert found["command"] == (
        f"fer audit mine --groups=age,camera --intersect=1 --shuffles=100 --seed=5 --split=test --root={tmp_path}"
    )
    assert (found["run"], found["evaluation"]) == ("mine/version_3", str(tmp_path / "mine/version_3/test"))


def test_an_audit_of_no_run_lies_in_the_working_folder(
    spy: Spy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = of_people(tmp_path / "mine/version_3", "val").parent
    moved = of_people(tmp_path / "run", "val").rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    spy.on("commands.places.page_folder", ENOUGH)
    for place, expected in (
        (run / "val", ("audit", None, run, "val")),
        (moved, ("audit", None, None, "")),
        (of_people(run), ("audit", None, run, "")),
    ):
        assert fer("audit", str(place), "--groups=age") == 2
        assert spy.calls["page_folder"][0] == expected


def test_calibrate(spy: Spy, tmp_path: Path) -> None:
    run = run_in(tmp_path / "version_0", validated(400))
    spy.on("evaluation.calibration.calibrate", ENOUGH)
    chosen = ["--kind=vector", "--risk=0.2", "--coverage=0.85", "--seed=4"]
    for options, wishes in (([], Wishes(None, None, 0.9, 0)), (chosen, Wishes("vector", 0.2, 0.85, 4))):
        assert fer("calibrate", str(run), *options) == 2
        predictions, prior, wanted, *_ = spy.calls["calibrate"][0]
        assert (len(predictions.target), wanted) == (400, wishes)
        counts = np.array([COUNTS[name] for name in NAMES])
        np.testing.assert_allclose(np.exp(np.asarray(prior)), counts / counts.sum(), rtol=1e-5)
    assert not (run / "calibration.json").exists()


def test_compare(spy: Spy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [of_people(tmp_path / name / "version_0") for name in ("a", "b")]
    monkeypatch.chdir(tmp_path)
    spy.on("evaluation.asked.comparison", ENOUGH)
    for options, seed in (([], 0), (["--seed=6"], 6)):
        assert fer("compare", *map(str, places), *options) == 2
        (evaluations,), given = spy.calls["comparison"]
        assert given == {"seed": seed}
        assert [each.name for each in evaluations] == ["a", "b"]
        assert [each.again for each in evaluations] == [f"fer test --ckpt_path {place.parent}" for place in places]
    assert fer("compare", str(places[0])) == 2
    assert fer("compare") == 2


@pytest.mark.parametrize(
    ("options", "drawn", "detectors"),
    [([], (500, 0), ()), (["--images=33", "--seed=7", "--detector=haar"], (33, 7), ("haar",))],
)
def test_framing(
    options: list[str], drawn: tuple[int, ...], detectors: tuple[str, ...], spy: Spy, tmp_path: Path
) -> None:
    stripes = "--data=tests.helpers.data.StripesDataModule"
    spy.on("inference.faces.choice.detectors_named", {"haar": None})
    spy.on("inference.measuring.training_sample", np.zeros((21, 8, 8, 3), np.uint8))
    spy.on("inference.measuring.measure_framings", ({"haar": "framing"}, {"haar": 20}))
    spy.on("inference.framing.write_framing", ENOUGH)
    spy.on("commands.framing._lines", [])
    assert fer("data", "framing", stripes, f"--out={tmp_path / 'out'}", *options) == 2
    assert spy.calls["training_sample"][0][1:] == drawn
    assert spy.calls["detectors_named"][0] == (detectors,)
    assert spy.options("measure_framings") == {"progress": True}
    assert spy.calls["write_framing"] == (
        (tmp_path / "out", {"haar": "framing"}),
        {"data": "StripesDataModule", "images": 21, "found": {"haar": 20}, "seed": drawn[1]},
    )


def test_card(spy: Spy, tmp_path: Path) -> None:
    spy.on("inference.facts.model_with_facts", ENOUGH)
    root = tmp_path / "runs"
    chosen = ["--licence=mit", "--groups=age, camera,", f"--root={root}"]
    given: list[tuple[list[str], tuple[Any, ...], str]] = [
        ([], ("fer2013-a", Path("runs"), None), ""),
        (chosen, ("fer2013-a", root, ["age", "camera"]), "mit"),
    ]
    for options, expected, licence in given:
        assert fer("card", "fer2013-a", *options) == 2
        assert spy.calls["model_with_facts"] == (expected, {"licence": licence})


@pytest.mark.parametrize("found", ["none", "some"])
def test_models_that_come_with_the_package_are_listed(
    found: str, spy: Spy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {
        "class_names": ["sad", "happy", "fear"],
        "preprocessing": {"channels": 1, "image_size": 64},
        "metrics": {"val": {"accuracy": 0.6667, "n": 7, "f1": 0.5}, "test": {"accuracy": 0.25}},
    }
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "model.safetensors").write_bytes(bytes(1_234_567))
    names = {} if found == "none" else {"fer2013-a": tmp_path, "other": tmp_path}
    spy.on("runs.model_folder.released", names)
    spy.on("inference.faces.model_files.blazeface_file", None)
    assert fer("models", "list") == 0
    scores = "val: accuracy 66.67%, f1 50.00%; test: accuracy 25.00%"
    shown = ["no model comes with this installation"]
    if found == "some":
        shown = [
            "model                classes    input     kB  scores",
            f"fer2013-a (default)        3  1x64x64  1,235  {scores}",
            f"other                      3  1x64x64  1,235  {scores}",
        ]
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in lines[:-2]] == [" ".join(line.split()) for line in shown]
    assert [line.split(":")[0] for line in lines[-2:]] == [
        "detector BlazeFace full range",
        "detector BlazeFace short range",
    ]
    assert all("not here, fetch it: fer models fetch blazeface" in line for line in lines[-2:])
