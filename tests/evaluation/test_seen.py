"""What is said of images that a model has seen, and of looks at a split."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats
from sklearn.metrics import f1_score

from fer_lightning.evaluation.looks import expected_largest, looks_content, looks_text, selection_gain
from fer_lightning.evaluation.seen import OLDER, seen_images, seen_rows, seen_text
from fer_lightning.runs.looks import Look, Standing, append_look, broken_links, read_looks, standing
from fer_lightning.runs.trained_on import TrainedOn, text_numbers
from tests.helpers.predictions import guessed


def seen(train: int, val: int, n: int, *unknown: str) -> dict[str, Any]:
    without = {"n": n, "accuracy": 0.5, "f1_macro": 0.25} if n else {"n": 0, "accuracy": None, "f1_macro": None}
    return {"train": train, "val": val, "unknown": list(unknown), "without": without}


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        (seen(0, 0, 100), ["The model was trained on none of them."]),
        (
            seen(30, 0, 70, "timm x"),
            [
                "The model was trained on 30 of them.",
                "On the other 70: accuracy 0.5000, macro F1 0.2500.",
                "Further images that it was trained on are not known: timm x.",
            ],
        ),
        (
            seen(30, 12, 58),
            [
                "The model was trained on 30 of them; its best epoch was chosen on 12 more.",
                "On the other 58: accuracy 0.5000, macro F1 0.2500.",
            ],
        ),
        (seen(0, 100, 100), ["The model was trained on none of them; its best epoch was chosen on all of them."]),
        (
            seen(0, 40, 60),
            [
                "The model was trained on none of them; its best epoch was chosen on 40 of them.",
                "On the other 60: accuracy 0.5000, macro F1 0.2500.",
            ],
        ),
        (seen(100, 0, 0), ["The model was trained on all of them."]),
        (
            {"train": None, "val": None, "unknown": ["why", "and why"], "without": None},
            ["Whether the model was trained on any of them is not known: why; and why."],
        ),
    ],
)
def test_what_a_model_has_seen_is_said_in_words(found: dict[str, Any], lines: list[str]) -> None:
    assert seen_text(found, 100) == lines


@pytest.mark.parametrize("count", [1, 2, 5, 6, 20, 300])
def test_the_expected_largest_number_is_that_of_numeric_integration(count: int) -> None:
    density = lambda x: x * count * stats.norm.pdf(x) * stats.norm.cdf(x) ** (count - 1)  # noqa: E731
    assert expected_largest(count) == pytest.approx(integrate.quad(density, -8, 8)[0], abs=1e-5)


def test_choosing_among_models_gains_without_any_being_better() -> None:
    assert selection_gain(0.7, 3589, 10) == pytest.approx(0.0118, abs=1e-4)  # 1.18 points
    assert (selection_gain(0.7, 3589, 1), selection_gain(0.7, 0, 3), selection_gain(1.0, 50, 3)) == (0, 0, 0)
    assert looks_content(None, 0.5, 10) is None
    first = looks_content(Standing(1, 2), 0.7, 3589)
    sixth = looks_content(Standing(6, 0), 0.7, 3589)
    assert first is not None
    assert sixth is not None
    assert looks_text(first) == "Look 1 at this split, repeated 2 times."
    assert looks_text(sixth) == (
        "Look 6 at this split: choosing the best of 6 equal models would gain up to 1.0 points of accuracy."
    )


@pytest.mark.parametrize(
    ("number", "repeats", "gain", "said"),
    [
        (1, 0, 0.0, "Look 1 at this split."),
        (1, 1, None, "Look 1 at this split, repeated 1 time."),
        (2, 0, None, "Look 2 at this split."),
        (
            2,
            3,
            0.0054,
            "Look 2 at this split, repeated 3 times: choosing the best of 2 equal models would gain up to 0.5 points "
            "of accuracy.",
        ),
    ],
)
def test_looks_are_said_in_words(number: int, repeats: int, gain: float | None, said: str) -> None:
    assert looks_text({"number": number, "repeats": repeats, "gain": gain}) == said


def test_a_look_gains_by_its_number_not_by_its_repeats() -> None:
    assert looks_content(Standing(2, 5), 0.7, 100) == {"number": 2, "repeats": 5, "gain": selection_gain(0.7, 100, 2)}
    assert selection_gain(0.7, 100, 2) == pytest.approx(0.5642 * (0.21 / 100) ** 0.5, rel=1e-3)
    assert looks_content(Standing(2, 5), None, 0) == {"number": 2, "repeats": 5, "gain": None}


def look(weights: str, fingerprint: str = "a", **settings: str) -> Look:
    return Look("", "test", "test", fingerprint, 10, "best.ckpt", "", weights, settings)


def test_a_repeat_is_no_further_look() -> None:
    looks = [look("x"), look("y"), look("x"), look("z", "b"), look("x", tau="1"), look("y")]
    stands = [standing(looks[: place + 1]) for place in range(len(looks))]
    assert [(each.number, each.repeats) for each in stands] == [(1, 0), (2, 0), (1, 1), (1, 0), (3, 0), (2, 1)]


def test_a_line_that_was_cut_off_damages_no_other(tmp_path: Path) -> None:
    for weights in ("x", "y"):
        append_look(tmp_path, look(weights))
    log = tmp_path / "evaluations.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    assert append_look(tmp_path, look("z")) == Standing(2, 0)
    assert [each.weights for each in read_looks(tmp_path)] == ["x", "z"]
    assert broken_links(tmp_path) == ["line 2 is damaged"]


def test_several_writers_make_one_chain(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        stands = list(pool.map(lambda place: append_look(tmp_path, look(f"w{place % 10}")), range(40)))
    assert len(read_looks(tmp_path)) == 40
    assert broken_links(tmp_path) == []
    assert sorted(each.number for each in stands if not each.repeats) == list(range(1, 11))


@pytest.mark.parametrize(("split", "count"), [("test", 30), ("val", 20)])
def test_images_that_chose_the_model_count_but_for_a_validation_split(split: str, count: int) -> None:
    predictions = replace(guessed(0.6, 1), split=split)
    numbers = text_numbers(predictions.digests.tolist())
    record = TrainedOn(np.sort(numbers[:20]), np.sort(numbers[20:30]))
    seen = seen_rows(predictions, record)
    assert seen is not None
    np.testing.assert_array_equal(np.flatnonzero(seen), np.arange(count))
    told = seen_images(predictions, record)
    assert (told["train"], told["val"], told["without"]["n"]) == (20, 10, 300 - count)
    right = (predictions.preds == predictions.target)[count:]
    assert told["without"]["accuracy"] == pytest.approx(right.mean())
    scores = f1_score(predictions.target[count:], predictions.preds[count:], average="macro")
    assert told["without"]["f1_macro"] == pytest.approx(scores)


NOTHING, SOME = np.zeros(0, np.uint64), text_numbers(["0000000000000001"])


def test_where_nothing_can_be_known_it_is_said_why() -> None:
    predictions = guessed(0.6, 1)
    unknown = {"train": None, "val": None, "without": None}
    assert seen_images(predictions, None) == {**unknown, "unknown": [OLDER]}
    assert seen_images(predictions, TrainedOn(NOTHING, NOTHING, ("why",))) == {**unknown, "unknown": ["why"]}
    one_lacks = replace(predictions, digests=np.where(predictions.index == 3, "", predictions.digests))
    assert seen_images(one_lacks, TrainedOn(SOME, NOTHING)) == {**unknown, "unknown": []}
    only_chosen = seen_images(predictions, TrainedOn(NOTHING, SOME))
    assert (only_chosen["train"], only_chosen["val"], only_chosen["without"]["n"]) == (0, 1, 299)
    all_of = seen_images(predictions, TrainedOn(np.sort(text_numbers(predictions.digests.tolist())), NOTHING))
    assert all_of["without"] == {"n": 0, "accuracy": None, "f1_macro": None}
