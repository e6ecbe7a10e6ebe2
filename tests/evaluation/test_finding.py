"""Which evaluation a word on the command line stands for."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.evaluation.finding import evaluated_model, find_evaluations, seen_notes
from fer_lightning.evaluation.predictions import Predictions, write_predictions
from tests.helpers.predictions import guessed, write_evaluation

TEST = guessed(0.7, 0, 20)
VAL = replace(TEST, split="val")


def run_with(folder: Path, **evaluations: Predictions) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints/best.ckpt").write_bytes(b"")
    for name, predictions in evaluations.items():
        write_evaluation(folder / name, predictions)
    return folder


def model_folder(folder: Path, class_names: tuple[str, ...] = SEVEN.class_names) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").touch()
    values = {"format": "fer_lightning", "architecture": {"backbone": "", "head": ""}, "class_names": class_names}
    values |= {"preprocessing": {}, "sha256": {}, "name": "m", "training": {"data": "fer_lightning.data.FERPlusData"}}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def test_folders_files_runs_and_names_are_found(tmp_path: Path) -> None:
    run = run_with(tmp_path / "runs/mine/version_0", test=TEST, val=VAL)
    other = run_with(tmp_path / "runs/other/version_1", test=TEST)
    words = [
        str(run / "test"),
        str(run / "val/predictions.csv"),
        str(other),
        "mine",
        str(run / "checkpoints/best.ckpt"),
    ]
    for word, table in zip(words, [run / "test", run / "val", other / "test", run / "test", run / "test"], strict=True):
        [found] = find_evaluations([word], root=tmp_path / "runs")
        assert found.table == table / "predictions.csv"
        assert found.name == str(found.owner) == str(table.parent)
        assert found.split == table.name
    [found] = find_evaluations([str(run)], "val")
    assert (found.table.parent, found.again) == (run / "val", f"fer validate --ckpt_path {run}")


def test_the_split_is_one_that_all_have(tmp_path: Path) -> None:
    one = run_with(tmp_path / "one/version_0", test=TEST, val=VAL)
    two = run_with(tmp_path / "two/version_0", val=VAL)
    assert [each.split for each in find_evaluations([str(one), str(two)])] == ["val", "val"]
    with pytest.raises(ConfigError, match=f"{two} has an evaluation of val only: run fer test --ckpt_path {two}"):
        find_evaluations([str(one), str(two)], "test")
    empty = run_with(tmp_path / "three/version_0")
    with pytest.raises(ConfigError, match=f"{empty} has no evaluation yet: run fer validate --ckpt_path {empty}"):
        find_evaluations([str(two), str(empty)])
    with pytest.raises(ConfigError, match=f"{empty} has no evaluation yet: run fer test --ckpt_path {empty}"):
        find_evaluations([str(empty)])


def test_the_newest_evaluation_of_a_run_is_taken(tmp_path: Path) -> None:
    run = run_with(tmp_path / "one/version_0", val=VAL, validate=VAL)
    for name, time in (("val", 2_000), ("validate", 1_000)):
        os.utime(run / name / "predictions.csv", (time, time))
    write_predictions(run / "predict/predictions.csv", replace(VAL, known=False))  # without a report
    assert find_evaluations([str(run)])[0].table.parent.name == "val"
    os.utime(run / "validate/predictions.csv", (3_000, 3_000))
    assert find_evaluations([str(run)])[0].table.parent.name == "validate"


def test_names_tell_evaluations_apart_or_are_given(tmp_path: Path) -> None:
    folders = [run_with(tmp_path / f"{name}/seed0/version_0", test=TEST) for name in ("a", "b")]
    words = [str(folder) for folder in folders]
    assert [each.name for each in find_evaluations(words)] == ["a", "b"]
    assert [each.name for each in find_evaluations([f"plain={words[0]}", words[1]])] == ["plain", "b"]
    assert [each.name for each in find_evaluations([words[0], f"{words[1]}/test"])] == ["a", "b"]
    other = run_with(tmp_path / "c/seed0/version_0", validate=TEST)
    assert [each.name for each in find_evaluations([words[0], str(other)])] == ["a", "c"]
    with pytest.raises(ConfigError, match="test is given twice"):
        find_evaluations([words[0], f"{words[0]}/test"])
    write_evaluation(folders[0] / "test-0123abcd", TEST)
    alike = [f"{words[0]}/test", f"{words[0]}/test-0123abcd"]
    assert [each.name for each in find_evaluations(alike)] == ["test", "test-0123abcd"]
    odd = write_evaluation(tmp_path / "x=y", TEST)
    assert find_evaluations([str(odd)])[0].table.parent == odd


def test_the_evaluation_of_a_model_folder_is_the_run_that_names_it(tmp_path: Path) -> None:
    model, runs = model_folder(tmp_path / "exported"), tmp_path / "runs"
    write_evaluation(runs / "default/version_0", TEST, checkpoint=str(tmp_path / "other/model.safetensors"))
    with pytest.raises(ConfigError, match=f"{model} has no evaluation yet: .* fer test --ckpt_path {model} --data"):
        find_evaluations([str(model)], root=runs)
    own = write_evaluation(runs / "default/version_1", TEST, checkpoint=str(model / "model.safetensors"))
    for word in (model, model / "model.safetensors"):
        assert find_evaluations([str(word)], root=runs)[0].table.parent == own


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere/version_0 does not exist; expected the folder of an evaluation"):
        find_evaluations([str(tmp_path / "nowhere/version_0")])
    run_with(tmp_path / "runs/mine/version_0")
    with pytest.raises(ConfigError, match="there is no run 'mien' in .*; there is mine"):
        find_evaluations(["mien"], root=tmp_path / "runs")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match=r"notes.txt is no evaluation: give the folder of a run"):
        find_evaluations([str(tmp_path / "notes.txt")])
    folder = write_evaluation(tmp_path / "damaged", TEST)
    (folder / "report.json").write_text("{")
    with pytest.raises(DataError, match=r"damaged/report.json is damaged"):
        find_evaluations([str(folder)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "is no report of an evaluation"),
        ('{"context": 5}', "is damaged: 'context' is no JSON object"),
        ('{"context": {"data": [1]}}', "is damaged: 'data' is no JSON object"),
        ('{"context": {"data": {"fingerprints": 3}}}', "is damaged: 'fingerprints' is no JSON object"),
        ('{"seen": 3}', "is damaged: 'seen' is no JSON object"),
        ('{"seen": {"train": "x"}}', "is damaged: seen.train is 'x', not a number of images"),
        ('{"seen": {"val": 3}}', "is damaged: seen.train is 'None', not a number of images"),
    ],
)
def test_reports_of_another_shape_are_refused(tmp_path: Path, text: str, message: str) -> None:
    folder = write_evaluation(tmp_path / "edited", TEST)
    (folder / "report.json").write_text(text)
    with pytest.raises(DataError, match=message):
        find_evaluations([str(folder)])


def test_an_evaluation_with_other_settings_is_taken_only_if_it_is_named(tmp_path: Path) -> None:
    run = run_with(tmp_path / "one/version_0", test=TEST)
    other = write_evaluation(run / "test-0123abcd", TEST, settings={"model.tau": "0.5"})
    os.utime(run / "test/predictions.csv", (1_000, 1_000))
    assert find_evaluations([str(run)])[0].table.parent == run / "test"
    assert find_evaluations([str(other)])[0].owner == run


def test_models_that_have_seen_the_images_are_named(tmp_path: Path) -> None:
    def evaluation(name: str, split: str = "test", **seen: Any) -> str:
        folder = write_evaluation(tmp_path / name, replace(TEST, split=split), overlap_with_train=12)
        if seen:
            report = json.loads((folder / "report.json").read_text())
            (folder / "report.json").write_text(json.dumps({**report, "seen": {"unknown": [], **seen}}))
        return str(folder)

    write_predictions(tmp_path / "bare/predictions.csv", TEST)
    without = {"n": 5, "accuracy": 0.625, "f1_macro": None}
    words = [
        *(evaluation("a"), evaluation("b")),
        *(
            evaluation("clean", train=0, val=0, without=without),
            evaluation("val", "val", train=0, val=20, without=without),
        ),
        evaluation("both", train=3, val=12, without=without),
        evaluation("old", train=None, val=None, unknown=["it is old"], without=None),
        str(tmp_path / "bare"),
    ]
    assert seen_notes(find_evaluations(words)) == [
        "a and b: trained on 12 of these images",
        "both: trained on 3 of these images and chosen by 12 more; accuracy without them 62.50%",
        "old: whether some of these images were trained on is not known: it is old",
        "bare: no report tells whether these images were trained on",
    ]


def test_a_run_beside_a_plain_folder_is_called_by_its_own_name(tmp_path: Path) -> None:
    run, plain = run_with(tmp_path / "runs/mine/version_0", test=TEST), write_evaluation(tmp_path / "copy", TEST)
    assert [each.name for each in find_evaluations([str(run), str(plain)])] == ["mine", "copy"]
    later = run_with(tmp_path / "runs/mine/version_1", test=TEST)
    assert [each.name for each in find_evaluations([str(run), str(later)])] == ["version_0", "version_1"]


def test_what_a_model_folder_is_to_be_evaluated_on_can_be_pasted(tmp_path: Path) -> None:
    model, root = model_folder(tmp_path / "model"), tmp_path / "runs"

    def said() -> str:
        with pytest.raises(ConfigError) as error:
            find_evaluations([str(model)], root=root)
        return str(error.value)

    drawn = f"or on drawn faces: fer test --ckpt_path {model} --data SketchDataModule"
    assert said() == (
        f"{model} has no evaluation yet: evaluate it on your data (--data FERPlusData --data.root PATH), {drawn}"
    )
    args = {"class_path": "fer_lightning.data.FERPlusData", "init_args": {"root": str(tmp_path / "my data")}}
    run = run_with(root / "mine/version_0")
    (run / "config.yaml").write_text(json.dumps({"data": args}))
    assert said().endswith(drawn)  # that data is not there any more
    (tmp_path / "my data").mkdir()
    (run_with(root / "mine/version_1") / "config.yaml").write_text("damaged: [")
    asked = f"fer test --ckpt_path {model} --data FERPlusData --data.root '{tmp_path / 'my data'}'"
    assert said() == f"{model} has no evaluation yet: run {asked}"
    model = model_folder(tmp_path / "other", ("a", "b"))
    (run / "config.yaml").unlink()
    assert said().endswith(f"run fer test --ckpt_path {model} --data FERPlusData --data.root PATH")


def test_an_evaluation_names_its_model(tmp_path: Path) -> None:
    run = run_with(tmp_path / "version_0", test=TEST)
    assert evaluated_model(run / "test") == run
    model = model_folder(tmp_path / "model")
    other = write_evaluation(tmp_path / "other", TEST, checkpoint=str(model / "model.safetensors"))
    assert evaluated_model(other) == model
    assert evaluated_model(write_evaluation(tmp_path / "bare", TEST)) is None
    own = write_evaluation(
        tmp_path / "own", TEST, checkpoint=str(model / "model.safetensors"), command="fer test --x 1"
    )
    assert find_evaluations([str(own)])[0].again == "fer test --x 1"  # which names the data, too


def test_damaged_tables_name_the_command_that_makes_them_again(tmp_path: Path) -> None:
    run = run_with(tmp_path / "my runs/version_0", test=TEST)
    plain = write_evaluation(tmp_path / "copy", TEST)
    report = json.loads((plain / "report.json").read_text())
    report.setdefault("context", {})["checkpoint"] = "runs/x/version_0/checkpoints/best.ckpt"
    (plain / "report.json").write_text(json.dumps(report))
    for folder, text, message in (
        (run / "test", "", f"; run fer test --ckpt_path '{run}' again"),
        (plain, "", "; run fer test --ckpt_path runs/x/version_0/checkpoints/best.ckpt again"),
        (plain, (plain / "predictions.csv").read_text().splitlines()[0] + "\n", "has no rows; run fer test"),
    ):
        (folder / "predictions.csv").write_text(text)
        with pytest.raises(DataError, match=re.escape(message)):
            find_evaluations([str(folder)])[0].predictions()
