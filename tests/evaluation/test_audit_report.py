"""The report of an audit: every number of a made-up one, each different, in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from fer_lightning import __version__
from fer_lightning.evaluation import audit_report
from fer_lightning.evaluation.audit_report import audit_lines, verdict, verdicts, write_audit
from fer_lightning.figures import COLORS
from tests.helpers.drawn_figures import whiskers
from tests.helpers.html import PageText


def group(name: str, start: float, too_few: str = "", **more: Any) -> dict[str, Any]:
    """Return a group whose numbers count up from ``start``, a share."""
    return {
        "name": name,
        "images": round(10_000 * start),
        "accuracy": start,
        "accuracy_low": start - 0.05,
        "accuracy_high": start + 0.04,
        "standardised": start + 0.01,
        "f1_macro": start - 0.02,
        "recall": (start + 0.02, start + 0.03),
        "recall_low": (start - 0.1, start - 0.2),
        "recall_high": (start + 0.1, start + 0.2),
        "support": (round(1_000 * start), round(2_000 * start)),
        "too_few": too_few,
        **more,
    }


def rest(value: float, low: float, high: float, p: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, "p": p}


def gap(best: str, worst: str, *numbers: float, score: str = "") -> dict[str, Any]:
    names = ("observed", "expected", "upper", "p", "p_holm")
    return {"best": best, "worst": worst, "score": score, **dict(zip(names, numbers, strict=True))}


def attribute(name: str = "skin", **changed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "unknown": 0,
        "groups": [
            group("I", 0.8, f1_low=0.71, f1_high=0.87, rest=rest(0.07, 0.02, 0.12, 0.001)),
            group("III", 0.7, "f1", f1_low=0.61, f1_high=0.77, rest=rest(-0.01, -0.06, 0.04, 0.6)),
            group("VI", 0.6, f1_low=0.51, f1_high=0.67, rest=rest(-0.08, -0.13, -0.03, 0.0004)),
        ],
        "left_out": [],
        "gap": gap("I", "VI", 0.15, 0.031, 0.062, 0.0002, 0.0004),
        "equalised_odds": gap("III", "I", 0.21, 0.091, 0.122, 0.2, 0.4, score="false happy"),
        "classes": [
            {"class": "angry", **gap("I", "III", 0.31, 0.052, 0.083, 0.012, 0.024)},
            {"class": "happy", **gap("VI", "I", 0.041, 0.053, 0.084, 0.04, 0.09)},
        ],
        **changed,
    }


def made_up(*attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        "images": 2_400,
        "distinct": 2_300,
        "class_names": ["angry", "happy"],
        "split": "test",
        "model": "m",
        "shuffles": 1_500,
        "draws": 1_200,
        "seed": 5,
        "total": group("all", 0.72),
        "attributes": list(attributes) or [attribute()],
    }


CHANCE = attribute("gender", gap=gap("m", "f", 0.02, 0.033, 0.064, 0.03, 0.06))


def test_the_verdict_goes_by_corrected_p_values() -> None:
    differ = "Groups of skin differ in accuracy by more than chance explains."
    assert (
        verdict(made_up()) == f"{differ} By class, more than chance explains: recall of angry between groups of skin."
    )
    assert verdict(made_up(attribute(classes=[]))) == differ
    calm = "Chance explains every difference in accuracy between groups of"
    assert verdict(made_up({**CHANCE, "classes": []})) == f"{calm} gender."
    assert verdict(made_up(CHANCE)) == (
        f"{calm} gender. By class, more than chance explains: recall of angry between groups of gender."
    )
    assert verdict(made_up(CHANCE, attribute(), attribute("age"))) == (  # where three could be found, 0.024 is no proof
        "Groups of skin and age differ in accuracy by more than chance explains; chance explains those of gender."
    )
    sure = [{"class": f"c{place}", **gap("I", "III", 0.31, 0.052, 0.083, 0.0001, 0.001)} for place in range(8)]
    assert verdict(made_up({**CHANCE, "classes": sure})).endswith(
        "recall of c0 between groups of gender, c1 between groups of gender, c2 between groups of gender, c3 between "
        "groups of gender, c4 between groups of gender, c5 between groups of gender and 2 more."
    )
    nothing = attribute(gap=None, groups=[group("I", 0.8)])
    assert verdict(made_up(nothing)) == (
        "No attribute has two groups with images enough, and of the same classes, to be compared."
    )


def test_each_attribute_has_a_sentence() -> None:
    apart = [{**each, "rest": None} for each in attribute()["groups"]]
    found = made_up(
        attribute(),
        CHANCE,
        attribute("age", gap=None),
        attribute("site", groups=apart),
        attribute("hand", gap=gap("l", "r", 1e-12, 0.01, 0.02, 1.0, 1.0)),
    )
    assert verdicts(found) == [
        "skin: I over VI by 15.0 points of accuracy at equal class mix; chance alone makes 3.1 (95 % below 6.2): "
        "more than chance explains (p < 0.001).",
        "gender: m over f by 2.0 points of accuracy at equal class mix; chance alone makes 3.3 (95 % below 6.4): "
        "no more than chance explains (p 0.060).",
        "age: fewer than two groups have images enough to be compared.",
        "site: the groups have no class in common, so that they cannot be compared.",
        "hand: all groups are equally accurate at equal class mix.",
    ]


REMARKS = [
    "I: 7.0 points above the rest (95 % interval +2.0 to +12.0).",
    "VI: 8.0 points below the rest (95 % interval -13.0 to -3.0).",
    "Recall of angry: 31.0 points between I and III, more than chance explains (p 0.024).",
    "Equalised-odds difference: 21.0 points (false happy, III against I); chance alone makes 9.1 (95 % below 12.2), "
    "p 0.400.",
]
ROWS = [
    "skin  images  accuracy   95 % interval  same class mix  minus the rest  95 % interval        p",
    "I      8,000     80.0%  75.0% to 84.0%           81.0%            +7.0  +2.0 to +12.0    0.001",
    "III    7,000     70.0%  65.0% to 74.0%           71.0%            -1.0   -6.0 to +4.0    0.600  too few for F1",
    "VI     6,000     60.0%  55.0% to 64.0%           61.0%            -8.0  -13.0 to -3.0  < 0.001",
    "all    7,200     72.0%  67.0% to 76.0%           73.0%",
]


def remarks(**changed: Any) -> list[str]:
    lines = audit_lines(made_up(attribute(**changed)))
    return [line.strip() for line in lines if line.startswith("  ")]


def test_the_lines_hold_every_number() -> None:
    found = made_up()
    assert audit_lines(found) == [
        *ROWS,
        *(f"  {remark}" for remark in REMARKS),
        "",
        *verdicts(found),
        "",
        verdict(found),
    ]


def test_remarks_name_what_is_left_out_or_alone() -> None:
    assert remarks() == REMARKS
    names = ["a", "b", "c", "d", "e", "f"]
    assert remarks(left_out=names, unknown=1)[-2:] == [
        "6 groups with too few images to say anything, in no gap: a; b; c; d; e; f.",
        '1 image of no known group: counted in the line "all" alone.',
    ]
    assert remarks(left_out=[*names, "g"])[-1] == (
        "7 groups with too few images to say anything, in no gap: a; b; c; d; e; f; ...."
    )
    two = attribute()["groups"][::2]
    assert remarks(groups=two) == REMARKS[2:]  # of two groups the gap has said it
    alone = [*two, group("X", 0.5, rest=None), group("Y", 0.4)]
    assert remarks(groups=alone, equalised_odds=gap("I", "VI", 0.0, 0.0, 0.0, 1.0, 1.0), classes=[])[2:] == [
        "No class in common with the other groups, so that differences say nothing: X."
    ]
    assert remarks(equalised_odds=None, classes=[]) == REMARKS[:2]


def test_the_page_holds_every_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_report, "figure_svg", lambda figure, shows: "<svg></svg>")
    found = made_up(attribute(), attribute("age", classes=[]))
    origin = {"command": "fer audit mine", "run": "runs/mine"}
    page = PageText(write_audit(found, tmp_path, ["a note"], origin).read_text())
    groups, recalls, classes, *_ = page.tables
    assert groups[1] == [
        "I", "8,000", "80.0%", "75.0% to 84.0%", "81.0%", "+7.0", "+2.0 to +12.0", "0.001", "78.0%",
        "71.0% to 87.0%", "",
    ]  # fmt: skip
    assert groups[2][-1] == "too few for F1"
    assert groups[4][:6] == ["all", "7,200", "72.0%", "67.0% to 76.0%", "73.0%", ""]
    assert recalls == [
        ["skin", "angry", "happy"],
        ["I", "82.0%\n70 to 90\nof 800", "83.0%\n60 to 100\nof 1,600"],
        ["III", "72.0%\n60 to 80\nof 700", "73.0%\n50 to 90\nof 1,400"],
        ["VI", "62.0%\n50 to 70\nof 600", "63.0%\n40 to 80\nof 1,200"],
        ["all", "74.0%\n62 to 82\nof 720", "75.0%\n52 to 92\nof 1,440"],
    ]
    assert classes[1:] == [
        ["angry", "I", "III", "31.0", "5.2", "8.3", "0.012", "0.024"],
        ["happy", "VI", "I", "4.1", "5.3", "8.4", "0.040", "0.090"],
    ]
    for said in (
        "runs/mine, audited by group",
        "2,400 images of test, 2,300 of them distinct.",
        "1,500 shuffles and 1,200 resamples of whole groups of identical images, seed 5.",
        "To repeat: fer audit mine",
        "a note",
        verdict(found),
        *verdicts(found),
        *REMARKS,
    ):
        assert said in page.words, said
    text = (tmp_path / "index.html").read_text()
    assert text.count("<details open>") == 1  # of the attribute whose classes differ
    assert text.count("<details>") == 1
    told = {"verdict": verdict(found), "verdicts": verdicts(found), "notes": ["a note"]}
    stored = json.loads((tmp_path / "audit.json").read_text())
    assert stored == json.loads(json.dumps({"schema": 1, "fer_lightning": __version__, **origin, **found, **told}))
    unnamed = PageText(write_audit({**found, "model": "", "split": ""}, tmp_path).read_text()).words
    assert "a model, audited by group" in unnamed
    assert "2,400 images of a split" in unnamed


def test_groups_are_drawn_where_they_are() -> None:
    each = attribute()
    each["groups"][0]["too_few"] = "accuracy"
    each["groups"][1] |= {"rest": None, "name": "a name of more than twenty letters"}
    each["groups"][2]["accuracy"] = float("nan")
    left, right = audit_report._figure(each, 0.72).axes
    assert whiskers(left) == [pytest.approx((0, 80, 75, 84)), pytest.approx((1, 70, 65, 74))]
    assert whiskers(right) == [pytest.approx((0, 7, 2, 12)), pytest.approx((2, -8, -13, -3))]
    assert [np.asarray(axes.lines[0].get_xdata()).tolist() for axes in (left, right)] == [[72, 72], [0, 0]]
    dots = [container[0] for container in left.containers]
    assert [to_hex(dot.get_markerfacecolor()) for dot in dots] == ["#ffffff", COLORS["blue"].lower()]
    assert [label.get_text() for label in left.get_yticklabels()] == [
        "I (8,000)", "a name of more than… (7,000)", "VI (6,000)"
    ]  # fmt: skip
    low, high = left.get_ylim()
    assert low > high  # the first group is above
