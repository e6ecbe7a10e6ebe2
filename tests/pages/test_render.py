"""Pages are made in one way: names are text, nothing may be missing, and no network is needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
from markupsafe import Markup

import fer_lightning.pages
from fer_lightning.pages import render
from fer_lightning.pages.render import _number

NASTY = '<script>alert("x")</script>'
VALUES: dict[str, Any] = {
    "name": NASTY,
    "about": f"of {NASTY}",
    "verdict": f"{NASTY} wins",
    "missing": f"{NASTY} is missing",
    "notes": [f"{NASTY} with `--option`"],
    "sections": {"verdict": NASTY, "scores": "Scores", "notes": NASTY},
    "tables": {"scores": [(f"above {NASTY}", ["arm", NASTY], [[NASTY, "0.5"]]), ("", ["arm"], [])]},
    "drawings": {"scores": (Markup("<svg></svg>"), NASTY)},
}


def test_hostile_names_are_text_everywhere() -> None:
    page = render("crossval.html", **VALUES)
    assert "<script" not in page
    assert 'alert("' not in page
    assert page.count("&lt;script&gt;") == 14


def test_a_missing_value_is_an_error() -> None:
    for name in VALUES:
        with pytest.raises(jinja2.UndefinedError, match=f"'{name}' is undefined"):
            render("crossval.html", **{key: value for key, value in VALUES.items() if key != name})


def test_a_section_that_the_page_does_not_have_is_left_out() -> None:
    page = render("crossval.html", **{**VALUES, "sections": {"notes": "Notes"}})
    assert re.findall(r'<section id="(\w+)">', page) == ["notes"]
    assert re.findall(r'<a href="#(\w+)">', page) == ["notes"]


def test_what_stands_between_backticks_is_code() -> None:
    assert "with <code>--option</code></li>" in render("crossval.html", **VALUES)


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [(1234, ",", "1,234"), (0.1234, ".1%", "12.3%"), (0, ",", "0"), (None, ".1%", "n/a")],
)
def test_numbers(value: float | None, form: str, shown: str) -> None:
    assert _number(value, form) == shown


def test_templates_need_no_script_and_no_network() -> None:
    templates = sorted((Path(fer_lightning.pages.__file__).parent / "templates").iterdir())
    assert {path.name for path in templates} >= {"base.html", "macros.html", "style.css"}
    for path in templates:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<script|https?:|//|@import|url\(|\|\s*safe", text), path.name
