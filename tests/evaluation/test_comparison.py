from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from fer_lightning.errors import DataError
from fer_lightning.evaluation.comparison import Evaluation, aligned, comparison
from fer_lightning.evaluation.pairs import cluster_mcnemar
from fer_lightning.evaluation.predictions import EvaluationResult, Predictions
from tests.helpers.predictions import told

NAMES = ("angry", "happy", "sad")


def evaluated(skill: float, seed: int, rows: int = 300) -> Predictions:
    """Return predictions for the same images, in an order of their own."""
    target = np.random.default_rng(7).integers(0, 3, rows)
    rng = np.random.default_rng(seed)
    index = rng.permutation(rows)
    preds = np.where(rng.random(rows) < skill, target[index], rng.integers(0, 3, rows))
    probs = np.full((rows, 3), 0.2, np.float32)
    probs[np.arange(rows), preds] = 0.6
    result = EvaluationResult(NAMES, index, target[index], probs)
    return told(result, [f"{row}.png" for row in range(rows)], f"m{seed}", split="test")


def test_images_are_brought_together_by_their_digests() -> None:
    first, second = Evaluation("a", evaluated(0.8, 0)), Evaluation("b", evaluated(0.6, 1))
    one, two = aligned([first, second])
    assert (first.predictions.index[one] == second.predictions.index[two]).all()
    assert (first.predictions.target[one] == second.predictions.target[two]).all()


def test_a_better_model_is_found_better() -> None:
    first, second = evaluated(0.5, 0), evaluated(0.8, 1)
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
    assert [entry["images"] for entry in found["classes"]] == np.bincount(target).tolist()
    assert all(entry["p_holm"] >= entry["p"] for entry in found["classes"])
    assert (found["images"], found["distinct"], found["split"]) == (300, 300, "test")


def test_a_model_does_not_differ_from_itself() -> None:
    one = evaluated(0.7, 0)
    shuffled = np.random.default_rng(3).permutation(300)
    again = replace(
        one,
        **{name: getattr(one, name)[shuffled] for name in ("index", "target", "probs", "files", "digests")},
    )
    found = comparison([Evaluation("a", one), Evaluation("b", again), Evaluation("c", evaluated(0.7, 2))], draws=200)
    assert found["pairs"][0]["accuracy"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["pairs"][0]["p"] == 1.0
    assert [(pair["first"], pair["second"]) for pair in found["pairs"]] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found["models"][0]["accuracy"] == found["models"][1]["accuracy"]
    assert found["models"][0]["nll"] == pytest.approx(found["models"][1]["nll"])


def test_what_cannot_be_compared_is_refused() -> None:
    one = evaluated(0.7, 0)
    other = replace(one, class_names=("angry", "happy", "fear"))
    with pytest.raises(DataError, match="a and b have other classes: angry, happy, sad / angry, happy, fear"):
        comparison([Evaluation("a", one), Evaluation("b", other)])
    with pytest.raises(
        DataError, match=r"a \(test\) and b \(test\) are evaluations of other images \(300 and 200, 200 in"
    ):
        comparison([Evaluation("a", one), Evaluation("b", evaluated(0.7, 0, 200))])
    relabelled = replace(one, target=(one.target + (np.arange(300) < 4)) % 3)
    with pytest.raises(DataError, match="were scored against other labels: 4 of 300"):
        comparison([Evaluation("a", one), Evaluation("b", relabelled)])
    with pytest.raises(DataError, match="b has no digests"):
        comparison([Evaluation("a", one), Evaluation("b", replace(one, digests=np.full(300, "")))])
    with pytest.raises(DataError, match="b has no true classes: run fer test again"):
        comparison([Evaluation("a", one), Evaluation("b", replace(one, known=False))])
    with pytest.raises(DataError, match="two evaluations or more"):
        comparison([Evaluation("a", one)])
