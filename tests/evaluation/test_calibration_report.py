"""The report of a calibration: every number of a made-up one, each different, in its place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from fer_lightning.evaluation import calibration_report
from fer_lightning.evaluation.calibration_plots import reliability_figure, risk_figure, sets_figure
from fer_lightning.evaluation.calibration_report import calibration_lines, verdicts, write_calibration
from fer_lightning.figures import COLORS
from fer_lightning.metrics import CALIBRATION_BINS
from tests.helpers.drawn_figures import bars, line, whiskers
from tests.helpers.html import PageText


def scored(kind: str, *numbers: float) -> dict[str, Any]:
    nll, brier, ece, low, median, high, accuracy, f1, confidence = numbers
    null = {"low": low, "median": median, "high": high}
    scores = {"nll": nll, "brier": brier, "ece": ece, "ece_null": null, "accuracy": accuracy, "f1_macro": f1}
    return {"kind": kind, **scores, "confidence": confidence}


def of_class(*numbers: Any) -> dict[str, Any]:
    names = ("coverage", "low", "high", "joint_low", "joint_high", "marginal", "calibrated_on", "images", "pooled")
    return dict(zip(names, numbers, strict=True))


def binned(*rows: Sequence[float]) -> list[dict[str, float]]:
    return [dict(zip(("images", "confidence", "accuracy", "low", "high"), row, strict=True)) for row in rows]


def made_up(**changed: Any) -> dict[str, Any]:
    """Return what a calibration of three classes could find."""
    curves = {
        "before": {"area": 0.1234, "coverage": [0.1, 0.5, 1.0], "risk": [0.02, 0.11, 0.31]},
        "after": {"area": 0.1111, "coverage": [0.1, 0.6, 1.0], "risk": [0.015, 0.08, 0.29]},
    }
    return {
        "class_names": ["angry", "happy", "sad"],
        "images": 1_200,
        "distinct": 1_100,
        "asked": None,
        "chosen": "prior",
        "kinds": [
            scored("none", 1.1, 0.51, 0.09, 0.001, 0.002, 0.003, 0.601, 0.552, 0.691),
            scored("temperature", 0.95, 0.47, 0.03, 0.012, 0.02, 0.031, 0.602, 0.553, 0.611),
            scored("prior", 0.9, 0.45, 0.021, 0.011, 0.022, 0.033, 0.62, 0.57, 0.613),
        ],
        "change": {"nll": {"value": -0.2, "low": -0.3, "high": -0.1}},
        "fit": {"temperature": 1.5, "tau": -0.25},
        "bins": {
            "before": binned((30, 0.45, 0.4, 0.35, 0.55), (10, 0.85, 0.7, 0.75, 0.95)),
            "after": binned((20, 0.5, 0.52, 0.41, 0.61), (60, 0.8, 0.79, 0.7, 0.9)),
        },
        "risk": {
            "wanted": 0.2,
            "reached": True,
            "threshold": 0.4321,
            "answered": 0.751,
            "risk": {"value": 0.187, "low": 0.161, "high": 0.223},
            "curves": curves,
        },
        "sets": {
            "coverage": 0.85,
            "covered": 0.861,
            "mean_size": 1.74,
            "single": 0.42,
            "empty": 0.013,
            "classes": [
                of_class(0.84, 0.8, 0.9, 0.78, 0.92, 0.88, 1_001, 99, False),
                of_class(0.79, 0.81, 0.91, 0.77, 0.93, 0.89, 102, 98, False),
                of_class(0.95, 0.82, 0.94, 0.76, 0.96, 0.87, 600, 97, True),
            ],
        },
        "calibration": {"sets": {"0.8": [], "0.85": []}},
        "evaluations": ["runs/a/version_0/val"],
        "step": 7,
        **changed,
    }


def test_every_number_of_the_verdict_is_in_its_place() -> None:
    assert verdicts(made_up(trained_on=1_234)) == [
        "Temperature and tau (T 1.500, tau -0.250): negative log-likelihood 1.1000 to 0.9000 (95 % interval of the "
        "change -0.3000 to -0.1000), Brier score 0.5100 to 0.4500, ECE 9.00% to 2.10%; a perfect model of these "
        "confidences shows 1.10% to 3.30%.",
        "Answers below a confidence of 0.432 are marked as uncertain. Of the others, 75% of the images, 18.7% are "
        "wrong (95 % interval 16.1% to 22.3%; wanted 20.0%).",
        "Sets for a coverage of 85% hold the true class for 86.1% of the second half, with 1.7 classes on average; "
        "happy, sad outside of the 95 % range; all are inside the ranges that hold for all classes together.",
        "1,234 of these images were trained on: of them, all this is too good.",
    ]
    assert calibration_lines(made_up()) == [
        "1,200 validation images, 1,100 of them distinct: runs/a/version_0/val\n",
        "                        NLL   Brier    ECE   perfect model  accuracy  macro F1",
        "as it is             1.1000  0.5100  9.00%  0.10% to 0.30%    60.10%    55.20%",
        "temperature          0.9500  0.4700  3.00%  1.20% to 3.10%    60.20%    55.30%",
        "temperature and tau  0.9000  0.4500  2.10%  1.10% to 3.30%    62.00%    57.00%  chosen",
        "",
        *verdicts(made_up()),
    ]
    pooled = made_up(evaluations=["a", "b"])
    assert calibration_lines(pooled)[0] == "1,200 validation images, 1,100 of them distinct: 2 runs pooled\n"


def test_what_was_not_gained_or_not_reached_is_said() -> None:
    assert verdicts(made_up(chosen="none"))[0] == (
        "No scaling makes the probabilities more believable than they are: nothing is changed."
    )
    uncertain = made_up(change={"nll": {"value": -0.01, "low": -0.05, "high": 0.03}})
    assert (
        "(95 % interval of the change -0.0500 to +0.0300; that may be chance: the interval holds 0)"
        in (verdicts(uncertain)[0])
    )
    risk = made_up()["risk"]
    assert verdicts(made_up(risk={**risk, "reached": False}))[1] == (
        "No threshold brings the risk down to 20.0% (the least is 1.5%): nothing is marked."
    )
    assert verdicts(made_up(risk={**risk, "risk": None}))[1] == (
        "Answers below a confidence of 0.432 are marked as uncertain."
    )


def covered(*coverages: float | None) -> str:
    classes = [{**row, "coverage": each} for row, each in zip(made_up()["sets"]["classes"], coverages, strict=True)]
    return verdicts(made_up(sets={**made_up()["sets"], "classes": classes}))[2].partition("; ")[2]


def test_classes_outside_of_their_range_are_named() -> None:
    assert covered(0.8, 0.91, 0.82) == "every class is inside its 95 % range (3 of 3)."  # ends belong to it
    assert covered(None, 0.85, 0.85) == "every class is inside its 95 % range (2 of 2)."
    assert covered(0.93, 0.85, 0.85) == "angry outside of the 95 % range."  # and of the joint one
    assert covered(0.77, 0.92, 0.85) == "angry, happy outside of the 95 % range."
    assert covered(0.79, 0.92, 0.85) == (
        "angry, happy outside of the 95 % range; all are inside the ranges that hold for all classes together."
    )


def written(folder: Path, monkeypatch: pytest.MonkeyPatch, **changed: Any) -> PageText:
    """Write a report whose pictures are names; return what its page says."""
    monkeypatch.setattr(calibration_report, "figure_svg", lambda figure, shows: "<svg></svg>")
    monkeypatch.setattr(calibration_report, "figure_png", lambda figure: b"picture")
    page = write_calibration(made_up(**changed), folder)
    assert page == folder / "calibration.html"
    return PageText(page.read_text())


def test_the_page_holds_every_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine/version_3"
    page = written(folder, monkeypatch)
    kinds, sets = page.tables
    assert kinds[1] == ["as it is", "1.1000", "0.5100", "9.00%", "0.10% to 0.30%", "60.10%", "55.20%", ""]
    assert [row[-1] for row in kinds[1:]] == ["", "", "chosen"]
    assert sets == [
        ["class", "thresholds from", "judged on", "coverage", "95 % range", "all classes together", "one threshold"],
        ["angry", "1,001", "99", "84.0%", "80.0% to 90.0%", "78.0% to 92.0%", "88.0%"],
        ["happy", "102", "98", "79.0%", "81.0% to 91.0%", "77.0% to 93.0%", "89.0%"],
        ["sad", "600 (all classes)", "97", "95.0%", "82.0% to 94.0%", "76.0% to 96.0%", "87.0%"],
    ]
    for said in (
        "Calibration of mine/version_3",
        "2.10% ECE, before 9.00%",
        "0.900 negative log-likelihood, before 1.100",
        "0.450 Brier score, before 0.510",
        "62.0% accuracy, before 60.1%",
        "Temperature and tau (T 1.500, tau -0.250) was taken because its negative log-likelihood on the other half is "
        "the least. It changes labels, too",
        "Before: mean confidence 69.1%, accuracy 60.1%: on the whole too sure by 9.0 points.",
        "Area under the curve: 0.1234 before, 0.1111 after.",
        "Over all classes 86.1% are covered; 42% hold one class, 1.3% none.",
        f"fer recognize PICTURE --model {folder} and fer serve {folder} use it as it is.",
        f"fer predict --ckpt_path {folder} --set 0.85 adds the prediction sets (stored for 0.8, 0.85).",
        f"fer export {folder} --out MODEL carries it along.",
        *verdicts(made_up()),
    ):
        assert said in page.words.replace("`", ""), said
    pictures = [f"calibration_{name}.png" for name in ("reliability", "risk", "sets")]
    assert sorted(path.name for path in folder.iterdir()) == ["calibration.html", "calibration.json", *pictures]
    assert json.loads((folder / "calibration.json").read_text()) == {**made_up(), "verdicts": verdicts(made_up())}


def test_the_page_of_an_asked_scaling_of_several_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = made_up()["kinds"]
    kinds[0] |= {"confidence": 0.55}
    words = written(
        tmp_path,
        monkeypatch,
        asked="temperature",
        chosen="temperature",
        fit={"temperature": 1.5},
        kinds=kinds,
        step=None,
    ).words
    assert "Temperature (T 1.500) was taken as was asked. It changes no label." in words
    assert "on the whole not sure enough by 5.1 points" in words
    assert "These are the predictions of several runs: no model takes this over." in words
    assert "--model" not in words


def test_reliability_is_drawn_beside_a_perfect_model() -> None:
    bins = made_up()["bins"]
    upper, lower = np.array(reliability_figure(bins).axes, dtype=object).reshape(2, 2)
    for place, (name, own) in enumerate(bins.items()):
        assert line(upper[place], "this model") == pytest.approx(
            np.array([(e["confidence"], e["accuracy"]) for e in own])
        )
        total = sum(each["images"] for each in own)
        error = sum(each["images"] * abs(each["confidence"] - each["accuracy"]) for each in own) / total
        assert upper[place].get_title() == f"{name}\nECE {error:.3f}, {total} samples"
        edges = [np.ceil(each["confidence"] * CALIBRATION_BINS) - 1 for each in own]
        band = [(edge, each["low"], each["high"]) for edge, each in zip(edges, own, strict=True)]
        assert [(CALIBRATION_BINS * x, y, y + height) for x, y, _, height in bars(upper[place])] == pytest.approx(
            np.array(band)
        )
        heights = [(edge + 0.5, each["images"] / total) for edge, each in zip(edges, own, strict=True)]
        assert [(CALIBRATION_BINS * (x + width / 2), height) for x, _, width, height in bars(lower[place])] == (
            pytest.approx(np.array(heights))
        )


def test_the_risk_is_drawn_with_what_was_wanted_and_reached() -> None:
    risk = made_up()["risk"]
    [axes] = risk_figure(risk["curves"], risk["wanted"], risk).axes
    for name, color in (("before", "orange"), ("after", "blue")):
        curve = risk["curves"][name]
        assert line(axes, name).T.tolist() == [curve["coverage"], curve["risk"]]
        assert [each.get_color() for each in axes.lines if each.get_label() == name] == [COLORS[color]]
    assert [0.2, 0.2] in [np.asarray(each.get_ydata()).tolist() for each in axes.lines]
    assert whiskers(axes) == [pytest.approx((0.751, 0.187, 0.161, 0.223))]
    assert "threshold 0.432" in axes.get_legend_handles_labels()[1]
    assert [text.get_text() for text in axes.texts] == ["wanted 20.0%"]
    [none] = risk_figure(risk["curves"], risk["wanted"], {**risk, "risk": None}).axes
    assert whiskers(none) == []


def test_sets_are_drawn_in_the_range_that_chance_leaves() -> None:
    sets = made_up()["sets"]
    sets["classes"][0]["coverage"] = None
    [axes] = sets_figure(made_up(sets=sets)).axes
    assert [(x, x + width) for x, _, width, _ in bars(axes)] == pytest.approx(np.array([(0.81, 0.91), (0.82, 0.94)]))
    dots = [each for each in axes.lines if each.get_marker() == "o"]
    assert [tuple(np.asarray(each.get_xydata())[0].tolist()) for each in dots] == [(0.79, 1), (0.95, 2)]
    assert [to_hex(each.get_color()) for each in dots] == [COLORS["vermillion"].lower()] * 2
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [0.85, 0.85]
    assert [text.get_text() for text in axes.texts] == ["no images"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["angry", "happy", "sad"]
    low, high = axes.get_ylim()
    assert low > high  # the first class is above
    sets["classes"][1]["coverage"] = 0.91  # the end belongs to the range
    [axes] = sets_figure(made_up(sets=sets)).axes
    assert to_hex(axes.lines[1].get_color()) == COLORS["blue"].lower()
