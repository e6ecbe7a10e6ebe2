"""Metrics against scikit-learn and against the formulas in the papers."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    precision_recall_fscore_support,
)
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix
from torch import Tensor

from fer_lightning.emotions import EIGHT, SEVEN, LabelScheme
from fer_lightning.errors import ConfigError, LabelError, NonFiniteError
from fer_lightning.metrics import (
    EmotionMetrics,
    MeanLoss,
    accuracy,
    balanced_accuracy,
    bin_means,
    calibration_bins,
    class_scores,
    confusion_matrix,
    expected_calibration_error,
    load_sums,
    macro_f1,
    saved_sums,
    weighted_f1,
    wilson_interval,
)

Case = tuple[NDArray[np.int64], NDArray[np.int64], int]


def draw(seed: int, classes: int, *, true: list[int] | None = None, predicted: list[int] | None = None) -> Case:
    """Return 200 targets and predictions that agree about half of the time, drawn from the given classes only."""
    generator = np.random.default_rng(seed)
    target = generator.choice(true if true is not None else classes, 200)
    preds = generator.choice(predicted if predicted is not None else classes, 200)
    agree = (generator.random(200) < 0.5) & np.isin(target, preds)
    return target, np.where(agree, target, preds), classes


CASES = {
    **{f"seven classes, seed {seed}": draw(seed, 7) for seed in range(4)},
    **{f"three classes, seed {seed}": draw(seed, 3) for seed in range(2)},
    "two classes absent, one of them predicted": draw(5, 7, true=[0, 2, 3, 5, 6], predicted=[0, 1, 2, 6]),
    "one class never predicted": draw(6, 3, predicted=[0, 2]),
    "all of one class": draw(7, 7, true=[4]),
    "all of one class, none found": draw(8, 7, true=[4], predicted=[1, 2]),
    "one sample": (np.array([2]), np.array([2]), 3),
}


@pytest.fixture(params=list(CASES), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def matrix_of(case: Case) -> torch.Tensor:
    target, preds, classes = case
    return confusion_matrix(torch.from_numpy(target), torch.from_numpy(preds), classes)


def test_confusion_matrix_is_scikit_learns(case: Case) -> None:
    target, preds, classes = case
    matrix = matrix_of(case)
    assert matrix.dtype == torch.int64
    np.testing.assert_array_equal(matrix.numpy(), sklearn_confusion_matrix(target, preds, labels=range(classes)))


def test_class_scores_are_scikit_learns_where_they_exist(case: Case) -> None:
    target, preds, classes = case
    precision, recall, f1, support = precision_recall_fscore_support(
        target, preds, labels=range(classes), zero_division=0
    )
    scores = class_scores(matrix_of(case))
    present, predicted = support > 0, np.isin(np.arange(classes), preds)
    np.testing.assert_array_equal(scores.support.numpy(), support)
    np.testing.assert_array_equal(scores.predicted.numpy(), np.bincount(preds, minlength=classes))
    np.testing.assert_allclose(scores.recall.numpy(), np.where(present, recall, np.nan))
    np.testing.assert_allclose(scores.f1.numpy(), np.where(present, f1, np.nan))
    np.testing.assert_allclose(scores.precision.numpy(), np.where(present | predicted, precision, np.nan))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_means_are_scikit_learns(case: Case) -> None:
    target, preds, _ = case
    present = np.unique(target)
    matrix = matrix_of(case)
    assert accuracy(matrix).item() == pytest.approx(accuracy_score(target, preds))
    assert balanced_accuracy(matrix).item() == pytest.approx(balanced_accuracy_score(target, preds))
    expected = f1_score(target, preds, labels=present, average="macro", zero_division=0)
    assert macro_f1(matrix).item() == pytest.approx(expected)
    expected = f1_score(target, preds, labels=present, average="weighted", zero_division=0)
    assert weighted_f1(matrix).item() == pytest.approx(expected)


def test_a_class_that_is_predicted_but_absent_has_no_recall_and_precision_zero() -> None:
    scores = class_scores(torch.tensor([[3, 1, 0], [0, 0, 0], [0, 2, 2]]))
    assert scores.recall[0].item() == 0.75
    assert scores.recall[1].isnan()
    assert scores.f1[1].isnan()
    assert scores.precision[1].item() == 0.0


def test_nothing_counted_is_nan() -> None:
    empty = torch.zeros(3, 3, dtype=torch.int64)
    for mean in (accuracy, balanced_accuracy, macro_f1, weighted_f1):
        assert mean(empty).isnan()


def test_confusion_matrix_leaves_out_what_is_not_kept() -> None:
    keep = torch.tensor([True, False, True])
    matrix = confusion_matrix(torch.tensor([0, -1, 1]), torch.tensor([0, 1, 0]), 2, keep)
    assert matrix.tolist() == [[1, 0], [1, 0]]


def guo_ece(confidence: NDArray[np.float32], correct: NDArray[np.bool_], bins: int) -> float:
    """Equations 2 and 3 of Guo et al. 2017, with a loop over bins ((b - 1) / B, b / B]."""
    total = 0.0
    for b in range(1, bins + 1):
        inside = (confidence > (b - 1) / bins) & (confidence <= b / bins)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].astype(np.float64).mean())
    return total


@pytest.mark.parametrize("bins", [10, 15])
@pytest.mark.parametrize("seed", range(3))
def test_ece_is_the_formula_of_guo_et_al(seed: int, bins: int) -> None:
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(1 / 7, 1.0, 500).astype(np.float32)
    confidence[:3] = 1.0
    correct = generator.random(500) < confidence**2
    sums = calibration_bins(torch.from_numpy(confidence), torch.from_numpy(correct), bins=bins)
    assert sums.shape == (3, bins)
    assert sums[0].sum() == 500
    assert expected_calibration_error(sums).item() == pytest.approx(guo_ece(confidence, correct, bins), abs=1e-12)


def test_bins_are_closed_on_the_right() -> None:
    sums = calibration_bins(torch.tensor([0.25, 0.5, 0.50001, 1.0]), torch.tensor([True, False, True, True]), bins=4)
    assert sums[:2].tolist() == [[1, 1, 1, 1], [1, 0, 1, 1]]


def test_bin_means_are_nan_where_a_bin_is_empty() -> None:
    sums = calibration_bins(torch.tensor([0.75, 1.0]), torch.tensor([True, False]), bins=2)
    confidence, share = bin_means(sums)
    assert confidence[0].isnan()
    assert share[0].isnan()
    assert confidence[1].item() == 0.875
    assert share[1].item() == 0.5
    assert expected_calibration_error(torch.zeros_like(sums)).isnan()


@pytest.mark.parametrize(("successes", "total"), [(0, 10), (1, 10), (7, 10), (10, 10), (431, 1000)])
def test_wilson_interval_solves_the_score_equation(successes: int, total: int) -> None:
    """Wilson 1927: the ends are the shares p with ``|s - n p| = z sqrt(n p (1 - p))``."""
    low, high = wilson_interval(successes, total)
    assert 0.0 <= low <= successes / total <= high <= 1.0
    for end in {low, high} - {0.0, 1.0}:
        distance = abs(successes - total * end)
        assert distance == pytest.approx(1.959963984540054 * math.sqrt(total * end * (1 - end)), rel=1e-9)
    assert high - low > 0.03
    assert (low, high) == pytest.approx(binomtest(successes, total).proportion_ci(0.95, method="wilson"))


@pytest.mark.parametrize("total", [1, 3, 7, 48, 435, 3589])
def test_a_share_is_inside_its_interval_whatever_is_rounded(total: int) -> None:
    for successes in {0, 1, total // 2, total - 1, total}:
        low, high = wilson_interval(successes, total)
        assert 0.0 <= low <= successes / total <= high <= 1.0


def test_wilson_interval_of_nothing_is_nan() -> None:
    assert all(math.isnan(end) for end in wilson_interval(0, 0))


def logits_of(seed: int, count: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(classes, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator)
    return logits + 1.5 * torch.nn.functional.one_hot(target, classes), target


@pytest.mark.parametrize("scheme", [SEVEN, EIGHT], ids=lambda scheme: scheme.name)
def test_metric_keys_values_and_types(scheme: LabelScheme) -> None:
    names = scheme.class_names
    logits, target = logits_of(0, 300, len(names))
    metric = EmotionMetrics(names)
    metric.update(logits, target)
    scores = metric.compute()
    per_class = [f"{score}_{name}" for name in names for score in ("precision", "recall", "f1")]
    assert set(scores) == {"acc", "balanced_acc", "f1_macro", "f1_weighted", "ece", *per_class}
    assert {value.dtype for value in scores.values()} == {torch.float32}
    assert {value.shape for value in scores.values()} == {torch.Size([])}

    probs = logits.softmax(dim=1).numpy()
    preds = probs.argmax(axis=1)
    correct = preds == target.numpy()
    assert scores["acc"].item() == pytest.approx(accuracy_score(target, preds), rel=1e-6)
    assert scores["f1_macro"].item() == pytest.approx(f1_score(target, preds, average="macro"), rel=1e-6)
    assert scores["f1_weighted"].item() == pytest.approx(f1_score(target, preds, average="weighted"), rel=1e-6)
    assert scores["balanced_acc"].item() == pytest.approx(balanced_accuracy_score(target, preds), rel=1e-6)
    assert scores["ece"].item() == pytest.approx(guo_ece(probs.max(axis=1), correct, 15), rel=1e-6)
    precision, recall, f1, _ = precision_recall_fscore_support(target, preds, zero_division=0)
    for label, name in enumerate(names):
        assert scores[f"precision_{name}"].item() == pytest.approx(precision[label], rel=1e-6)
        assert scores[f"recall_{name}"].item() == pytest.approx(recall[label], rel=1e-6)
        assert scores[f"f1_{name}"].item() == pytest.approx(f1[label], rel=1e-6)


def test_batches_in_any_order_sum_to_the_states_of_one_pass() -> None:
    logits, target = logits_of(1, 257, 7)
    whole, parts = EmotionMetrics(SEVEN.class_names), EmotionMetrics(SEVEN.class_names)
    whole.update(logits, target)
    order = torch.randperm(257, generator=torch.Generator().manual_seed(2))
    for rows in torch.tensor_split(order, 26):
        parts.update(logits[rows], target[rows])
    assert torch.equal(whole.confusion, parts.confusion)
    assert torch.equal(whole.bins, parts.bins)
    assert torch.equal(torch.stack([*whole.compute().values()]), torch.stack([*parts.compute().values()]))


def test_states_of_several_processes_are_summed() -> None:
    logits, target = logits_of(3, 100, 7)
    whole, ranks = EmotionMetrics(SEVEN.class_names), [EmotionMetrics(SEVEN.class_names) for _ in range(2)]
    whole.update(logits, target)
    for rank, metric in enumerate(ranks):
        metric.update(logits[rank::2], target[rank::2])
    other = ranks[1]

    def gather(state: torch.Tensor, group: object = None) -> list[torch.Tensor]:
        twin = next(name for name in ("confusion", "bins", "faults") if getattr(other, name).shape == state.shape)
        return [state, getattr(other, twin)]

    ranks[0].dist_sync_fn = gather
    ranks[0].distributed_available_fn = lambda: True
    assert torch.equal(torch.stack([*whole.compute().values()]), torch.stack([*ranks[0].compute().values()]))


def test_half_precision_logits_are_scored_in_float32() -> None:
    logits, target = logits_of(4, 64, 7)
    half, full = EmotionMetrics(SEVEN.class_names), EmotionMetrics(SEVEN.class_names)
    half.update(logits.bfloat16().requires_grad_(), target)
    full.update(logits.bfloat16().float(), target)
    assert torch.equal(half.bins, full.bins)


def test_converting_the_module_leaves_the_counts_whole() -> None:
    metric = EmotionMetrics(SEVEN.class_names).bfloat16()
    assert {state.dtype for state in (metric.confusion, metric.bins, metric.faults)} == {torch.int64}


def test_reset_forgets_and_clones_are_independent() -> None:
    logits, target = logits_of(5, 32, 7)
    first = EmotionMetrics(SEVEN.class_names)
    second = copy.deepcopy(first)
    first.update(logits, target)
    assert second.confusion.sum() == 0
    first.reset()
    assert first.confusion.sum() == 0
    assert first.bins.sum() == 0


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_no_data_at_all_gives_nan() -> None:
    assert all(value.isnan() for value in EmotionMetrics(SEVEN.class_names).compute().values())


def test_an_absent_class_is_nan_and_not_in_the_means() -> None:
    logits, target = logits_of(6, 200, 7)
    target = torch.where(target == 1, 0, target)
    metric = EmotionMetrics(SEVEN.class_names)
    metric.update(logits, target)
    scores = metric.compute()
    assert scores["recall_disgust"].isnan()
    assert scores["f1_disgust"].isnan()
    assert scores["precision_disgust"].item() == 0.0
    recalls = [scores[f"recall_{name}"] for name in SEVEN.class_names if name != "disgust"]
    assert scores["balanced_acc"].item() == pytest.approx(torch.stack(recalls).mean().item())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_logits_are_an_error_until_reset(bad: float) -> None:
    logits, target = logits_of(7, 40, 7)
    metric = EmotionMetrics(SEVEN.class_names)
    metric.update(logits, target)
    logits[3, 2] = bad
    logits[9] = bad
    metric.update(logits, target)
    assert metric.confusion.sum() == metric.bins[0].sum() == 78
    with pytest.raises(NonFiniteError, match=r"^2 samples have NaN or infinite logits"):
        metric.compute()
    metric.reset()
    metric.update(torch.zeros(1, 7), torch.tensor([0]))
    assert metric.compute()["acc"].item() == 1.0


@pytest.mark.parametrize("bad", [-1, 7, 255])
def test_targets_outside_the_scheme_are_an_error(bad: int) -> None:
    logits, target = logits_of(8, 40, 7)
    target[5] = bad
    metric = EmotionMetrics(SEVEN.class_names)
    metric.update(logits, target)
    with pytest.raises(LabelError, match=r"^1 targets are outside 0\.\.6 \(angry"):
        metric.compute()


@pytest.mark.parametrize(("logits", "target"), [((4, 8), (4,)), ((4, 7), (3,)), ((7,), (1,)), ((4, 7), (4, 1))])
def test_shapes_that_do_not_fit_are_an_error(logits: tuple[int, ...], target: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"logits \(N, 7\)"):
        EmotionMetrics(SEVEN.class_names).update(torch.zeros(logits), torch.zeros(target, dtype=torch.int64))


@pytest.mark.parametrize("names", [(), ("happy", "happy")])
def test_class_names_must_be_distinct(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="distinct names"):
        EmotionMetrics(names)


def test_the_mean_loss_weighs_batches_by_their_size() -> None:
    losses = torch.rand(10, generator=torch.Generator().manual_seed(0))
    metric = MeanLoss()
    for part in (losses[:4], losses[4:8], losses[8:]):
        metric.update(part.mean(), len(part))
    assert metric.compute().item() == pytest.approx(losses.mean().item(), rel=1e-6)


def test_a_loss_is_multiplied_by_its_samples_in_float32() -> None:
    # Otherwise the sums of runs that began before it would go on with other digits.
    metric = MeanLoss()
    metric.update(torch.tensor(0.1), 3)
    assert metric.total == int(np.float32(0.1) * np.float32(3) * 2**30) == 322_122_560


def test_the_order_of_the_batches_does_not_show_in_the_mean_loss() -> None:
    losses = torch.rand(50, generator=torch.Generator().manual_seed(1)) * 3
    forwards, backwards = MeanLoss(), MeanLoss()
    for number in range(50):
        forwards.update(losses[number], 7 + number % 3)
        backwards.update(losses[49 - number], 7 + (49 - number) % 3)
    assert forwards.compute().item() == backwards.compute().item()


class Sums:
    """What is summed up in training."""

    def __init__(self) -> None:
        self.loss, self.scores = MeanLoss(), EmotionMetrics(SEVEN.class_names)
        self.all: list[EmotionMetrics | MeanLoss] = [self.loss, self.scores]

    def feed(self, logits: Tensor, target: Tensor) -> None:
        self.loss.update(torch.nn.functional.cross_entropy(logits, target), len(target))
        self.scores.update(logits, target)

    def values(self) -> dict[str, float]:
        scores = {name: value.item() for name, value in self.scores.compute().items()}
        return {"loss": self.loss.compute().item(), **scores}


def test_sums_that_were_saved_go_on_as_if_nothing_had_been() -> None:
    batches = [logits_of(seed, 20, 7) for seed in range(3)]
    whole, parts, resumed = Sums(), Sums(), Sums()
    for batch in batches:
        whole.feed(*batch)
    for batch in batches[:2]:
        parts.feed(*batch)
    saved = saved_sums(parts.all, alone=True)
    parts.feed(*batches[2])  # what comes after is not in what was saved
    load_sums(resumed.all, saved)
    resumed.feed(*batches[2])
    assert resumed.values() == pytest.approx(whole.values(), rel=0, abs=0, nan_ok=True)
    assert not any(value.any() for states in saved_sums(Sums().all, alone=True) for value in states.values())
    whole.feed(*batches[0])
    load_sums(whole.all, saved)  # in place of what was summed up there
    whole.feed(*batches[2])
    assert whole.values() == pytest.approx(resumed.values(), rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize(("alone", "times"), [(True, 1), (False, 2)])
def test_sums_that_are_saved_together_are_those_of_all_processes(
    monkeypatch: pytest.MonkeyPatch, alone: bool, times: int
) -> None:
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda value: value.mul_(2))  # another process has the same
    own = Sums()
    own.feed(*logits_of(1, 20, 7))
    loss, scores = saved_sums(own.all, alone)
    assert loss["samples"] == 20 * times
    assert torch.equal(loss["total"], own.loss.total * times)
    assert torch.equal(scores["confusion"], own.scores.confusion * times)
    assert torch.equal(scores["bins"], own.scores.bins * times)
    assert own.loss.samples == 20  # what is summed up here goes on alone


@pytest.mark.gpu
def test_update_does_not_wait_for_the_gpu() -> None:
    logits, target = (tensor.cuda() for tensor in logits_of(9, 64, 7))
    metric = EmotionMetrics(SEVEN.class_names).cuda()
    metric.update(logits, target)
    torch.cuda.set_sync_debug_mode("error")
    try:
        metric.update(logits, target)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert metric.compute()["acc"].device.type == "cuda"
