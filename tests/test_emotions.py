from __future__ import annotations

import pytest

from fer_lightning.emotions import EIGHT, FER2013_CODES, FERPLUS_COLUMNS, SCHEMES, SEVEN, canonical, scheme_of
from fer_lightning.errors import LabelError


def test_order_is_that_of_fer2013() -> None:
    assert SEVEN.class_names == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    assert FER2013_CODES[4] == "sad"
    assert EIGHT.index("contempt") == 7


@pytest.mark.parametrize(
    ("name", "expected"), [("Anger", "angry"), (" happiness ", "happy"), ("surprised", "surprise"), ("sad", "sad")]
)
def test_synonyms_map_by_name(name: str, expected: str) -> None:
    assert canonical(name) == expected
    assert SEVEN.index(name) == SEVEN.class_names.index(expected)


def test_votes_are_known_but_for_two() -> None:
    assert [canonical(column) for column in FERPLUS_COLUMNS[:8]] == [
        "neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt",
    ]  # fmt: skip


def test_an_unknown_name_proposes_the_nearest() -> None:
    with pytest.raises(LabelError, match="did you mean 'happy'"):
        canonical("hapiness")


def test_a_name_outside_the_scheme_is_refused() -> None:
    with pytest.raises(LabelError, match="not part of the label scheme 'fer7'"):
        SEVEN.index("contempt")


def test_schemes_are_found_by_their_classes() -> None:
    assert {scheme_of(scheme.class_names) for scheme in SCHEMES.values()} == {"fer7", "fer8"}
    assert scheme_of(("happy", "sad")) == "custom"
