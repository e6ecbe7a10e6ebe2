from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from fer_lightning.errors import DataError
from fer_lightning.evaluation.comparison import Evaluation, aligned, comparison
from fer_lightning.evaluation.pairs import cluster_mcnemar
from fer_lightning.evaluation.score_intervals import paired_ends
from tests.helpers.predictions import guessed

NAMES = ("angry", "happy", "sad")


def test_images_are_brought_together_by_their_digests() -> None:
    first, second = Evaluation("a", guessed(0.8, 0)), Evaluation("b", guessed(0.6, 1))
    one, two = aligned([first, second])
    assert (first.predictions.index[one] == second.predictions.index[two]).all()
    assert (first.predictions.target[one] == second.predictions.target[two]).all()


def test_a_better_model_is_found_better() -> None:
    first, second = guessed(0.5, 0), guessed(0.8, 1)
    found = comparison([Evaluation("a", first), Evaluation("b", second)], draws=2_000)
    one, two = aligned([Evaluation("a", first), Evaluation("b", second)])
    target, before, after = first.target[one], first.preds[one], second.preds[two]
    [pair] = found["pairs"]
    assert pair["accuracy"]["value"] == pytest.approx((after == target).mean() - (before == target).mean())
    wanted = f1_score(target, after, average="macro") - f1_score(target, before, average="macro")
    assert pair["f1_macro"]["value"] == pytest.approx(wanted)
    assert 0 < pair["accuracy"]["low"] < pair["accuracy"]["value"] < pair["accuracy"]["high"]
    assert pair["second_only"] - pair["first_only"] == round(300 * pair["accuracy"]["value"])
    assert pair["p"] == cluster_mcnemar(before == target, after == target, np.arange(300)) < 0.001
    assert pair["p_holm"] == pair["p"]
    change = {entry["class"]: entry["recall"] for entry in found["classes"]}
    for label, name in enumerate(NAMES):
        rows = target == label
        assert change[name] == pytest.approx((after[rows] == label).mean() - (before[rows] == label).mean())
        gained = f1_score(target, after, labels=[label], average=None) - f1_score(
            target, before, labels=[label], average=None
        )
        entry = found["classes"][label]
        assert entry["f1"] == pytest.approx(gained[0])
        assert entry["after"] - entry["before"] == pytest.approx(entry["recall"])
    assert [entry["images"] for entry in found["classes"]] == np.bincount(target).tolist()
    assert all(entry["p_holm"] >= entry["p"] for entry in found["classes"])
    assert (found["images"], found["distinct"], found["split"]) == (300, 300, "test")


def test_a_model_does_not_differ_from_itself() -> None:
    one = guessed(0.7, 0)
    shuffled = np.random.default_rng(3).permutation(300)
    again = replace(
        one,
        **{name: getattr(one, name)[shuffled] for name in ("index", "target", "probs", "files", "digests")},
    )
    found = comparison([Evaluation("a", one), Evaluation("b", again), Evaluation("c", guessed(0.7, 2))], draws=200)
    low, high = paired_ends(0, 0, 300)  # what 300 images leave open
    assert found["pairs"][0]["accuracy"] == {"value": 0.0, "low": low, "high": high}
    assert found["pairs"][0]["p"] == 1.0
    assert [(pair["first"], pair["second"]) for pair in found["pairs"]] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found["models"][0]["accuracy"] == found["models"][1]["accuracy"]
    assert found["models"][0]["nll"] == pytest.approx(found["models"][1]["nll"])


def test_the_most_accurate_of_equal_models_is_so_by_luck() -> None:
    models = [Evaluation(str(seed), guessed(0.6, seed)) for seed in range(6)]
    found = comparison(models, draws=4_000)
    accuracy = np.mean([model["accuracy"]["value"] for model in found["models"]])
    # independent errors: E[max of 6] = 1.267 standard deviations of one; they share no image's difficulty here
    assert found["luck"] == pytest.approx(1.267 * (accuracy * (1 - accuracy) / 300) ** 0.5, rel=0.15)
    alike = [Evaluation(str(place), models[0].predictions) for place in range(6)]
    assert comparison(alike, draws=100)["luck"] == pytest.approx(0)


def test_what_cannot_be_compared_is_refused() -> None:
    one = guessed(0.7, 0)
    four = guessed(0.7, 0, names=("angry", "happy", "sad", "fear"))
    with pytest.raises(DataError, match="a has 3 classes and b 4, which cannot be compared: only b has fear"):
        comparison([Evaluation("a", one), Evaluation("b", four)])
    other = replace(one, class_names=("angry", "happy", "fear"))
    with pytest.raises(DataError, match="only a has sad; only b has fear"):
        comparison([Evaluation("a", one), Evaluation("b", other)])
    with pytest.raises(DataError, match="they are in another order"):
        comparison([Evaluation("a", one), Evaluation("b", replace(one, class_names=("sad", "happy", "angry")))])
    small = replace(guessed(0.7, 0, 200), split="val")
    told = r"other images, with 200 in common: a \(300 images, test, fingerprint f1\) and b \(200 images, val\)"
    with pytest.raises(DataError, match=told):
        comparison([Evaluation("a", one, "f1"), Evaluation("b", small)])
    relabelled = replace(one, target=(one.target + (np.arange(300) < 4)) % 3)
    with pytest.raises(DataError, match="were scored against other labels: 4 of 300"):
        comparison([Evaluation("a", one), Evaluation("b", relabelled)])
    old = Evaluation("b", replace(one, digests=np.full(300, "")), again="fer validate --ckpt_path runs/b")
    with pytest.raises(DataError, match=r"b has no digests .*: run fer validate --ckpt_path runs/b again"):
        comparison([Evaluation("a", one), old])
    with pytest.raises(DataError, match="b has no true classes: run fer test again"):
        comparison([Evaluation("a", one), Evaluation("b", replace(one, known=False))])
    with pytest.raises(DataError, match="two evaluations or more"):
        comparison([Evaluation("a", one)])
