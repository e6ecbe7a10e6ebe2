"""Every verb with an output refuses a hopeless one in a line, before it reads or computes anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_lightning.commands.places import page_folder
from fer_lightning.errors import ConfigError
from fer_lightning.inference.model_folder import write_model_folder
from tests.helpers.cli import fer
from tests.helpers.folders import save
from tests.helpers.predictions import guessed, write_evaluation
from tests.inference.helpers import tiny_model

DRAWN = ["--data", "SketchDataModule"]
VERBS = {
    "explain": ["explain", "MODEL", *DRAWN],
    "embed": ["embed", "MODEL", *DRAWN],
    "audit": ["audit", "EVALUATION", "--groups=gender"],
    "compare": ["compare", "EVALUATION", "OTHER"],
    "bench": ["bench", "infer", "MODEL"],
    "export": ["export", "MODEL"],
    "card": ["card", "MODEL"],
    "endtoend": ["endtoend", "MODEL", *DRAWN, "--detector=haar"],
    "inspect": ["data", "inspect", *DRAWN],
    "dedupe": ["data", "dedupe", *DRAWN],
    "framing": ["data", "framing", *DRAWN],
    "convert": ["data", "convert", *DRAWN, "--to=arrow"],
    "balance": ["data", "balance", *DRAWN],
    "recognize": ["recognize", "PICTURE"],
}


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("places")
    picture = save(folder / "picture.png", np.zeros((8, 8, 3), np.uint8))
    return {
        "PICTURE": str(picture),
        "MODEL": str(write_model_folder(tiny_model(), folder / "model")),
        "EVALUATION": str(write_evaluation(folder / "one", guessed(0.6, 0))),
        "OTHER": str(write_evaluation(folder / "two", guessed(0.6, 1))),
    }


@pytest.mark.parametrize("verb", list(VERBS))
def test_a_hopeless_output_is_one_line(verb: str, named: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    out = "/proc/x.csv" if verb == "recognize" else "/proc/x"
    assert fer(*(named.get(word, word) for word in VERBS[verb]), "--out", out) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith(f"fer: error: {out}: cannot be written, /proc takes no files")


def test_findings_on_a_run_lie_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("runs/mine/version_0")
    assert page_folder("explain", None, run) == run / "explain"
    assert page_folder("explain", None, run, "test") == run / "explain-test"
    assert page_folder("explain", None) == Path("explain")
    assert page_folder("explain", Path("other"), run) == Path("other")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("run", "is the folder of a run"),
        ("evaluation", "is the folder of an evaluation"),
        ("model", "is a model folder"),
        ("page", "has the page of something else (there is no explain.json)"),
        ("older page", ""),
        ("numbers alone", ""),
    ],
)
def test_the_folder_of_something_else_is_not_written_into(
    what: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, files = (
        tmp_path / "it is",
        {"run": ["checkpoints/best.ckpt", "index.html"], "evaluation": ["predictions.csv"]},
    )
    files |= {"page": ["index.html", "audit.json"], "older page": ["index.html", "explain.json"]}
    files |= {"model": ["config.json", "model.safetensors"], "numbers alone": ["audit.json"]}
    for name in files[what]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.chdir(tmp_path)
    if said:
        with pytest.raises(ConfigError) as caught:
            page_folder("explain", Path("it is"))
        assert str(caught.value) == f"it is {said}: pass another --out, such as --out 'it is/explain'"
    else:
        assert page_folder("explain", Path("it is")) == Path("it is")
