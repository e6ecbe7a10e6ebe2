from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F

from fer_lightning.models.epoch_scores import EpochScores, score_names

NAMES = ("angry", "happy", "sad")


def fed(classes: int = 2) -> EpochScores:
    """Return scores of six samples in each split, of the first classes alone."""
    scores, target = EpochScores(NAMES), torch.arange(6) % classes
    for number, metrics in enumerate((scores.of_train, scores.of_val, scores.of_test)):
        logits = F.one_hot(target, 3).float()
        logits[:number] = torch.tensor([0.0, 0.0, 5.0])
        metrics.update(logits, target)
    scores.train_loss.update(torch.tensor(0.25), 4)
    scores.train_loss.update(torch.tensor(1.0), 2)
    return scores


@pytest.mark.parametrize(("split", "right"), [("train", 6), ("val", 5), ("test", 4)])
def test_the_scores_of_a_split_are_its_own_and_start_anew(split: Literal["train", "val", "test"], right: int) -> None:
    scores = fed()
    found = scores.computed(split)
    assert found[f"{split}_acc"] == pytest.approx(right / 6)
    assert all(name.startswith(f"{split}_") for name in found)
    assert f"{split}_f1_happy" in found
    assert f"{split}_recall_sad" not in found  # there is none in the truth, and a logger would show NaN
    assert not any(torch.isnan(value) for value in found.values())
    if split == "train":
        assert found["train_loss"] == pytest.approx(0.5)
        assert scores.train_loss.samples == 0
    else:
        assert f"{split}_loss" not in found
        assert scores.train_loss.samples == 6
    left = {"train": scores.of_train, "val": scores.of_val, "test": scores.of_test}
    assert {name: bool(metrics.confusion.any()) for name, metrics in left.items()} == {
        name: name != split for name in left
    }


def test_a_training_epoch_that_was_left_is_forgotten_and_one_that_was_saved_goes_on() -> None:
    scores, resumed = fed(), EpochScores(NAMES)
    saved = scores.saved(alone=True)
    scores.forget_training()
    assert scores.train_loss.samples == 0
    assert not scores.of_train.confusion.any()
    assert scores.of_val.confusion.any()
    resumed.load(saved)
    assert resumed.computed("train") == fed().computed("train")
    assert not resumed.of_val.confusion.any()


def test_every_score_that_can_be_logged_is_named() -> None:
    found = {name.removeprefix("val_") for name in fed(3).computed("val")}
    assert found == set(score_names(NAMES))
    assert score_names(NAMES)[:5] == ("acc", "balanced_acc", "f1_macro", "f1_weighted", "ece")
