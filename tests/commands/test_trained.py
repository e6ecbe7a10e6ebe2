"""What the verbs on a trained model share."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fer_lightning.commands.trained import Trained, check_classes, note_look, retyped, source_of, steps_shown
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.inference.loading import load_model
from fer_lightning.inference.model_folder import write_model_folder
from fer_lightning.runs.checkpoint import weights_digest
from fer_lightning.runs.looks import LOG, append_look, read_looks
from tests.helpers.cli import fer
from tests.helpers.data import stripes_table
from tests.inference.helpers import tiny_model
from tests.runs.test_looks import LOOK


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_folder(tiny_model(), tmp_path_factory.mktemp("trained") / "model")


@pytest.fixture(scope="module")
def trained(folder: Path) -> Trained:
    model = load_model(folder)
    return Trained(model, model.backend.network, folder / "model.safetensors")  # type: ignore[attr-defined]  # of PyTorch


def test_the_command_is_told_without_what_is_as_usual() -> None:
    assert retyped("fer explain", "a run", None, "--data.root=x") == "fer 'fer explain' 'a run' --data.root=x"
    options: dict[str, Any] = {"out": None, "groups": "", "root": Path("runs"), "images": 0, "seed": 3, "split": "val"}
    assert retyped("embed", "mine", **options) == "fer embed mine --images=0 --seed=3 --split=val"
    assert retyped("embed", "mine", root=Path("else"), out=Path("runs")) == "fer embed mine --root=else --out=runs"


def test_classes_and_their_order_must_be_those_of_the_model() -> None:
    model: Any = SimpleNamespace(class_names=("a", "b"))
    check_classes(model, SimpleNamespace(class_names=["a", "b"]))  # type: ignore[arg-type]
    for names in (("b", "a"), ("a", "b", "c")):
        with pytest.raises(DataError) as caught:
            check_classes(model, SimpleNamespace(class_names=names))  # type: ignore[arg-type]
        assert str(caught.value) == f"the model knows a, b; the data has {', '.join(names)}"


def test_a_look_at_the_test_split_alone_is_noted_where_runs_are(folder: Path, tmp_path: Path) -> None:
    table, weights = stripes_table({"train": 21, "val": 14, "test": 7}), folder / "model.safetensors"
    for split in ("train", "val"):
        note_look("explain", weights, table, split, tmp_path)
    note_look("explain", None, table, "test", tmp_path)
    note_look("explain", Path("model.onnx"), table, "test", tmp_path)
    note_look("explain", weights, table, "test", tmp_path / "none")
    assert not list(tmp_path.iterdir())
    note_look("explain", weights, table, "test", tmp_path)
    (look,) = read_looks(tmp_path)
    assert (look.verb, look.split, look.n, look.fingerprint) == ("explain", "test", 7, table.fingerprint("test"))


def test_a_run_is_found_by_its_name_and_a_path_goes_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "runs/mine/version_2"
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    (tmp_path / "runs/empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert source_of("mine", Path("runs")) == "runs/mine/version_2"
    assert source_of("elsewhere", Path("runs")) == "elsewhere"
    with pytest.raises(ConfigError, match="there is no run 'empty'"):
        source_of("empty", Path("runs"))
    (tmp_path / "mine").mkdir()
    assert source_of("mine", Path("runs")) == "mine"
    monkeypatch.setattr("fer_lightning.commands.trained.released", lambda: {"empty": tmp_path})
    assert source_of("empty", Path("runs")) == "empty"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert source_of("~/mine", Path("runs")) == str(tmp_path / "mine")


def test_random_weights_are_those_of_the_seed_and_leave_the_others_alone(trained: Trained) -> None:
    before, state = trained.weights, torch.get_rng_state()
    first, again, other = trained.untrained(3), trained.untrained(3), trained.untrained(4)
    assert torch.equal(torch.get_rng_state(), state)
    digests = [weights_digest(network.state_dict()) for network in (first, again, other)]
    assert digests[0] == digests[1]
    assert len({*digests, before}) == 3
    assert not first.training
    assert trained.weights == before
    network, what = trained.start(3)
    assert (weights_digest(network.state_dict()), what) == (digests[0], "random weights")
    assert trained.run is None
    made = trained.origin("given", "faces", before="random")
    name = trained.model.card.name
    assert made == {
        "made": {"model": f"{name} ({trained.checkpoint})", "data": "faces", "before": "random"},
        "weights": before,
    }
    run = Trained(trained.model, trained.network, Path("runs/a/version_0/checkpoints/best.ckpt"))
    assert run.run == Path("runs/a/version_0")
    hub = Trained(trained.model, trained.network, None)
    assert (hub.run, hub.origin("me/net", "faces")["made"]["model"]) == (None, f"{name} (me/net)")


def test_weights_that_are_gone_are_told(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trained, "_stored_model", lambda self: {"pretrained": False, "weights": "gone.pth"})
    network, what = trained.start(3)
    assert what.startswith("random weights, because the weights in gone.pth cannot be had (")
    assert weights_digest(network.state_dict()) == weights_digest(trained.untrained(3).state_dict())


def test_steps_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with steps_shown(2) as step:
        step("one")
        step("two")
    assert capsys.readouterr().out == ""


def test_looks_are_listed_with_their_number_repeats_score_and_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "a/version_0"
    for name, weights, settings, accuracy in (
        *(("test", "w0", {"b": "1", "a": "2"}, 0.12345), ("test-0b", "w1", {}, 0.5), ("val", "w0", {}, 0.9)),
    ):
        (run / name).mkdir(parents=True)
        context = {"weights": weights, "settings": settings, "data": {"fingerprints": {"test": "f0" * 8}}}
        report = {"split": name.partition("-")[0], "accuracy": accuracy, "context": context}
        (run / name / "report.json").write_text(json.dumps(report))
    (run / "lineage.json").touch()
    look = replace(LOOK, split="test", fingerprint="f0" * 8, n=12345, time="2026-01-02T10:11:12+0000")
    later = replace(look, weights="w1", settings={})
    for each in (look, later, look, later, replace(look, weights="w2", checkpoint="z.ckpt")):
        append_look(tmp_path, each)
    assert fer("runs", "looks", f"--root={tmp_path}") == 0
    _, *lines, _, end = capsys.readouterr().out.splitlines()
    first = "test f0f0f0f0 12,345 {} {} 2026-01-02 10:11 {} {} {}"
    assert [" ".join(line.split()) for line in lines] == [
        first.format(1, "-", "0.1235", "c.ckpt", "b 1, a 2"),
        first.format(2, "-", "0.5000", "c.ckpt", "-"),
        first.format(1, 1, "0.1235", "c.ckpt", "b 1, a 2"),
        first.format(2, 1, "0.5000", "c.ckpt", "-"),
        first.format(3, "-", "-", "z.ckpt", "b 1, a 2"),
    ]
    assert end == f"{tmp_path / LOG}: 5 lines, none changed or removed"
    assert fer("runs", "looks", f"--root={tmp_path}", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(each["number"], each["repeats"]) for each in listed] == [(1, 0), (2, 0), (1, 1), (2, 1), (3, 0)]
    (tmp_path / LOG).unlink()
    append_look(tmp_path, look)
    assert fer("runs", "looks", f"--root={tmp_path}") == 2
    captured = capsys.readouterr()
    assert f"{tmp_path / LOG} is not as it was written: the look of a/version_0/test-0b is not in it" in captured.err
    assert fer("runs", "looks", f"--root={tmp_path / 'none'}") == 2
    assert f"there is no folder {tmp_path / 'none'}: give the folder of all runs with --root" in capsys.readouterr().err
