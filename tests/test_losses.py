from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor

from fer_lightning.class_weights import class_weights
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError
from fer_lightning.losses import (
    CountedLoss,
    FocalLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    WeightedCrossEntropy,
    ldam_margins,
)
from fer_lightning.models.precision import measure_precision
from fer_lightning.models.task import EmotionTask
from tests.helpers.cli import QUICK, fer, fit, same_weights, weights, written_config

FER2013 = {"angry": 3995, "disgust": 436, "fear": 4097, "happy": 7215, "sad": 4830, "surprise": 3171, "neutral": 4965}
COUNTS = np.array(list(FER2013.values()), float)

MAKERS: dict[str, Callable[[], CountedLoss]] = {
    "inverse": WeightedCrossEntropy,
    "smoothed": lambda: WeightedCrossEntropy("square_root", label_smoothing=0.1),
    "class_balanced": lambda: WeightedCrossEntropy("effective_number", multipliers={"fear": 2}),
    "unweighted": lambda: WeightedCrossEntropy("none"),
    "focal": FocalLoss,
    "focal_half": lambda: FocalLoss(0.5, "inverse"),
    "logit_adjusted": LogitAdjustedLoss,
    "ldam": LDAMLoss,
    "ldam_reweighted": lambda: LDAMLoss(reweight_from_epoch=0),
}
each_loss = pytest.mark.parametrize("name", MAKERS)


def made(loss: CountedLoss, counts: dict[str, int] | None = None) -> CountedLoss:
    loss.set_class_counts(FER2013 if counts is None else counts)
    return loss


def batch(size: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(size, 7, generator=generator), torch.arange(size) % 7


def soft_labels(size: int = 12) -> Tensor:
    return torch.rand(size, 7, generator=torch.Generator().manual_seed(1)).softmax(1)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


# The formulas


def test_inverse_frequency_is_scikit_learns_weighted_log_loss() -> None:
    logits, target = batch()
    population = np.repeat(np.arange(7), list(FER2013.values()))
    balanced = {k: len(population) / (7 * count) for k, count in enumerate(COUNTS)}
    sample_weight = compute_sample_weight(balanced, target.numpy())
    expected = log_loss(
        target.numpy(), softmax(logits.double().numpy()), sample_weight=sample_weight, labels=list(range(7))
    )
    assert float(made(WeightedCrossEntropy())(logits, target)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_and_smoothing_are_torchs_on_hard_labels(smoothing: float) -> None:
    logits, target = batch()
    weight = torch.tensor(list(class_weights(FER2013, "effective_number", cap=5).values()), dtype=torch.float32)
    expected = F.cross_entropy(logits, target, weight, label_smoothing=smoothing)
    loss = made(WeightedCrossEntropy("effective_number", cap=5, label_smoothing=smoothing))
    assert float(loss(logits, target)) == pytest.approx(float(expected), rel=1e-6)


def test_soft_labels_without_weights_are_torchs() -> None:
    logits, _ = batch()
    found = WeightedCrossEntropy("none", label_smoothing=0.2)(logits, soft_labels())
    assert float(found) == pytest.approx(float(F.cross_entropy(logits, soft_labels(), label_smoothing=0.2)), rel=1e-6)


def test_the_weights_sum_to_the_number_of_classes() -> None:
    loss = made(WeightedCrossEntropy(cap=4, multipliers={"disgusted": 3}))
    assert isinstance(loss, WeightedCrossEntropy)
    assert float(loss.class_weights.sum()) == pytest.approx(7)
    assert float(loss.class_weights[1] / loss.class_weights[3]) == pytest.approx(12)  # the cap, then the multiplier


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_by_its_formula(gamma: float) -> None:
    logits, target = batch()
    right = softmax(logits.double().numpy())[np.arange(12), target.numpy()]
    terms = -((1 - right) ** gamma) * np.log(right)
    assert float(FocalLoss(gamma)(logits, target)) == pytest.approx(terms.mean(), rel=1e-5)
    alpha = (1 / COUNTS)[target.numpy()]
    expected = (alpha * terms).sum() / alpha.sum()
    assert float(made(FocalLoss(gamma, "inverse"))(logits, target)) == pytest.approx(expected, rel=1e-5)


def test_gamma_0_is_cross_entropy() -> None:
    logits, target = batch()
    expected = float(made(WeightedCrossEntropy())(logits, target))
    assert float(made(FocalLoss(0, "inverse"))(logits, target)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("tau", [0.0, 1.0, 1.5])
def test_logit_adjustment_by_its_formula(tau: float) -> None:
    logits, target = batch()
    adjusted = softmax(logits.double().numpy() + tau * np.log(COUNTS / COUNTS.sum()))
    expected = -np.log(adjusted[np.arange(12), target.numpy()]).mean()
    assert float(made(LogitAdjustedLoss(tau))(logits, target)) == pytest.approx(expected, rel=1e-5)


def test_tau_1_is_balanced_softmax() -> None:
    logits, target = batch()
    powers = COUNTS * np.exp(logits.double().numpy())  # Ren et al. 2020, equation 3
    expected = -np.log(powers[np.arange(12), target.numpy()] / powers.sum(1)).mean()
    assert float(made(LogitAdjustedLoss())(logits, target)) == pytest.approx(expected, rel=1e-5)


def ldam_by_hand(logits: Tensor, target: Tensor, weight: NDArray[np.float64]) -> float:
    margins = COUNTS**-0.25 / (COUNTS**-0.25).max() * 0.5
    total = 0.0
    for row, label in zip(logits.double().numpy(), target.tolist(), strict=True):
        lowered = row.copy()
        lowered[label] -= margins[label]
        total -= weight[label] * np.log(softmax(30 * lowered[None])[0, label])
    return total / float(weight[target.numpy()].sum())


def test_ldam_and_its_deferred_weights_by_their_formulas() -> None:
    logits, target = batch()
    logits = logits / 10  # the range of cosines
    loss = LDAMLoss(reweight_from_epoch=2)
    made(loss)
    effective = (1 - 0.9999) / (1 - 0.9999**COUNTS)
    for epoch, weight in ((0, np.ones(7)), (1, np.ones(7)), (2, effective), (3, effective)):
        loss.set_epoch(epoch)
        assert float(loss(logits, target)) == pytest.approx(ldam_by_hand(logits, target, weight), rel=1e-4)


def test_margins_of_classes_without_samples() -> None:
    found = ldam_margins(torch.tensor([16.0, 0.0, 256.0, 1296.0]), 0.6)
    assert found.tolist() == pytest.approx([0.6, 0.6, 0.3, 0.2])


# What all have in common


@each_loss
def test_one_hot_soft_labels_are_hard_labels(name: str) -> None:
    logits, target = batch()
    loss = made(MAKERS[name]())
    assert float(loss(logits, F.one_hot(target, 7).double())) == pytest.approx(float(loss(logits, target)), rel=1e-6)


@each_loss
def test_a_mixed_label_lies_between_its_two(name: str) -> None:
    logits, _ = batch(1)
    loss = made(MAKERS[name]())
    one, two = torch.tensor([1]), torch.tensor([3])
    ends = sorted(float(loss(logits, end)) for end in (one, two))
    mixed = float(loss(logits, 0.3 * F.one_hot(one, 7) + 0.7 * F.one_hot(two, 7)))
    assert ends[0] < mixed < ends[1]


@each_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_finite_even_of_sure_answers(name: str, dtype: torch.dtype) -> None:
    sure = 80.0 * F.one_hot(torch.arange(14) % 7, 7)  # the first half right, the second wrong
    target = torch.cat([torch.arange(7), (torch.arange(7) + 1) % 7])
    logits = torch.cat([sure, batch()[0]]).to(dtype).requires_grad_()
    loss = made(MAKERS[name]())(logits, torch.cat([target, batch()[1]]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() > 0


@each_loss
def test_autocast_changes_nothing(name: str) -> None:
    logits, target = batch()
    loss = made(MAKERS[name]())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(found := loss(logits, target), loss(logits, target))
    assert torch.equal(found, loss(logits, target))


@each_loss
def test_a_class_without_samples_never_gives_nan(name: str) -> None:
    loss = made(MAKERS[name](), {**FER2013, "fear": 0})
    logits, target = batch()
    for labels in (target, torch.full((12,), 2), soft_labels()):  # of all classes, of the empty one alone, of votes
        leaf = logits.clone().requires_grad_()
        value = loss(leaf, labels)
        value.backward()
        assert torch.isfinite(value)
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()


def test_a_batch_without_weight_costs_nothing() -> None:
    loss = made(WeightedCrossEntropy(label_smoothing=0.1, multipliers={"fear": 0}))
    assert float(loss(batch()[0], torch.full((12,), 2))) == 0


# Counts


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("unweighted", "focal")])
def test_counts_are_asked_for(name: str) -> None:
    with pytest.raises(ConfigError, match="needs the training samples of each class.*set_class_counts"):
        MAKERS[name]()(*batch())


@pytest.mark.parametrize("name", ["unweighted", "focal"])
def test_counts_are_not_asked_for_without_weights(name: str) -> None:
    assert float(MAKERS[name]()(*batch())) == float(made(MAKERS[name]())(*batch()))


@each_loss
def test_a_state_restores_the_loss_and_counts_of_data_stand(name: str) -> None:
    loss, logits, target = made(MAKERS[name]()), *batch()
    restored = MAKERS[name]()
    restored.set_class_names(SEVEN.class_names)
    restored.load_state_dict(loss.state_dict())
    assert torch.equal(restored(logits, target), loss(logits, target))
    other = made(MAKERS[name](), {**FER2013, "disgust": 4360})
    before = float(other(logits, target))
    other.load_state_dict(loss.state_dict())
    assert float(other(logits, target)) == before
    assert other.class_counts.tolist()[1] == 4360


def test_shapes_are_final_once_the_names_are_known() -> None:
    for maker in MAKERS.values():
        loss = maker()
        loss.set_class_names(SEVEN.class_names)
        early = copy.deepcopy(loss)
        made(loss)
        assert [value.shape for value in early.buffers()] == [value.shape for value in loss.buffers()]
        assert all(value.is_floating_point() for value in loss.buffers())


def test_a_state_without_counts_loads() -> None:
    loss = made(LogitAdjustedLoss())
    loss.load_state_dict({})
    assert loss.class_counts.tolist() == COUNTS.tolist()


def test_a_weight_that_would_explode_is_named() -> None:
    counts = {**FER2013, "disgust": 3, "fear": 0}
    expected = "class 'disgust' with 3 training samples would weigh .* 2,405 times as much as 'happy' with 7,215.* cap"
    with pytest.raises(ConfigError, match=expected):
        made(WeightedCrossEntropy(), counts)
    capped = made(WeightedCrossEntropy(cap=200), counts)
    assert isinstance(capped, WeightedCrossEntropy)
    assert float(capped.class_weights[1] / capped.class_weights[3]) == pytest.approx(200)
    made(LDAMLoss(method="inverse"), counts)  # never weighs


@pytest.mark.parametrize(
    ("maker", "message"),
    [
        (lambda: WeightedCrossEntropy("sqrt"), "unknown method 'sqrt'"),  # type: ignore[arg-type]
        (lambda: WeightedCrossEntropy("effective_number", beta=1), "beta must be"),
        (lambda: WeightedCrossEntropy(cap=0.5), "cap must be a number of at least 1"),
        (lambda: WeightedCrossEntropy(label_smoothing=1), "WeightedCrossEntropy: label_smoothing must be .* not 1"),
        (lambda: FocalLoss(gamma=-1), "FocalLoss: gamma must be at least 0, not -1"),
        (lambda: LogitAdjustedLoss(tau=float("nan")), "tau must be at least 0, not nan"),
        (lambda: LDAMLoss(scale=0), "scale must be at least 0.001, not 0"),
        (lambda: LDAMLoss(max_margin=-0.1), "max_margin must be"),
        (lambda: LDAMLoss(reweight_from_epoch=-1), "reweight_from_epoch must be"),
        (lambda: LDAMLoss(multipliers={"fear": 2}), "no effect without reweight_from_epoch"),
        (lambda: made(WeightedCrossEntropy(multipliers={"faer": 2})), "'faer' is none of the classes"),
        (lambda: made(LDAMLoss(), {"a": 0, "b": 0}), "class counts must be 0 or more, not all 0"),
        (lambda: made(LDAMLoss(), {"a": 3, "b": 4})(*batch()), "logits of 7 classes, counts of 2"),
        (lambda: FocalLoss()(batch()[0], torch.ones(12)), "not float32 \\(12,\\)"),
        (lambda: FocalLoss()(batch()[0], torch.ones(12, 5)), "not float32 \\(12, 5\\)"),
        (lambda: FocalLoss()(batch()[0], torch.ones(12, 7, dtype=torch.int64)), "not int64 \\(12, 7\\)"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(maker: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        maker()
    assert "\n" not in str(caught.value)


def test_counts_of_other_classes_are_refused() -> None:
    loss = LogitAdjustedLoss()
    loss.set_class_names(["b", "a"])
    with pytest.raises(ConfigError, match="class counts of a, b, but the classes are b, a"):
        loss.set_class_counts({"a": 1, "b": 2})


# Runs


@pytest.mark.parametrize(
    "options",
    [
        ("WeightedCrossEntropy", "method=inverse", "cap=10", 'multipliers={"disgust": 3}', "label_smoothing=0.1"),
        ("FocalLoss", "gamma=1.5", "method=effective_number", "beta=0.99"),
        ("LogitAdjustedLoss", "tau=0.5"),
        ("LDAMLoss", "scale=1", "reweight_from_epoch=1"),
    ],
    ids=lambda options: options[0],
)
def test_a_run_with_each_loss_by_its_short_name(options: tuple[str, ...], tmp_path: Path) -> None:
    given = [f"--model.loss={options[0]}", *(f"--model.loss.{option}" for option in options[1:])]
    assert fit(tmp_path, *given, epochs=1) == 0
    folder = tmp_path / "tiny/version_0"
    best = folder / "checkpoints/best.ckpt"
    assert weights(best)["criterion.class_counts"].tolist() == [12] * 7
    model: Any = written_config(folder)["model"]
    assert model["loss"]["class_path"].endswith(f".{options[0]}")
    loaded = EmotionTask.load_from_checkpoint(best, map_location="cpu")
    assert torch.isfinite(loaded.criterion(*batch()))
    assert fer("validate", f"--ckpt_path={best}", *QUICK) == 0


def test_precision_is_measured_with_the_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fer_lightning.models.precision.has_bfloat16", lambda device: True)
    monkeypatch.setattr("fer_lightning.cli.begin.measure_precision", partial(measure_precision, seconds=0.0))
    assert fit(tmp_path, "--model.loss=LogitAdjustedLoss", "--trainer.precision=null", epochs=1) == 0


def test_a_run_resumes_exactly_across_the_reweighting(tmp_path: Path) -> None:
    options = ["--model.loss=LDAMLoss", "--model.loss.reweight_from_epoch=1", "--model.loss.method=none"]
    options += ["--model.loss.multipliers", '{"fear": 5}', "--model.loss.scale=1"]
    last = "tiny/version_0/checkpoints/resume.ckpt"
    assert fit(tmp_path / "whole", *options, epochs=3) == 0
    assert fit(tmp_path / "parts", *options, epochs=2) == 0
    assert fit(tmp_path / "parts", "--ckpt_path=last", *options, epochs=3) == 0
    assert same_weights(tmp_path / "whole" / last, tmp_path / "parts" / last)
    assert fit(tmp_path / "plain", *options[:1], "--model.loss.scale=1", epochs=3) == 0
    assert not same_weights(tmp_path / "whole" / last, tmp_path / "plain" / last)


def test_a_loss_can_be_exchanged_on_resuming(tmp_path: Path) -> None:
    for epochs, loss in enumerate(["LogitAdjustedLoss", "torch.nn.CrossEntropyLoss", "FocalLoss"], start=1):
        resumed = ["--ckpt_path=last"] if epochs > 1 else []
        assert fit(tmp_path, *resumed, f"--model.loss={loss}", epochs=epochs) == 0


def test_wrong_arguments_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, "--model.loss=FocalLoss", "--model.loss.gamma=-1") == 2
    assert "FocalLoss: gamma must be at least 0, not -1" in capsys.readouterr().err
    assert fit(tmp_path, "--model.loss=WeightedCrossEntropy", '--model.loss.multipliers={"faer": 2}') == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "'faer' is none of the classes" in lines[-1]
    assert not (tmp_path / "tiny").exists() or not any((tmp_path / "tiny").iterdir())


def test_a_class_without_samples_counts_as_one_in_logit_adjustment() -> None:
    logits, target = batch()
    counts = {**FER2013, "fear": 0}
    ones = torch.tensor([float(max(count, 1)) for count in counts.values()])
    expected = F.cross_entropy(logits + 0.5 * ones.log(), target)
    assert float(made(LogitAdjustedLoss(0.5), counts)(logits, target)) == pytest.approx(float(expected), rel=1e-6)


def test_where_a_weight_explodes() -> None:
    made(WeightedCrossEntropy(), {"a": 100, "b": 1})
    with pytest.raises(ConfigError, match="101 times as much"):
        made(WeightedCrossEntropy(), {"a": 101, "b": 1})


@pytest.mark.parametrize("counts", [{"a": -1, "b": 3}, {"a": 3, "b": -1}])
def test_counts_are_not_negative(counts: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="class counts must be 0 or more"):
        made(LogitAdjustedLoss(), counts)


def test_one_sample_of_one_class_is_enough() -> None:
    made(LDAMLoss(), {"a": 1, "b": 0})


@each_loss
def test_half_precision_logits_cost_what_they_cost_in_float32(name: str) -> None:
    logits, target = batch()
    for labels in (target, soft_labels()):
        half = logits.bfloat16()
        assert torch.equal(made(MAKERS[name]())(half, labels), made(MAKERS[name]())(half.float(), labels))


@pytest.mark.parametrize("margin", [4.0, 9.0, 13.0])
def test_focal_loss_of_sure_answers_by_its_formula(margin: float) -> None:
    logits = torch.tensor([[margin, 0.0]])
    wrong = 1 / (1 + np.exp(np.float64(margin)))
    assert float(FocalLoss(1.5)(logits, torch.tensor([0]))) == pytest.approx(-(wrong**1.5) * np.log1p(-wrong), rel=1e-4)


@each_loss
def test_counts_stand_when_the_names_come_after_them(name: str) -> None:
    logits, target = batch()
    loss = made(MAKERS[name]())
    before = float(loss(logits, target))
    loss.set_class_names(SEVEN.class_names)
    assert float(loss(logits, target)) == before
    assert loss.class_counts.tolist() == COUNTS.tolist()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_of_samples_and_smoothing_are_torchs(smoothing: float) -> None:
    logits, target = batch()
    samples = torch.linspace(0.2, 3, 12)
    classes = torch.tensor(list(class_weights(FER2013, "square_root").values()), dtype=torch.float32)
    priors = torch.tensor(COUNTS / COUNTS.sum(), dtype=torch.float32).log()
    weighted = F.cross_entropy(logits, target, classes, reduction="none", label_smoothing=smoothing)
    adjusted = F.cross_entropy(logits + 0.5 * priors, target, reduction="none", label_smoothing=smoothing)
    for loss, costs, mass in (
        (WeightedCrossEntropy("square_root", label_smoothing=smoothing), weighted, classes[target].sum()),
        (LogitAdjustedLoss(0.5, label_smoothing=smoothing), adjusted, torch.tensor(12.0)),
    ):
        for weight in (samples, torch.ones(12)):
            expected = float((costs * weight).sum() / mass)
            assert float(made(loss)(logits, target, weight)) == pytest.approx(expected, rel=1e-5)
        assert float(loss(logits, target)) == pytest.approx(float(costs.sum() / mass), rel=1e-5)


def test_the_weight_that_explodes_is_that_of_its_own_beta() -> None:
    counts = {"a": 1, "b": 5000}
    made(WeightedCrossEntropy("effective_number", beta=0.9), counts)  # 10 times as much
    with pytest.raises(ConfigError, match="3,935 times as much"):
        made(WeightedCrossEntropy("effective_number", beta=0.9999), counts)
