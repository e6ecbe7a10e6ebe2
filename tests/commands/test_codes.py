"""Folders and labels that are digits, from the command line: what is told, and what is stopped with a way out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fer_lightning.emotions import FER2013_CODES
from tests.helpers.cli import TINY, fer
from tests.helpers.folders import SEVEN_NAMES, write_folders, write_table
from tests.helpers.proposals import proposed

RUN = [flag for flag in TINY if not flag.startswith("--data=")]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write FER2013's expressions in folders named by its codes: three images of each, four of angry."""
    root = tmp_path_factory.mktemp("digits") / "faces"
    return write_folders(root, {str(code): 4 if code == 0 else 3 for code in range(7)}, ("train", "val", "test"))


@pytest.mark.parametrize("verb", ["inspect", "convert"])
@pytest.mark.usefixtures("blank_pictures")
def test_each_verb_stops_and_goes_on_with_what_it_proposes(
    verb: str,
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = ["--to=folders"] if verb == "convert" else []
    command = ["data", verb, str(digits), f"--out={tmp_path / 'out'}", *options]
    assert fer(*command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    (option,) = (
        option for option in proposed(error) if "0: angry, 1: disgust, 2: fear" in option and "6: neu" in option
    )
    assert fer(*command, option) == 0
    told = "codes of class folders: " + ", ".join(f"{code} {name}" for code, name in FER2013_CODES.items())
    assert f"{told} (as data.mapping says)" in caplog.messages
    if verb == "inspect":
        report = json.loads((tmp_path / "out/inspect.json").read_text())
        assert report["splits"]["train"]["counts"] == {name: 4 if name == "angry" else 3 for name in SEVEN_NAMES}
        assert report["remarks"] == [f"{told} (as data.mapping says)"]
        assert told[1:] in (tmp_path / "out/index.html").read_text()


def test_fit_stops_and_goes_on_with_what_it_proposes(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "fit",
        "--data=AffectNetDataModule",
        f"--data.root={digits}",
        "--data.image_size=32",
        "--data.channels=1",
        *RUN,
    ]
    command += ["--trainer.max_epochs=1", f"--trainer.default_root_dir={tmp_path}", "--name=digits"]
    assert fer(*command) == 2
    assert not list(tmp_path.iterdir())
    assert fer(*command, proposed(capsys.readouterr().err)[0]) == 0
    (report,) = tmp_path.rglob("report.json")
    assert "0 angry, 1 disgust, 2 fear" in json.loads(report.read_text())["context"]["data"]["remarks"][0]


@pytest.mark.usefixtures("blank_pictures")
def test_another_data_module_can_be_pasted_behind_the_first(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (digits.parent / "named").mkdir()
    root = digits.parent / "named/faces"
    write_folders(root, {str(code): 3 for code in range(7)}, ("train", "test"))
    write_table(root / "classes.csv", [{"code": code, "name": name} for code, name in enumerate(sorted(SEVEN_NAMES))])
    command = ["data", "inspect", "--data=FER2013DataModule", f"--data.root={root}", f"--out={tmp_path / 'out'}"]
    assert fer(*command) == 2
    assert fer(*command, *proposed(capsys.readouterr().err)) == 0
    assert any("4 neutral, 5 sad, 6 surprise" in message for message in caplog.messages)
