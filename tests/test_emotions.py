from __future__ import annotations

import shlex
from typing import Any

import pytest
import yaml

from fer_lightning.emotions import (
    AFFECTNET_CODES,
    CODE_TABLES,
    EIGHT,
    FER2013_CODES,
    FERPLUS_COLUMNS,
    RAFDB_CODES,
    SCHEMES,
    SEVEN,
    SYNONYMS,
    canonical,
    read_names,
    scheme_of,
)
from fer_lightning.errors import ConfigError, LabelError


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


def test_names_of_a_data_set_become_labels() -> None:
    names, labels = read_names(["Anger", "happiness", "Anger", " sad "], "here")
    assert names == SEVEN.class_names
    assert labels == {"Anger": 0, "happiness": 3, " sad ": 4}


def test_contempt_among_them_makes_eight_classes() -> None:
    assert read_names(["contemptuous"], "here")[0] == EIGHT.class_names
    assert read_names(["contempt"], "here", {"contempt": None}) == (SEVEN.class_names, {"contempt": -1})
    with pytest.raises(LabelError, match="classes outside the label scheme 'contempt'"):
        read_names(["contempt"], "here", class_names=SEVEN.class_names)


def test_a_mapping_gives_other_meanings() -> None:
    mapping: Any = {1: "sad", "OTHER": None, "nothing": " ", "sad": "joy", "not there": "fear"}
    assert read_names(["1", "other", "nothing", "sad"], "here", mapping)[1] == {
        "1": 4, "other": -1, "nothing": -1, "sad": 3,
    }  # fmt: skip


def test_classes_of_ones_own_come_first() -> None:
    names, labels = read_names(["Bored", "joy", "calm"], "here", class_names=["calm", "bored", "happy"])
    assert names == ("calm", "bored", "happy")
    assert labels == {"Bored": 1, "joy": 2, "calm": 0}  # "calm" is a class here, not another name of neutral


@pytest.mark.parametrize("names", [[], ["happy"], ["happy", "Happy "], ["a", "b", "a"]])
def test_classes_of_ones_own_are_two_or_more(names: list[str]) -> None:
    with pytest.raises(ConfigError, match="data.class_names must be two different names or more"):
        read_names(["happy"], "here", class_names=names)


def test_a_mapping_to_nowhere_is_named() -> None:
    with pytest.raises(LabelError, match="data.mapping of 'x': unknown expression 'hapy'; did you mean 'happy'"):
        read_names(["x", "y"], "here", {"x": "hapy"})


@pytest.mark.parametrize(
    "names",
    [
        ["very_happy", "1", "0.5", "007", "no", "null", "True", "~"],
        ["a, b", "c: d", "{e}", "'", '"', "it's", "#x", "- y", "&z", "ä", "x ", "tab\there"],
        [f"class {number}" for number in range(30)],
        ["sadd", "hapiness", "Freude"],
    ],
)
def test_the_proposal_can_be_pasted(names: list[str]) -> None:
    mapping: dict[str, str | None] = {}
    for _ in range(-(-len(names) // 12)):  # long proposals come in parts
        with pytest.raises(LabelError) as caught:
            read_names(names, "here", mapping, SEVEN.class_names)
        message = str(caught.value)
        assert len(message.splitlines()) == 1
        option, value = shlex.split(message.split("pass ")[1].split(" after checking it")[0])
        assert option == "--data.mapping"
        mapping |= {str(name): target for name, target in yaml.safe_load(value).items()}
    labels = read_names(names, "here", mapping, SEVEN.class_names)[1]
    assert labels.get("very_happy", 3) == labels.get("hapiness", 3) == 3
    assert labels.get("sadd", 4) == 4
    assert labels.get("1", -1) == -1


def test_all_synonyms_have_a_meaning() -> None:
    assert set(SYNONYMS.values()) <= set(EIGHT.class_names)
    assert not set(SYNONYMS) & set(EIGHT.class_names)


def test_each_synonym_means_its_expression() -> None:
    assert SYNONYMS == {
        "anger": "angry", "disgusted": "disgust", "afraid": "fear", "fearful": "fear", "scared": "fear",
        "happiness": "happy", "joy": "happy", "sadness": "sad", "surprised": "surprise", "calm": "neutral",
        "contemptuous": "contempt",
    }  # fmt: skip


def test_codes_mean_what_the_data_sets_have_published() -> None:
    assert list(AFFECTNET_CODES.values()) == [
        "neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt",
    ]  # fmt: skip
    assert [RAFDB_CODES[code] for code in range(1, 8)] == [
        "surprise", "fear", "disgust", "happy", "sad", "angry", "neutral",
    ]  # fmt: skip
    known = ["neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise"]
    assert CODE_TABLES["CK+"] == dict(enumerate(known))
    assert CODE_TABLES["CK+48"] == dict(enumerate(known[1:]))
    assert CODE_TABLES["FER2013"] == dict(enumerate((*SEVEN.class_names, "contempt")))
    assert CODE_TABLES["AffectNet"] == {**AFFECTNET_CODES, 8: None, 9: None, 10: None}
    votes = ["neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt", None, None]
    assert CODE_TABLES["FER+"] == dict(enumerate(votes))
    assert CODE_TABLES["alphabetical"] == dict(
        enumerate(["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"])
    )
