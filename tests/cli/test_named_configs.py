"""Config files by name: from a path, the working directory, the package."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fer_lightning.cli.named_configs import config_file, shipped_configs, with_config_files, with_fragments
from tests.helpers.cli import fer
from tests.helpers.configs import CONFIGS


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["quickstart", "quickstart.yaml", "configs/quickstart.yaml", "./quickstart"])
def test_a_name_is_that_of_the_package_wherever_one_is(name: str) -> None:
    assert config_file(name) == CONFIGS / "quickstart.yaml"


def test_a_file_that_is_there_wins(tmp_path: Path) -> None:
    for path in ("quickstart.yaml", "model/fer_a.yaml"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("name: mine\n")
    assert config_file("quickstart") == Path("quickstart.yaml")
    assert with_config_files(["--config=quickstart", "--model", "model/fer_a.yaml"]) == [
        "--config=quickstart.yaml",
        "--model",
        "model/fer_a.yaml",
    ]


def test_all_files_have_a_name() -> None:
    assert set(shipped_configs().values()) == set(CONFIGS.rglob("*.yaml"))
    assert "experiment/fer2013_a" in shipped_configs()


def test_only_config_files_are_replaced() -> None:
    given = ["--data", "SketchDataModule", "--name", "quickstart", "--model.backbone=resnet18", "--model", "quickstart"]
    assert with_config_files(given) == given
    assert with_config_files(["-c", "quickstart", "--data", "data/fer2013", "--trainer=trainer/ema.yaml"]) == [
        "-c",
        str(CONFIGS / "quickstart.yaml"),
        "--data",
        str(CONFIGS / "data/fer2013.yaml"),
        f"--trainer={CONFIGS / 'trainer/ema.yaml'}",
    ]
    assert with_config_files(["inspect", "configs/data/sketch.yaml"]) == ["inspect", str(CONFIGS / "data/sketch.yaml")]


def test_fragments_lie_beside_the_file_or_in_the_working_directory_or_in_the_package(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "model").mkdir(parents=True)
    (tmp_path / "one/model/a.yaml").touch()
    (tmp_path / "two/model/b.yaml").touch()
    values = {"data": "data/sketch", "model": "model/b.yaml", "trainer": {"max_epochs": 1}}
    assert with_fragments({"model": "model/a.yaml"}, tmp_path / "one") == {"model": "model/a.yaml"}
    assert with_fragments(values, tmp_path / "one", tmp_path / "two") == {
        "data": str(CONFIGS / "data/sketch.yaml"),
        "model": str(tmp_path / "two/model/b.yaml"),
        "trainer": {"max_epochs": 1},
    }


def test_a_run_is_begun_by_names_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\ndata: data/sketch\nmodel: model/fer_b_fast.yaml\n")
    with pytest.raises(SystemExit):
        fer("fit", "--config", "mine", "--trainer", "trainer/ema.yaml", "--print_config")
    found = yaml.safe_load(capsys.readouterr().out)
    assert found["name"] == "mine"
    assert found["data"]["class_path"].endswith("SketchDataModule")
    assert found["model"]["backbone"] == "fer_b_fast"
    assert found["trainer"]["max_epochs"] == 100
