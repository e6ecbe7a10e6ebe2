"""``fer audit``: from an evaluation to a page that says which differences between groups chance explains."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.emotions import SEVEN
from fer_lightning.evaluation.predictions import EvaluationResult, Predictions
from tests.helpers.cli import fer
from tests.helpers.html import PageText
from tests.helpers.predictions import guessed, told, write_evaluation

# Right ones and images of each group, as a report might have counted them: 2,205 of 2,400 in each column.
REPORTED = {
    "gender": {"women": (1_100, 1_200), "men": (1_105, 1_200)},
    "skin_type": {"F1": (184, 210), "F2": (543, 600), "F3": (944, 1_000), "F4": (534, 590)},
    "age_group": {"adult": (2_177, 2_366), "senior": (28, 34)},
}


def reported() -> Predictions:
    """Return predictions whose groups have the accuracies of a report's table."""
    rng = np.random.default_rng(0)
    right = np.arange(2_400) < 2_205
    target = rng.integers(0, 7, 2_400)
    preds = np.where(right, target, (target + rng.integers(1, 7, 2_400)) % 7)
    probs = np.full((2_400, 7), 0.05, np.float32)
    probs[np.arange(2_400), preds] = 0.7

    def column(groups: dict[str, tuple[int, int]]) -> NDArray[np.str_]:
        hits = [name for name, (correct, _) in groups.items() for _ in range(correct)]
        misses = [name for name, (correct, images) in groups.items() for _ in range(images - correct)]
        return np.concatenate([rng.permutation(hits), rng.permutation(misses)])

    columns = {name: column(groups) for name, groups in REPORTED.items()}
    result = EvaluationResult(SEVEN.class_names, np.arange(2_400), target, probs)
    return told(result, [str(row) for row in range(2_400)], "m", split="test", groups=columns)


def test_a_reports_table_is_made_and_chance_told_from_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_evaluation(tmp_path / "run/test", reported()), tmp_path / "out"
    asked = ["--groups", "gender, skin_type,age_group", "--intersect", "2", "--shuffles", "500"]
    assert fer("audit", str(folder), *asked, "--out", str(out)) == 0
    lines = capsys.readouterr().out
    found = json.loads((out / "audit.json").read_text())
    gender, skin, age, *crossed = found["attributes"]
    assert [each["name"] for each in crossed] == ["gender x skin_type", "gender x age_group", "skin_type x age_group"]
    page = PageText((out / "index.html").read_text())
    cells = {row[0]: row for table in page.tables for row in table if len(row) == 11}
    shown = {"women": "91.7%", "men": "92.1%", "F1": "87.6%", "F3": "94.4%", "senior": "82.4%"}
    assert {name: cells[name][2] for name in shown} == shown
    # 0.4 points are less than chance makes, 6.8 between these groups are more, and 34 images say nothing
    assert gender["gap"]["p_holm"] > 0.5
    assert (skin["gap"]["best"], skin["gap"]["worst"]) == ("F3", "F1")
    assert skin["gap"]["p_holm"] < 0.05
    assert (age["gap"], age["left_out"]) == (None, ["senior"])
    assert cells["senior"][-1] == "too few to say"
    assert "F3 over F1 by " in lines
    assert "age_group: fewer than two groups have images enough to be compared." in lines
    assert "Groups of skin_type" in found["verdict"]
    assert "chance explains those of gender" in found["verdict"]
    assert found["verdict"] in page.words
    assert lines.endswith(f"report       {out / 'index.html'}\n")
    assert "fer audit" in page.words
    assert sorted(path.name for path in out.iterdir()) == ["audit.json", "index.html"]
    [rest] = [group["rest"] for group in skin["groups"] if group["name"] == "F3"]
    assert f"F3: {100 * rest['value']:.1f} points above the rest (95 % interval" in page.words
    assert found["run"] == "run/test"
    assert "run/test, audited by group" in page.words


def test_what_cannot_be_audited_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = replace(
        guessed(0.6, 0),
        groups={"gender": np.array(["f", "m", ""] * 100), "age_group": np.full(300, ""), "camera": np.full(300, "x")},
    )
    run = tmp_path / "runs/mine/version_0"
    (run / "checkpoints").mkdir(parents=True)
    write_evaluation(run / "test", known)
    old = write_evaluation(tmp_path / "runs/old/test", replace(known, digests=np.full(300, "")))
    (old.parent / "checkpoints").mkdir()
    bare = write_evaluation(tmp_path / "bare", guessed(0.6, 0))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "predictions.csv").write_text("file,p_sad\n")
    out = tmp_path / "out"
    for place, groups, message in (
        (
            run,
            "gendre",
            "there is no column 'gendre' in these predictions; did you mean 'gender'? (there are gender, age_g",
        ),
        (run, "age_group", "the column 'age_group' is empty in every row"),
        (run, "camera", "the column 'camera' has one value only, 'x': no groups to compare"),
        (
            run,
            "",
            "fer audit: name the groups, such as --groups gender,age_group (there are gender, age_group, camera)",
        ),
        (bare, "", "(this evaluation has none: its data set knows no groups)"),
        (
            bare,
            "gender",
            "there is no column 'gender' in these predictions (they have none: the data set knows no groups)",
        ),
        (old.parent, "gender", f"(an older version wrote it): run fer test --ckpt_path {old.parent} again"),
        (damaged, "gender", "predictions.csv has no column 'index'"),
    ):
        assert fer("audit", str(place), f"--groups={groups}", f"--out={out}") == 2
        [line] = capsys.readouterr().err.splitlines()
        assert message in line
    assert not out.exists()


def test_audits_of_two_evaluations_of_a_run_lie_side_by_side(tmp_path: Path) -> None:
    run, known = tmp_path / "mine/version_0", replace(guessed(0.6, 0), groups={"gender": np.array(["f", "m"] * 150)})
    (run / "checkpoints").mkdir(parents=True)
    write_evaluation(run / "test", known, weights="a1")
    write_evaluation(run / "validate", replace(known, split="val"))
    for split in ("test", "val"):
        assert fer("audit", str(run), f"--split={split}", "--groups=gender", "--shuffles=100") == 0
    first, second = (json.loads((run / name / "audit.json").read_text()) for name in ("audit", "audit-validate"))
    assert (first["split"], second["split"]) == ("test", "val")
    assert (first["weights"], second["weights"]) == ("a1", "")  # by which pages know what is of the same


def test_groups_without_a_common_class_and_equal_groups_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = guessed(0.9, 0)
    own = np.array([known.class_names[label] for label in known.target])
    alike = np.array(["a", " a "] * 150)
    folder = write_evaluation(tmp_path / "run", replace(known, groups={"shown": own, "spaces": alike}))
    assert fer("audit", str(folder), "--groups=shown", "--shuffles=100", f"--out={tmp_path / 'out'}") == 0
    told = capsys.readouterr().out
    assert "nan" not in told
    assert "shown: the groups have no class in common, so that they cannot be compared." in told
    assert "No attribute has two groups with images enough, and of the same classes, to be compared." in told
    assert "No class in common with the other groups, so that differences say nothing: angry; happy; sad." in told
    found = json.loads((tmp_path / "out/audit.json").read_text())
    assert [group["rest"] for group in found["attributes"][0]["groups"]] == [None] * 3
    assert fer("audit", str(folder), "--groups=shown,spaces", f"--out={tmp_path / 'out'}") == 2
    assert "the column 'spaces' has one value only, 'a': no groups to compare" in capsys.readouterr().err
    right = replace(known, probs=np.eye(3, dtype=np.float32)[known.target], groups={"g": np.array(["a", "b"] * 150)})
    folder = write_evaluation(tmp_path / "right", right)
    assert fer("audit", str(folder), "--groups=g", "--shuffles=100", f"--out={tmp_path / 'out'}") == 0
    assert "g: all groups are equally accurate at equal class mix." in capsys.readouterr().out
