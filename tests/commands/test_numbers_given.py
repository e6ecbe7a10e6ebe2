"""Numbers and words on the command line of verbs: the ends of ranges, and what is made of them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.commands.endtoend import _check, _pair
from fer_lightning.commands.recognize import _check_source, _seconds
from fer_lightning.commands.serve import _check_numbers
from fer_lightning.errors import ConfigError
from tests.helpers.cli import TINY, fer


def refused(call: Any, *args: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*args)
    return str(caught.value)


def test_ports_and_waiting_requests() -> None:
    for port, waiting in ((0, 1), (65535, 64)):
        _check_numbers(port, waiting)
    for port in (-1, 65536):
        assert refused(_check_numbers, port, 64) == f"--port {port}: ports are 0 to 65535"
    assert refused(_check_numbers, 80, 0) == "--waiting 0: it must be 1 or more"


def test_seconds_of_a_neutral_face() -> None:
    assert [_seconds(text) for text in ("0", "3", "3s", "0.5s")] == [0.0, 3.0, 3.0, 0.5]
    for text in ("-1", "inf", "nan", "soon", "3m", ""):
        assert refused(_seconds, text) == f"--neutral {text}: expected seconds, such as 3s"


def test_two_numbers_with_something_between_them() -> None:
    assert _pair("picture", "960x720", "960x720") == (960, 720)
    assert _pair("sizes", "60-360", "60-360") == (60, 360)
    for text in ("960-720", "960", "x720", "960x", "-1x3", "9.5x3", "1x2x3"):
        said = f"fer endtoend: --picture {text}: expected two whole numbers, such as 960x720"
        assert refused(_pair, "picture", text, "960x720") == said


def test_either_boxes_or_a_data_set() -> None:
    _check(1, None, True)
    _check(1, Path("boxes.csv"), False)
    assert refused(_check, 0, None, True) == "fer endtoend: --faces must be at least 1, not 0"
    assert refused(_check, 1, Path("boxes.csv"), True).startswith(
        "fer endtoend: give either --boxes FILE or a data set;"
    )


def test_either_pictures_or_the_camera() -> None:
    _check_source(("a.jpg",), None, None, False)
    _check_source((), "0", 3.0, True)
    what = "fer recognize: expected pictures, videos or folders, or --camera 0"
    assert refused(_check_source, (), None, None, False) == what
    assert refused(_check_source, ("a.jpg",), "1", None, False) == f"{what}, not both: --camera 1 and a.jpg"
    for seconds, headless, option in ((0.0, False, "--seconds"), (None, True, "--headless"), (1.0, True, "--headless")):
        said = f"fer recognize: {option} is of the camera: add --camera 0"
        assert refused(_check_source, ("a.jpg",), None, seconds, headless) == said


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("", ("val_f1_macro", "max", 50, 1, 0, None)),
        ("--metric val_loss --trials 1 --warmup 0", ("val_loss", "min", 1, 0, 0, None)),
        ("--metric val_ece --seed 3 --timeout 2.5", ("val_ece", "min", 50, 1, 3, 2.5)),
        ("--metric val_loss --mode max", ("val_loss", "max", 50, 1, 0, None)),
    ],
)
def test_a_search_goes_in_the_better_direction(
    options: str, wanted: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    given: list[Any] = []

    def run_search(search: Any, flags: list[str]) -> int:
        given.append(search)
        return 0

    monkeypatch.setattr("fer_lightning.studies.tune.study.run_search", run_search)
    space = tmp_path / "space.yaml"
    space.write_text("data.batch_size: {choices: [8, 16]}\n")
    assert fer("tune", f"--space={space}", *shlex.split(options), *TINY) == 0
    (search,) = given
    found = search.metric, search.mode, search.trials, search.warmup, search.seed, search.timeout
    assert found == wanted


@pytest.mark.parametrize("name", [".hidden", "a/b", "a\\b"])
def test_a_study_is_named_like_a_folder(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("tune", f"--space={tmp_path}", f"--study={name}", *TINY) == 2
    assert f"fer tune: --study is the name of a folder, not '{name}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "said"),
    [("--trials=0", "--trials must be at least 1, not 0"), ("--warmup=-1", "--warmup must be at least 0, not -1")],
)
def test_numbers_of_a_search_are_checked(
    option: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fer("tune", f"--space={tmp_path}", option, *TINY) == 2
    assert f"fer tune: {said}" in capsys.readouterr().err
