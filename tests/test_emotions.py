from __future__ import annotations

import shlex
from collections.abc import Sequence
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
    _guess,
    canonical,
    code_key,
    code_of,
    fitting_tables,
    is_expression,
    mapping_option,
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
    assert CODE_TABLES["alphabetical with contempt"] == dict(
        enumerate(["angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise"])
    )
    assert CODE_TABLES["RAF-DB"] == RAFDB_CODES


def test_a_scheme_is_its_classes_in_their_order() -> None:
    assert scheme_of(list(EIGHT.class_names)) == "fer8"
    assert scheme_of(SEVEN.class_names[::-1]) == "custom"


def test_a_number_joined_to_a_name_does_not_matter() -> None:
    for name in ("0_angry", "angry_0", "Angry-12", "3.anger", "007 angry", "anger . 1"):
        assert canonical(name) == "angry", name
    for name in ("angry0", "0angry", "angry_happy", "1000_angry", "_angry", "4", ""):
        assert not is_expression(name), name
    assert is_expression("Contempt")


def test_codes_are_whole_numbers_of_up_to_three_digits() -> None:
    assert [code_of(name) for name in ("0", "007", " 12 ", "3.0", "3.", "3.00", "255")] == [0, 7, 12, 3, 3, 3, 255]
    assert [code_of(name) for name in ("3.5", "0.01", "1000", "-1", "1e2", "", "x1", "٣")] == [None] * 8
    assert [code_key(name) for name in ("255", "3.5", "Sad ")] == ["255", "3.5", "sad"]


FITTING = [
    (
        range(7),
        [
            *("FER2013", "AffectNet", "FER+", "CK+", "CK+48", "alphabetical", "alphabetical with contempt"),
            "RAF-DB (counted from 0)",
        ],
    ),
    (range(8), ["FER2013", "AffectNet", "FER+", "CK+", "alphabetical with contempt"]),
    (
        range(1, 8),
        [
            *("CK+ or CK+48 (counted from 1)", "RAF-DB", "FER2013 (counted from 1)", "AffectNet (counted from 1)"),
            *("FER+ (counted from 1)", "alphabetical (counted from 1)", "alphabetical with contempt (counted from 1)"),
        ],
    ),
    ((2,), ["FER2013 or RAF-DB or alphabetical", "AffectNet", "FER+", "CK+", "CK+48 or alphabetical with contempt"]),
    (range(11), ["AffectNet"]),
    ((0, 12), []),
]


@pytest.mark.parametrize(("codes", "whose"), FITTING)
def test_the_tables_that_fit_are_offered_as_sets_count(codes: Sequence[int], whose: list[str]) -> None:
    found = fitting_tables(codes)
    assert list(found) == whose
    assert all(list(table) == list(codes) for table in found.values())
    if codes == range(7):
        assert found["RAF-DB (counted from 0)"] == {code - 1: name for code, name in RAFDB_CODES.items()}
    if codes == range(1, 8):
        assert found["FER2013 (counted from 1)"] == {code + 1: name for code, name in FER2013_CODES.items()}
        assert found["CK+ or CK+48 (counted from 1)"][1] == "angry"


def offers(names: Sequence[str], class_names: Sequence[str] | None = None) -> dict[str, dict[str, str | None]]:
    """Return the mappings that the message about unknown codes offers, by whose they are."""
    with pytest.raises(LabelError, match="stand for different expressions in different data sets") as caught:
        read_names(names, "here", class_names=class_names)
    parts = str(caught.value).split("(null leaves a class out): ")[1].split("; ")
    found: dict[str, dict[str, str | None]] = {}
    for part in parts:
        whose, _, option = part.partition(": ")
        flag, value = shlex.split(option)
        assert flag == "--data.mapping"
        found[whose] = {str(code): meaning for code, meaning in yaml.safe_load(value).items()}
    return found


def test_codes_that_could_mean_anything_are_offered_with_each_table() -> None:
    assert offers(["2", "0", "1", "99"])["AffectNet"] == {"2": "sad", "0": "neutral", "1": "happy", "99": None}
    own = ["happy", "sad", "neutral"]
    assert offers(["0", "1", "2"], own) == {
        "in the order of data.class_names": {"0": "happy", "1": "sad", "2": "neutral"},
        "AffectNet": {"0": "neutral", "1": "happy", "2": "sad"},
        "FER+": {"0": "neutral", "1": "happy", "2": None},  # tables with fewer than two of the classes are left out
    }
    assert list(offers(["0", "1", "2", "3"], own)) == ["AffectNet", "FER+"]
    assert offers(["1", "2"], ["bad", "good"]) == {"in the order of data.class_names": {"1": "bad", "2": "good"}}
    neutral_first = ["neutral", "happy", "sad"]
    assert list(offers(["0", "1", "2"], neutral_first)) == ["in the order of data.class_names", "FER+"]
    assert list(offers(["150", "151"])) == ["no known table has them"]
    for whose, mapping in offers(["0", "1", "2", "3", "4", "5", "6"]).items():
        names, labels = read_names(mapping, "here", mapping)
        assert {code: names[label] for code, label in labels.items()} == mapping, whose


def test_up_to_twelve_names_are_shown_and_the_others_counted() -> None:
    with pytest.raises(LabelError, match=r"'c0', .*'c11' and 3 more \(known: .*pass data.class_names for classes of"):
        read_names([f"c{place}" for place in range(15)], "here")
    with pytest.raises(LabelError, match=r"'c11' \(known: .*pass --data.class_names '\[c0, c1, c10"):
        read_names([f"c{place}" for place in range(12)], "here")
    with pytest.raises(LabelError, match=r"the codes 0, 1, .*11, \.\.\. stand for"):
        read_names(map(str, range(13)), "here")
    with pytest.raises(LabelError, match=r"the codes 0, 1, .*11 stand for"):
        read_names(map(str, range(12)), "here")


def test_a_guess_needs_more_than_two_letters_or_nearly_the_same_ones() -> None:
    guesses = {"very angry": "angry", "hppy": "happy", "scaredcat": "fear", "nt": None, "sa": "sad", "anagram": None}
    assert {name: _guess(name, SEVEN.class_names) for name in guesses} == guesses
    assert _guess("anxy", ["x", "sad"]) is None


def test_words_that_yaml_does_not_read_as_text_are_in_quotes() -> None:
    words = ["true", "False", "YES", "no", "on", "Off", "null", "y", "N", "1", "01", "1.5", "a b", "sad"]
    option, value = shlex.split(mapping_option(dict.fromkeys(words, "sad")))
    assert option == "--data.mapping"
    assert {str(key): meaning for key, meaning in yaml.safe_load(value).items()} == dict.fromkeys(words, "sad")
    assert all(isinstance(key, str) for key in yaml.safe_load(value) if key != 1)


def test_a_mapping_is_found_whatever_its_case_and_zeros() -> None:
    mapping: Any = {"Wut ": "angry", "01": "happy", "2.0": "sad", "FREUDE": "Joy"}
    assert read_names([" wut", "1", "2", "Freude"], "here", mapping)[1] == {" wut": 0, "1": 3, "2": 4, "Freude": 3}
    assert read_names(["a", "b"], "here", {"A": "Calm", "B": "Bored"}, ["calm", "bored"])[1] == {"a": 0, "b": 1}
