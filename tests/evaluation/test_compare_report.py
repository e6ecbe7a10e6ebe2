"""The report of a comparison: every number of a made-up one, each different, in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_lightning import __version__
from fer_lightning.evaluation import compare_report
from fer_lightning.evaluation.compare_report import comparison_lines, verdict, write_comparison
from tests.helpers.drawn_figures import bars, whiskers
from tests.helpers.html import PageText


def ends(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def model(name: str, accuracy: float) -> dict[str, Any]:
    """Return a model all of whose numbers follow from its accuracy."""
    return {
        "name": name,
        "accuracy": ends(accuracy, accuracy - 0.03, accuracy + 0.02),
        "f1_macro": ends(accuracy - 0.1, accuracy - 0.14, accuracy - 0.05),
        "ece": accuracy / 10,
        "nll": 2 - accuracy,
        "brier": 1 - accuracy,
    }


def pair(first: str, second: str, change: float, p: float, p_holm: float) -> dict[str, Any]:
    return {
        "first": first,
        "second": second,
        "accuracy": ends(change, change - 0.02, change + 0.01),
        "f1_macro": ends(change + 0.005, change - 0.03, change + 0.04),
        "first_only": 1_011,
        "second_only": 1_022,
        "p": p,
        "p_holm": p_holm,
    }


def of_class(model: str, name: str, recall: float | None, p: float, p_holm: float) -> dict[str, Any]:
    before, after = (None, None) if recall is None else (0.5, 0.5 + recall)
    known = {"images": 1_234, "before": before, "after": after, "recall": recall, "f1": 0.0321}
    return {"model": model, "class": name, **known, "p": p, "p_holm": p_holm}


def two(**changed: Any) -> dict[str, Any]:
    """Return a comparison of two models, the second better by more than chance makes."""
    return {
        "images": 1_500,
        "distinct": 1_400,
        "class_names": ["angry", "happy"],
        "split": "test",
        "draws": 1_200,
        "seed": 3,
        "models": [model("a", 0.6), model("b", 0.65)],
        "pairs": [pair("a", "b", 0.05, 0.012, 0.012)],
        "classes": [of_class("b", "angry", 0.08, 0.013, 0.026), of_class("b", "happy", -0.02, 0.03, 0.06)],
        "luck": 0.0123,
        **changed,
    }


def several(**changed: Any) -> dict[str, Any]:
    """Return one of four models, of which the second is the best."""
    pairs = [
        pair("a", "b", 0.05, 0.01, 0.04),
        pair("a", "c", 0.02, 0.2, 0.3),
        pair("a", "d", -0.2, 0.0, 0.0),
        pair("b", "c", -0.03, 0.03, 0.06),
        pair("b", "d", -0.25, 0.0, 0.0004),
        pair("c", "d", -0.22, 0.0, 0.0),
    ]
    models = [model("a", 0.6), model("b", 0.65), model("c", 0.62), model("d", 0.4)]
    classes = [
        of_class(name, each, change, 0.2, 0.3)
        for name, change in (("b", 0.08), ("c", 0.03), ("d", -0.2))
        for each in ("angry", "happy")
    ]
    return two(**{"models": models, "pairs": pairs, "classes": classes} | changed)


def test_two_models_have_a_verdict() -> None:
    size = "by 5.0 points (95 % interval +3.0 to +6.0, p 0.012)"
    assert verdict(two()) == f"b is more accurate than a {size}."
    turned = two(models=[model("a", 0.7), model("b", 0.65)], pairs=[pair("a", "b", -0.05, 0.01, 0.06)])
    assert verdict(turned) == (
        "a is more accurate than b by 5.0 points (95 % interval +4.0 to +7.0, p 0.060), which is no more than chance "
        "makes on these images."
    )
    assert verdict(two(pairs=[pair("a", "b", 0.0, 1.0, 1.0)])) == (
        "b and a are equally accurate on these images (95 % interval of the difference -2.0 to +1.0)."
    )


def test_several_models_have_one_verdict() -> None:
    assert verdict(several()) == (
        "b is the most accurate on these images; its lead over a and d is more than chance makes; chance explains its "
        "lead over c."
    )
    sure = [{**each, "p_holm": 0.01} for each in several()["pairs"]]
    assert verdict(several(pairs=sure)) == (
        "b is the most accurate on these images; its lead over a, c and d is more than chance makes."
    )  # as many as are listed
    tied = [*sure[:3], {**sure[3], "accuracy": ends(0.0, -0.01, 0.01)}, *sure[4:]]
    assert verdict(several(pairs=tied)).endswith("; chance explains its lead over c.")
    five = several(models=[*several()["models"], model("e", 0.3)])
    five["pairs"] = [*sure, *(pair(name, "e", -0.1, 0.0, 0.0) for name in "abcd")]
    assert (
        verdict(five) == "b is the most accurate on these images; its lead over all others is more than chance makes."
    )


def test_the_lines_hold_every_number() -> None:
    assert comparison_lines(two()) == [
        "model  accuracy     95 % interval  macro F1     95 % interval    ECE    NLL  Brier",
        "a        60.00%  57.00% to 62.00%    50.00%  46.00% to 55.00%  6.00%  1.400  0.400",
        "b        65.00%  62.00% to 67.00%    55.00%  51.00% to 60.00%  6.50%  1.350  0.350",
        "",
        "difference  accuracy   95 % interval  macro F1   95 % interval  only first  only second      p  p, Holm",
        "b minus a      +5.00  +3.00 to +6.00     +5.50  +2.00 to +9.00       1,011        1,022  0.012    0.012",
        "",
        verdict(two()),
    ]


@pytest.fixture
def _no_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_report, "figure_svg", lambda figure, shows: "<svg></svg>")


@pytest.mark.usefixtures("_no_drawings")
def test_the_page_of_two_models_holds_every_number(tmp_path: Path) -> None:
    found = two(classes=[*two()["classes"][:1], of_class("b", "happy", None, 1.0, 1.0)])
    origin = {"command": "fer compare a b", "evaluations": {"a": "x", "b": "y"}}
    page = PageText(write_comparison(found, tmp_path, ["a note"], origin).read_text())
    models, pairs, classes = page.tables
    assert models[1] == ["a", "60.00%", "57.00% to 62.00%", "50.00%", "46.00% to 55.00%", "6.00%", "1.400", "0.400"]
    assert pairs[1][-4:] == ["1,011", "1,022", "0.012", "0.012"]
    assert classes == [
        ["class", "images", "recall of a", "its recall", "change", "change of F1", "p", "p, Holm"],
        ["angry", "1,234", "50.0%", "58.0%", "+8.00", "+3.21", "0.013", "0.026"],
        ["happy", "1,234", "n/a", "n/a", "n/a", "+3.21", "1.000", "1.000"],
    ]
    for said in (
        "a against b",
        "1,500 images of test, 1,400 of them distinct.",
        "1,200 resamples of groups of identical images, seed 3.",
        "To repeat: fer compare a b",
        "a note",
        "in points more than a;",
        verdict(found),
    ):
        assert said in page.words, said
    assert "equal models would lie" not in page.words
    stored = json.loads((tmp_path / "compare.json").read_text())
    told = {"verdict": verdict(found), "notes": ["a note"], "speeds": {}}
    assert stored == {"schema": 1, "fer_lightning": __version__, **origin, **found, **told}


@pytest.mark.usefixtures("_no_drawings")
def test_the_page_of_several_models_names_them(tmp_path: Path) -> None:
    page = PageText(write_comparison(several(split=""), tmp_path).read_text())
    assert [row[0] for row in page.tables[2]] == ["model", "b", "b", "c", "c", "d", "d"]
    assert page.tables[1][6][0] == "d minus c"
    assert "The best of 4 equal models would lie 1.2 points above their mean by chance alone." in page.words
    assert "4 models on the same images" in page.words
    assert "1,500 images of a split," in page.words
    three = several(models=several()["models"][:3], classes=several()["classes"][:4])
    assert "a against b against c" in PageText(write_comparison(three, tmp_path).read_text()).words


def test_differences_are_drawn_with_their_intervals() -> None:
    long = "a_name_of_more_than_twenty-two_letters"
    found = two(pairs=[pair("a", "b", 0.05, 0.0, 0.0), pair("a", long, -0.02, 0.0, 0.0)])
    [axes] = compare_report._difference_figure(found).axes
    assert whiskers(axes) == [
        pytest.approx((-0.16, 5.0, 3.0, 6.0)),
        pytest.approx((0.84, -2.0, -4.0, -1.0)),
        pytest.approx((0.2, 5.5, 2.0, 9.0)),
        pytest.approx((1.2, -1.5, -5.0, 2.0)),
    ]
    assert [text.get_text() for text in axes.texts] == ["+5.00", "-2.00", "+5.50", "-1.50"]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["b\nminus a", f"…{long[-21:]}\nminus a"]
    assert axes.get_legend_handles_labels()[1] == ["accuracy", "macro F1"]
    low, high = axes.get_ylim()
    assert low > high  # the first pair is above


def test_classes_are_drawn_with_what_chance_does_not_explain() -> None:
    found = several()
    found["classes"][0]["p_holm"] = 0.04
    found["classes"][2]["p"] = 0.01  # not corrected
    found["classes"][5]["recall"] = None
    figure = compare_report._class_figure(found)
    [axes] = figure.axes
    height = 0.8 / 3
    places = [place - 0.4 + height * (number + 0.5) for number in range(3) for place in range(2)]
    drawn = [(y + tall / 2, width) for _, y, width, tall in bars(axes)]
    assert drawn == pytest.approx(np.array(list(zip(places, (8, 8, 3, 3, -20, 0), strict=True))))
    assert [text.get_text() for text in axes.texts] == ["+8.0 *", "+8.0", "+3.0", "+3.0", "-20.0", "n/a"]
    assert [text.get_horizontalalignment() for text in axes.texts] == ["left"] * 4 + ["right", "left"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["angry", "happy"]
    assert axes.get_xlabel() == "recall, points more than a"
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["b", "c", "d"]
    assert compare_report._class_figure(two()).legends == []
