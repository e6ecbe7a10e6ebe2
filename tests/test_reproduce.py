"""The short form of ``make reproduce``: a released config, a few steps on few images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fer_lightning.runs.model_folder import read_values, released
from tests.helpers.configs import start_of
from tests.helpers.fer2013 import write_fer2013
from tests.reproduce import beside, reproduce


def test_a_released_model_is_trained_and_stands_beside_its_card(tmp_path: Path) -> None:
    write_fer2013(tmp_path / "data", "csv")
    given = ["--trainer.max_epochs=1", "--trainer.precision=32-true", "--data.num_workers=0", "--report.pictures=false"]
    options = [f"--data.root={tmp_path / 'data'}", *given, *start_of("released/fer2013_nano.yaml", tmp_path)]
    lines = reproduce("nano", options, tmp_path / "runs")
    report = json.loads((tmp_path / "runs/fer2013_nano_released/version_0/validate/report.json").read_text())
    assert report["n"] == 14
    assert lines[0].startswith(f"accuracy  {100 * report['accuracy']:.2f} here")
    assert lines[1].startswith(f"macro F1  {100 * report['f1_macro']:.2f} here")
    assert reproduce("nano", options, tmp_path / "runs") == lines  # the run is complete and stays as it is


NOT_LEARNED = {"data.root", "data.soft_label_file", "model.compile", "trainer.log_every_n_steps"}


def flat(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Give the values of a config below the keys that a card has for them."""
    if not isinstance(values, dict):
        yield key, values
    elif "class_path" in values:
        yield from flat(values.get("init_args", {}), key)
    else:
        for name, value in values.items():
            yield from flat(value, f"{key}.{name}".removeprefix("."))


@pytest.mark.parametrize("folder", released().values(), ids=released())
def test_a_released_config_is_what_its_model_was_trained_with(folder: Path) -> None:
    config = yaml.safe_load(Path(f"configs/released/{folder.name.replace('-', '_')}.yaml").read_text(encoding="utf-8"))
    training = read_values(folder)["training"]
    assert config.pop("name") == f"{folder.name.replace('-', '_')}_released"
    assert config.pop("seed_everything") == training["seed"]
    for callback in config["trainer"].pop("callbacks"):
        name = callback["class_path"]
        config["trainer"] |= {f"callbacks.{name}": {**callback.get("init_args", {})}}
        assert training["configuration"][f"trainer.callbacks.{name}"].endswith(name)
    wanted = {key: value for key, value in flat(config) if key not in NOT_LEARNED}
    assert {key: training["configuration"].get(key) for key in wanted} == wanted
    for key in ("model.loss", "model.optimizer", "model.lr_scheduler", "data.augment"):
        part, name = key.split(".")
        values = config[part].get("init_args", config[part])[name]
        assert training["configuration"][key].endswith(values["class_path"].rpartition(".")[2])


def test_scores_stand_beside_those_of_the_card() -> None:
    here = {"accuracy": 0.70125, "f1_macro": 0.65, "n": 3589}
    card = {"accuracy": 0.7, "accuracy_ci95": [0.685, 0.715], "f1_macro": 0.66, "n": 3589}
    assert beside(here, card) == [
        "accuracy  70.12 here, 70.00 (68.50 to 71.50) on the card: +0.12",
        "macro F1  65.00 here, 66.00 on the card: -1.00",
    ]
    assert beside(here, {**card, "n": 5741})[-1] == "not comparable: 3,589 images here, 5,741 on the card"
    assert beside(here, {}) == ["accuracy  70.12 here; no card has it", "macro F1  65.00 here; no card has it"]
