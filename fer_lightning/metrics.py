"""Scores of a classifier: pure functions of a confusion matrix and calibration bins, and a thin metric that sums them.

A confusion matrix is int64 ``(K, K)``, rows true, columns predicted. A score that is not defined is NaN: a class that
is absent from the truth has no recall and no F1, is left out of the means over classes, and stands as "n/a" in reports.
(``torchmetrics`` counts a class that is predicted but absent as recall 0.)

All sums are integers: they do not depend on the batch size, the order of the samples or the number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

from fer_lightning.errors import ConfigError, LabelError, NonFiniteError

__all__ = [
    "CALIBRATION_BINS",
    "ClassScores",
    "EmotionMetrics",
    "MeanLoss",
    "accuracy",
    "balanced_accuracy",
    "bin_means",
    "calibration_bins",
    "class_scores",
    "confusion_matrix",
    "expected_calibration_error",
    "load_sums",
    "macro_f1",
    "saved_sums",
    "weighted_f1",
    "wilson_interval",
]

CALIBRATION_BINS = 15
"""Number of equal-width bins, as in Guo et al. 2017 (arXiv:1706.04599)."""

CONFIDENCE_BITS = 30
"""Confidences are summed as integers in units of ``2**-30``: float32 values from ``2**-7`` to 1 are exact in it, and
``2**33`` samples fit in an int64."""

CONFIDENCE_SCALE = 1 << CONFIDENCE_BITS

Z_95 = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


@dataclass(frozen=True)
class ClassScores:
    """Scores of each class, ``(K,)`` each, in label order.

    Attributes:
        precision: float64; 0 for a class that is present but never predicted, NaN if it is neither.
        recall: float64; NaN for a class that is absent from the truth.
        f1: float64; NaN for a class that is absent from the truth.
        support: int64, samples that are of this class.
        predicted: int64, samples that were predicted as this class.
    """

    precision: Tensor
    recall: Tensor
    f1: Tensor
    support: Tensor
    predicted: Tensor


def confusion_matrix(target: Tensor, preds: Tensor, num_classes: int, keep: Tensor | None = None) -> Tensor:
    """Count pairs of true and predicted class, int64 ``(K, K)``, rows true, columns predicted.

    Does not wait for the device.

    Example:
        >>> confusion_matrix(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), num_classes=2).tolist()
        [[1, 1], [0, 1]]

    Args:
        target: int64 ``(N,)``.
        preds: int64 ``(N,)``, in ``0..K-1``.
        num_classes: K.
        keep: bool ``(N,)``, the samples to count; all if ``None``. A target outside ``0..K-1`` must not be kept.
    """
    weights = torch.ones_like(target) if keep is None else keep.long()
    cells = target.clamp(0, num_classes - 1) * num_classes + preds
    # not bincount: it reads the largest value back from the device
    counts = torch.zeros(num_classes * num_classes, dtype=torch.int64, device=target.device)
    return counts.index_add_(0, cells, weights).view(num_classes, num_classes)


def class_scores(matrix: Tensor) -> ClassScores:
    """Return precision, recall, F1 and counts of each class.

    Example:
        >>> scores = class_scores(torch.tensor([[8, 2, 0], [0, 0, 0], [5, 0, 5]]))
        >>> scores.recall.tolist()  # no sample is of class 1
        [0.8, nan, 0.5]

    Args:
        matrix: int64 ``(K, K)``, rows true, columns predicted.
    """
    hits = matrix.diagonal().double()
    support, predicted = matrix.sum(dim=1), matrix.sum(dim=0)
    present = support > 0
    recall = hits / support  # 0 / 0 is NaN
    precision = torch.where((predicted == 0) & present, 0.0, hits / predicted)
    f1 = torch.where(present, 2 * hits / (support + predicted), math.nan)
    return ClassScores(precision, recall, f1, support, predicted)


def accuracy(matrix: Tensor) -> Tensor:
    """Return the share of samples that are predicted right, float64 scalar; NaN without samples."""
    return matrix.diagonal().sum().double() / matrix.sum()


def balanced_accuracy(matrix: Tensor) -> Tensor:
    """Return the mean recall over the classes present in the truth (UAR), float64 scalar; NaN without samples."""
    return class_scores(matrix).recall.nanmean()


def macro_f1(matrix: Tensor) -> Tensor:
    """Return the mean F1 over the classes present in the truth, float64 scalar; NaN without samples.

    A class that is predicted but absent is not part of the mean; its false alarms lower the recall, and so the F1, of
    the classes they were taken from.

    Example:
        >>> matrix = torch.tensor([[90, 0], [10, 0]])  # all taken for class 0
        >>> round(float(accuracy(matrix)), 3), round(float(macro_f1(matrix)), 3)
        (0.9, 0.474)
    """
    return class_scores(matrix).f1.nanmean()


def weighted_f1(matrix: Tensor) -> Tensor:
    """Return the mean F1 weighted by support, float64 scalar; NaN without samples."""
    scores = class_scores(matrix)
    return (scores.f1.nan_to_num() * scores.support).sum() / scores.support.sum()


def calibration_bins(
    confidence: Tensor, correct: Tensor, keep: Tensor | None = None, bins: int = CALIBRATION_BINS
) -> Tensor:
    """Sort samples by confidence into equal-width bins ``((b - 1) / B, b / B]`` (Guo et al. 2017, arXiv:1706.04599).

    Does not wait for the device.

    Args:
        confidence: float32 ``(N,)``, probability of the predicted class, in 0..1.
        correct: bool ``(N,)``, whether the predicted class is the true one.
        keep: bool ``(N,)``, the samples to count; all if ``None``.
        bins: number of bins B.

    Returns:
        int64 ``(3, B)``: samples, correct samples, and sum of confidences in units of ``2**-30``. Add the bins of two
        sets to get those of their union.
    """
    units = (confidence.float().nan_to_num() * CONFIDENCE_SCALE).round().long()
    which = ((units * bins - 1) >> CONFIDENCE_BITS).clamp(0, bins - 1)
    values = torch.stack([torch.ones_like(units), correct.long(), units])
    if keep is not None:
        values = values * keep
    return torch.zeros(3, bins, dtype=torch.int64, device=units.device).index_add_(1, which, values)


def bin_means(bins: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean confidence and accuracy of each bin, float64 ``(B,)`` each; NaN for an empty bin.

    Args:
        bins: int64 ``(3, B)`` from ``calibration_bins``.
    """
    samples, correct, units = bins.double().unbind()
    return units / CONFIDENCE_SCALE / samples, correct / samples


def expected_calibration_error(bins: Tensor) -> Tensor:
    """Return the expected calibration error of the predicted class, float64 scalar in 0..1; NaN without samples.

    ``sum_b n_b / N * |accuracy_b - confidence_b|`` (Guo et al. 2017, arXiv:1706.04599, equation 3).

    Example:
        >>> sure = torch.tensor([0.75, 0.75, 0.75, 0.75])  # and right in two cases of four
        >>> bins = calibration_bins(sure, torch.tensor([True, True, False, False]))
        >>> expected_calibration_error(bins).item()
        0.25

    Args:
        bins: int64 ``(3, B)`` from ``calibration_bins``.
    """
    samples, correct, units = bins.double().unbind()
    return (correct - units / CONFIDENCE_SCALE).abs().sum() / samples.sum()


def wilson_interval(successes: float, total: float) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    Example:
        >>> [round(end, 3) for end in wilson_interval(45, 50)]
        [0.786, 0.957]

    Args:
        successes: number of successes, ``0..total``.
        total: number of trials; with 0 both ends are NaN. Trials that hang together count for fewer, not whole numbers.
    """
    if total == 0:
        return math.nan, math.nan
    share = successes / total
    middle = share + Z_95**2 / (2 * total)
    half = Z_95 * math.sqrt(share * (1 - share) / total + Z_95**2 / (4 * total**2))
    scale = 1 + Z_95**2 / total
    # without max and min, rounding could put the share itself outside its interval
    return max(0.0, min(share, (middle - half) / scale)), min(1.0, max(share, (middle + half) / scale))


class EmotionMetrics(Metric):
    """Accuracy, balanced accuracy, macro and weighted F1, ECE and the scores of each class.

    ``update`` is cheap and does not wait for the device; ``forward`` also computes the scores of the batch, which does.
    Without any sample all scores are NaN.

    Args:
        class_names: canonical names in label order; they end up in the keys.
        **kwargs: of ``torchmetrics.Metric``.

    Attributes:
        confusion: int64 ``(K, K)``, rows true, columns predicted.
        bins: int64 ``(3, 15)``, see ``calibration_bins``.
        faults: int64 ``(2,)``: samples left out because of a NaN or infinite logit, and because of a target outside
            ``0..K-1``.

    Raises:
        ConfigError: if ``class_names`` is empty or names a class twice.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    confusion: Tensor
    bins: Tensor
    faults: Tensor

    def __init__(self, class_names: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.class_names = tuple(class_names)
        count = len(self.class_names)
        if count == 0 or len(set(self.class_names)) != count:
            raise ConfigError(f"class_names must be distinct names, at least one, not {list(self.class_names)}")
        self.add_state("confusion", torch.zeros(count, count, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("bins", torch.zeros(3, CALIBRATION_BINS, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("faults", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            logits: float ``(N, K)``, of any precision.
            target: int64 ``(N,)``.

        Raises:
            ConfigError: if the shapes are others.
        """
        count = len(self.class_names)
        if logits.ndim != 2 or logits.shape[1] != count or target.shape != logits.shape[:1]:
            raise ConfigError(
                f"metrics expect logits (N, {count}) and targets (N,), not {tuple(logits.shape)} and "
                f"{tuple(target.shape)}; the network and the data must agree on the classes"
            )
        logits = logits.detach().float()
        finite = logits.isfinite().all(dim=1)
        known = (target >= 0) & (target < count)
        keep = finite & known
        confidence, preds = logits.softmax(dim=1).max(dim=1)
        self.confusion += confusion_matrix(target, preds, count, keep)
        self.bins += calibration_bins(confidence, preds == target, keep)
        self.faults += torch.stack([(~finite).sum(), (~known).sum()])

    def compute(self) -> dict[str, Tensor]:
        """Return all scores, float32 scalars.

        Returns:
            ``acc, balanced_acc, f1_macro, f1_weighted, ece`` and, for each class, ``precision_<name>``,
            ``recall_<name>``, ``f1_<name>``.

        Raises:
            NonFiniteError: if any logit was NaN or infinite since the last reset.
            LabelError: if any target was outside ``0..K-1`` since the last reset.
        """
        # float64 on the CPU, where every machine has it
        confusion, bins, faults = self.confusion.cpu(), self.bins.cpu(), self.faults.tolist()
        self._raise_faults(*faults)
        scores = class_scores(confusion)
        values = {
            "acc": accuracy(confusion),
            "balanced_acc": balanced_accuracy(confusion),
            "f1_macro": macro_f1(confusion),
            "f1_weighted": weighted_f1(confusion),
            "ece": expected_calibration_error(bins),
        }
        for label, name in enumerate(self.class_names):
            values[f"precision_{name}"] = scores.precision[label]
            values[f"recall_{name}"] = scores.recall[label]
            values[f"f1_{name}"] = scores.f1[label]
        on_device = torch.stack(list(values.values())).float().to(self.confusion.device)
        return dict(zip(values, on_device.unbind(), strict=True))

    def _raise_faults(self, non_finite: int, unknown: int) -> None:
        if unknown:
            raise LabelError(
                f"{unknown} targets are outside 0..{len(self.class_names) - 1} ({', '.join(self.class_names)}); "
                "the network and the data must agree on the classes"
            )
        if non_finite:
            raise NonFiniteError(
                f"{non_finite} samples have NaN or infinite logits, so no score can be trusted: the training diverged "
                "or the images are not finite; lower the learning rate, clip gradients, or use bf16 or 32-bit precision"
            )


class MeanLoss(Metric):
    """Mean of a loss over the samples of an epoch, of all processes.

    The sum is an integer, so that the mean does not depend on the order of the batches, which an interruption or
    another number of processes changes. (torchmetrics' ``MeanMetric`` looks for NaN, which waits for the device, or,
    with that switched off, ignores the weights.)

    Attributes:
        total: int64 scalar, sum of the losses in units of ``2**-30``.
        samples: int64 scalar.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    total: Tensor
    samples: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("samples", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, loss: Tensor, samples: int) -> None:
        """Add the mean loss of a batch, scalar, and the number of its samples."""
        self.total += (loss.detach().float() * samples * CONFIDENCE_SCALE).long()  # scaling by 2**30 is exact
        self.samples += samples

    def compute(self) -> Tensor:
        """Return the mean, float32 scalar; NaN without samples."""
        return (self.total.double() / CONFIDENCE_SCALE / self.samples).float()


def saved_sums(metrics: Sequence[EmotionMetrics | MeanLoss], alone: bool) -> list[dict[str, Tensor]]:
    """Return what metrics have summed up so far, on the CPU, for a checkpoint inside an epoch.

    Args:
        metrics: metrics whose states are sums.
        alone: only this process saves (after an interruption), so that the others cannot be asked for their sums.
    """
    sums = [{name: getattr(metric, name).clone() for name in metric.metric_state} for metric in metrics]
    if not alone and dist.is_available() and dist.is_initialized():
        for value in (value for states in sums for value in states.values()):
            dist.all_reduce(value)
    return [{name: value.cpu() for name, value in states.items()} for states in sums]


def load_sums(metrics: Sequence[EmotionMetrics | MeanLoss], sums: list[dict[str, Tensor]]) -> None:
    """Continue from the sums of a checkpoint: call it on one process, the others start at 0."""
    for metric, states in zip(metrics, sums, strict=True):
        for name, value in states.items():
            getattr(metric, name).copy_(value)
