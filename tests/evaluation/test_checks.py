"""What speaks for an evaluation and against it: complete sentences, made from numbers that are all different."""

from __future__ import annotations

from typing import Any

import pytest

from fer_lightning.evaluation.checks import checks, weak_spot


def made_up(context: dict[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
    per_class = {
        "angry": {"support": 40, "predicted": 50, "precision": 0.41, "recall": 0.52, "f1": 0.46},
        "happy": {"support": 50, "predicted": 40, "precision": 0.91, "recall": 0.51, "f1": 0.65},
        "sad": {"support": 0, "predicted": 1, "precision": 0.0, "recall": None, "f1": None},
    }
    return {
        "n": 90,
        "split": "test",
        "scheme": "own",
        "class_names": ["angry", "happy", "sad"],
        "confusion_matrix": [[21, 12, 7], [9, 25, 16], [0, 0, 0]],
        "per_class": per_class,
        "uncertainty": {"distinct": 88, "per_class": {name: {"recall": (0.31, 0.72)} for name in per_class}},
        "seen": {"train": 0, "val": 0, "unknown": []},
        "looks": {"number": 1, "repeats": 0, "gain": 0.0},
        "context": {
            "precision": "32-true",
            "code": {"commit": "0123456789abcdef" * 2, "dirty": False},
            **(context or {}),
        },
        **changed,
    }


def test_all_that_is_known_of_a_sound_evaluation_is_listed() -> None:
    assert checks(made_up()) == [
        ("ok", "No image of this split was trained on (identical ones, by their digests)."),
        ("ok", "2 images of this split repeat another; intervals count identical ones as one."),
        ("ok", "This is the first look at this split in this project folder."),
        ("ok", "Nothing was chosen on this split: the best epoch was chosen on the validation part."),
        ("ok", "Computed in float32."),
        ("ok", "Labels: own (angry, happy, sad)."),
        ("ok", "The code is commit 0123456789ab."),
    ]
    once = made_up(uncertainty={**made_up()["uncertainty"], "distinct": 90})
    assert ("ok", "No image is twice in this split.") in checks(once)


def test_doubts_stand_first_then_what_is_not_known() -> None:
    doubtful = made_up(
        {"precision": "bf16-mixed", "code": {"commit": "0123456789abcdef", "dirty": True}, "overlap_with_train": 5},
        seen={"train": 9, "val": 4, "unknown": ["why", "and why"]},
        looks={"number": 7, "repeats": 2, "gain": 0.0123},
    )
    assert checks(doubtful)[:7] == [
        ("warning", "9 images of this split (10.0%) were trained on; see the scores without them."),
        (
            "warning",
            "This is look 7 at this split in this project folder: choosing the best of 7 equal models would gain up to "
            "1.2 points of accuracy.",
        ),
        (
            "warning",
            "The best epoch was chosen on 4 images of this split (4.4%): on them, scores are a little too good.",
        ),
        ("warning", "Computed in bf16-mixed: a few labels differ from those in float32."),
        ("warning", "The code is commit 0123456789ab with changes that are in no commit."),
        ("unknown", "Which images the model has seen before is not wholly known: why."),
        ("unknown", "Which images the model has seen before is not wholly known: and why."),
    ]
    unknown = made_up({"precision": None, "code": None}, seen=None, looks=None)
    assert [sentence for state, sentence in checks(unknown) if state == "unknown"] == [
        "Whether images of this split were trained on is not known.",
        "How often this split was looked at before is not known.",
        "The precision of the computation is not known.",
        "The commit of the code is not known: it ran from an installed package.",
    ]


@pytest.mark.parametrize(
    ("changed", "context", "said"),
    [
        ({"seen": {"train": None}}, {"overlap_with_train": 1}, "1 image of this split (1.1%) were trained on"),
        ({"seen": {"train": 0}}, {"overlap_with_train": 1}, "No image of this split was trained on"),
        (
            {"looks": {"number": 2, "repeats": 0, "gain": None}},
            {},
            "This is look 2 at this split in this project folder.",
        ),
        ({"looks": {"number": 2, "repeats": 0, "gain": 0.0}}, {}, "would gain up to 0.0 points of accuracy."),
        ({"split": "val"}, {}, "The best epoch was chosen on these images"),
        ({"split": "val", "seen": {"train": 0, "val": 89}}, {}, "The best epoch was chosen on these images"),
        ({"seen": {"train": 0, "val": 90}}, {}, "chosen on these images: the scores are a little too good. Test on"),
        ({"seen": {"train": 0, "val": 89}}, {}, "chosen on 89 images of this split (98.9%)"),
        ({"seen": {"train": 0, "val": 1}}, {}, "chosen on 1 image of this split (1.1%)"),
        ({}, {"precision": "64"}, "Computed in float32."),
        ({}, {"precision": 32}, "Computed in float32."),
    ],
)
def test_each_doubt_has_its_bound(changed: dict[str, Any], context: dict[str, Any], said: str) -> None:
    assert [sentence for _, sentence in checks(made_up(context, **changed)) if said in sentence]


def test_the_weak_spot_is_told_with_its_numbers() -> None:
    assert weak_spot(made_up()) == (
        "The weak spot is angry: 52% of its 40 images are found (95 %: 31% to 72%); 30% are taken for happy; of what "
        "is called angry, 41% is."
    )
    weaker = made_up()
    weaker["per_class"]["happy"] |= {"f1": 0.1}
    assert weak_spot(weaker) == (
        "The weak spot is happy: 51% of its 50 images are found (95 %: 31% to 72%); 32% are taken for sad."
    )
    never = {**made_up()["per_class"]["angry"], "predicted": 0, "precision": None}
    assert weak_spot(made_up(per_class={"angry": never})).endswith("; 30% are taken for happy.")
    assert weak_spot(made_up(per_class={"sad": made_up()["per_class"]["sad"]})) == ""
