"""``fer compare``: from evaluation folders to a page."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fer_lightning.evaluation.speeds import speed_rows
from tests.evaluation.test_speeds import measured
from tests.helpers.cli import fer
from tests.helpers.html import PageText
from tests.helpers.predictions import guessed, write_evaluation


def test_evaluations_become_a_page_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_evaluation(tmp_path / "runs/a/version_0/test", guessed(0.5, 0), overlap_with_train=7)
    two = write_evaluation(tmp_path / "runs/b/version_0/test", guessed(0.8, 1))
    out = tmp_path / "out"
    assert fer("compare", str(one), f"better={two}", "--out", str(out), "--seed", "3") == 0
    told = capsys.readouterr().out
    assert "better is more accurate than a by " in told
    assert "warning: a: trained on 7 of these images" in told
    assert told.endswith(f"report       {out / 'index.html'}\n")
    found = json.loads((out / "compare.json").read_text())
    assert found["evaluations"] == {"a": str(one), "better": str(two)}
    assert (found["seed"], found["images"], found["schema"]) == (3, 300, 1)
    text = (out / "index.html").read_text()
    assert sorted(path.name for path in out.iterdir()) == ["compare.json", "index.html"]
    assert "<script" not in text
    page = PageText(text)
    models, pairs, classes = page.tables
    model = found["models"][1]
    assert models[2][:2] == ["better", f"{model['accuracy']['value']:.2%}"]
    assert models[2][4] == f"{model['f1_macro']['low']:.2%} to {model['f1_macro']['high']:.2%}"
    assert pairs[1][1] == f"{100 * found['pairs'][0]['accuracy']['value']:+.2f}"
    assert [row[0] for row in classes] == ["class", "angry", "happy", "sad"]
    assert classes[1][4] == f"{100 * found['classes'][0]['recall']:+.2f}"
    assert found["verdict"] in page.words
    assert f"fer compare {one} better={two} --seed=3" in page.words
    assert text.count('<svg role="img"') == 2
    assert "Not measured: a and better." in page.words


def test_size_and_speed_are_shown_where_they_were_measured(tmp_path: Path) -> None:
    folders = []
    for name, skill in (("a", 0.5), ("b", 0.8)):
        run = tmp_path / "runs" / name / "version_0"
        (run / "checkpoints").mkdir(parents=True)
        write_evaluation(run / "test", guessed(skill, 0))
        folders.append(str(run))
    (run / "bench_infer.json").write_text(json.dumps(measured(2.0)))
    assert fer("compare", *folders, "--out", str(tmp_path / "out")) == 0
    text = (tmp_path / "out/index.html").read_text()
    assert PageText(text).tables[-1] == [list(row) for row in speed_rows({"b": measured(2.0)})]
    assert "Not measured: a." in PageText(text).words
    assert text.count('<svg role="img"') == 3
    assert json.loads((tmp_path / "out/compare.json").read_text())["speeds"] == {"b": measured(2.0)}
    write_evaluation(run / "test", guessed(0.8, 0), weights="trained further")
    (run / "bench_infer.json").write_text(json.dumps({**measured(2.0), "weights": "as it was"}))
    assert fer("compare", *folders, "--out", str(tmp_path / "out")) == 0
    assert "Not measured: a and b." in PageText((tmp_path / "out/index.html").read_text()).words


def test_several_models_have_one_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [write_evaluation(tmp_path / name, guessed(skill, seed)) for seed, (name, skill) in enumerate(
        {"weak": 0.4, "good": 0.8, "equal": 0.8}.items()
    )]  # fmt: skip
    assert fer("compare", *map(str, folders), "--out", str(tmp_path / "out")) == 0
    told = capsys.readouterr().out
    assert "is the most accurate on these images; its lead over weak is more than chance makes; chance explains" in told
    page = PageText((tmp_path / "out/index.html").read_text())
    assert len(page.tables[1]) == 1 + 3
    assert len(page.tables[2]) == 1 + 2 * 3
    assert "The best of 3 equal models would lie" in page.words


def test_equal_models_are_called_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [write_evaluation(tmp_path / name, guessed(0.6, 0)) for name in ("a", "b")]
    assert fer("compare", *map(str, folders), "--out", str(tmp_path / "out")) == 0
    assert (
        "a and b are equally accurate on these images (95 % interval of the difference -1.3 to +1.3)."
        in capsys.readouterr().out
    )


def test_what_cannot_be_compared_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_evaluation(tmp_path / "a", guessed(0.6, 0))
    old = write_evaluation(tmp_path / "runs/old/test", replace(guessed(0.6, 0), digests=np.full(300, "")))
    (old.parent / "checkpoints").mkdir()
    four = write_evaluation(tmp_path / "four", guessed(0.6, 0, names=("angry", "happy", "sad", "fear")))
    (tmp_path / "damaged").mkdir()
    text = (one / "predictions.csv").read_text()
    (tmp_path / "damaged/predictions.csv").write_text(text[: len(text) // 2])
    out = tmp_path / "out"
    for other, message in (
        (four, "a has 3 classes and four 4, which cannot be compared: only four has fear"),
        (old, f"(an older version wrote it): run fer test --ckpt_path {old.parent} again"),
        (tmp_path / "damaged", "damaged/predictions.csv is damaged: line 1"),
        (tmp_path / "no/where", "does not exist; expected the folder of an evaluation, a run or a model"),
    ):
        assert fer("compare", str(one), str(other), "--out", str(out)) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert message in line
    assert fer("compare", str(one)) == 2
    assert "expected two evaluations or more, for example: fer compare" in capsys.readouterr().err
    assert not out.exists()


def test_names_that_are_given_twice_are_refused_with_others_that_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (write_evaluation(tmp_path / f"{n}", guessed(0.6, n)) for n in range(2))
    out = f"--out={tmp_path / 'out'}"
    assert fer("compare", f"a={one}", f"a={two}", out) == 2
    [line] = capsys.readouterr().err.splitlines()
    message, _, proposed = line.partition(": choose other names, such as ")
    assert message == "fer: error: 'a' names 2 evaluations"
    assert fer("compare", *shlex.split(proposed), out) == 0


def test_many_models_are_not_listed_where_a_sentence_is_true_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(write_evaluation(tmp_path / f"m{n}", guessed(0.6, 0), overlap_with_train=7)) for n in range(5)]
    assert fer("compare", *folders, f"--out={tmp_path / 'out'}") == 0
    told = capsys.readouterr().out
    assert "chance explains its lead over all others." in told
    assert "warning: all 5 models: trained on 7 of these images" in told
    assert "<h1>5 models on the same images</h1>" in (tmp_path / "out/index.html").read_text()


def test_a_page_replaces_none_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "runs/a/version_0"
    (run / "checkpoints").mkdir(parents=True)
    one, two = write_evaluation(run / "test", guessed(0.6, 0)), write_evaluation(tmp_path / "two", guessed(0.6, 1))
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for verb in (("compare", str(one), str(two)), ("audit", str(one), "--groups=gender")):
        for out, message in (
            (run, f"is the folder of a run: pass another --out, such as --out {run / verb[0]}"),
            (one, "is the folder of an evaluation: pass another --out"),
            (tmp_path / "site", f"has the page of something else (there is no {verb[0]}.json)"),
            (tmp_path / "file", "expected a folder to write into, found a file"),
            (tmp_path / "file/deep", "cannot be written"),
        ):
            assert fer(*verb, f"--out={out}") == 2
            [line] = capsys.readouterr().err.splitlines()
            assert message in line
    assert sorted(tmp_path.rglob("*")) == before
    assert fer("compare", str(one), str(two), f"--out={run / 'compare'}") == 0
    assert fer("compare", str(one), str(two), f"--out={run / 'compare'}") == 0  # its own may be replaced


def test_the_command_on_the_page_has_all_that_was_chosen(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "version_0/checkpoints").mkdir(parents=True)
        write_evaluation(tmp_path / name / "version_0/val", replace(guessed(0.6, 0), split="val"))
    assert fer("compare", "a", "b", "--split=val", f"--root={tmp_path}", f"--out={tmp_path / 'out'}") == 0
    command = json.loads((tmp_path / "out/compare.json").read_text())["command"]
    assert command == f"fer compare a b --seed=0 --split=val --root={tmp_path} --out={tmp_path / 'out'}"


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_nothing_takes_is_refused(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("compare", "a", "b", f"--seed={seed}") == 2
    assert capsys.readouterr().err == f"fer: error: fer compare: --seed must be 0 to 4294967295, not {seed}\n"
