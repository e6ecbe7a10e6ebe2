"""Losses for classes of unequal size.

All are called with logits ``(N, K)`` and labels int64 ``(N,)`` or soft labels float ``(N, K)`` (votes, mixup), give the
mean over the batch, and compute in float32 whatever the precision of the logits. One-hot soft labels give what hard
labels give. Those that depend on the class counts get them from the task, which takes them from the data module.

Plain cross-entropy, with label smoothing and soft labels, is ``torch.nn.CrossEntropyLoss``. The class-balanced loss of
Cui et al. 2019 is ``WeightedCrossEntropy`` or ``FocalLoss`` with ``method: effective_number``; the balanced
softmax of Ren et al. 2020 is ``LogitAdjustedLoss`` with ``tau: 1``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fer_lightning.class_weights import class_weights
from fer_lightning.errors import ConfigError

__all__ = [
    "CountedLoss",
    "FocalLoss",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "TakesClassCounts",
    "TakesClassNames",
    "TakesEpoch",
    "WeightedCrossEntropy",
    "ldam_margins",
]

Method = Literal["none", "inverse", "square_root", "effective_number"]
MOST_WEIGHT = 100.0  # times the smallest weight: what the largest may be unless a cap is given


@runtime_checkable
class TakesClassNames(Protocol):
    """A loss that is given the class names when the task is built."""

    def set_class_names(self, class_names: Sequence[str]) -> None:
        """Take the names in label order."""


@runtime_checkable
class TakesClassCounts(Protocol):
    """A loss that depends on the class counts: it is refused without data, unless ``lacks_class_counts`` is false."""

    def set_class_counts(self, counts: Mapping[str, int]) -> None:
        """Take the number of training samples of each class, by name, in label order."""


@runtime_checkable
class TakesEpoch(Protocol):
    """A loss that depends on the epoch; the task gives it the number when an epoch begins or is resumed."""

    def set_epoch(self, epoch: int) -> None:
        """Take the number of the epoch, from 0."""


class CountedLoss(nn.Module):
    """Base of the losses that may depend on the class counts.

    The counts are a buffer: they follow the module to its device and are in its ``state_dict``, so that a checkpoint
    can be evaluated without its training data. Counts that come from data are kept when a checkpoint is loaded later.
    """

    class_counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._class_names: tuple[str, ...] | None = None
        self._counted = False
        # float32, so that an average of weights over time, which takes buffers along, leaves them exactly as they are
        self.register_buffer("class_counts", torch.zeros(0))

    @property
    def needs_class_counts(self) -> bool:
        """Whether the loss cannot be computed without the class counts."""
        return True

    @property
    def lacks_class_counts(self) -> bool:
        """Whether the loss needs the class counts and has not got them."""
        return self.needs_class_counts and not self._counted

    def set_class_names(self, class_names: Sequence[str]) -> None:
        """Take the names of the classes in label order, and give the buffers their shapes."""
        self._class_names = tuple(class_names)
        if not self._counted:
            self._resize(len(class_names))

    def set_class_counts(self, counts: Mapping[str, int]) -> None:
        """Take the number of training samples of each class, by name, in label order.

        Raises:
            ConfigError: if these are not the classes, no class has samples, or the counts do not suit the arguments.
        """
        if self._class_names is not None and tuple(counts) != self._class_names:
            raise ConfigError(
                f"{type(self).__name__}: class counts of {', '.join(counts)}, but the classes are "
                f"{', '.join(self._class_names)}"
            )
        if min(counts.values(), default=0) < 0 or not any(counts.values()):
            raise ConfigError(f"{type(self).__name__}: class counts must be 0 or more, not all 0, not {dict(counts)}")
        self._resize(len(counts))
        self.class_counts.copy_(torch.tensor(list(counts.values())))
        self._counted = True

    def _resize(self, num_classes: int) -> None:
        """Set the buffers to zeros, one for each class."""
        self.class_counts = self.class_counts.new_zeros(num_classes)

    def _checked(self, logits: Tensor) -> Tensor:
        """Return logits in float32."""
        if self.lacks_class_counts:
            raise ConfigError(
                f"{type(self).__name__} needs the training samples of each class: train with one of our data modules, "
                "or call set_class_counts({name: count, ...})"
            )
        if self._counted and logits.shape[-1] != len(self.class_counts):
            raise ConfigError(
                f"{type(self).__name__}: logits of {logits.shape[-1]} classes, counts of {len(self.class_counts)}"
            )
        return logits.float()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        name = f"{prefix}class_counts"
        stored = state_dict.get(name)
        if not self._counted and stored is not None and stored.any():
            names = [str(label) for label in range(len(stored))] if self._class_names is None else self._class_names
            self.set_class_counts(dict(zip(names, stored.long().tolist(), strict=True)))
        state_dict[name] = self.class_counts
        super()._load_from_state_dict(state_dict, prefix, *args)


class LogitAdjustedLoss(CountedLoss):
    """Logit-adjusted cross-entropy (Menon et al. 2021, arXiv:2007.07314, equation 10).

    The loss is cross-entropy on ``logits + tau * log(class share)``. Without the term, as in evaluation, the logits
    assume a uniform class prior. With ``tau`` 1 it is the balanced softmax (Ren et al. 2020, arXiv:2007.10740). A class
    without samples counts as one sample.

    The shares are those in which ``data.balance`` and ``data.class_multipliers`` draw the classes. Under the callback
    ``ClassFocus``, which changes them, take ``model.prior_correction`` instead.

    Args:
        tau: strength of the adjustment; 0 is plain cross-entropy.
        label_smoothing: share of each label that is spread over all classes.
    """

    def __init__(self, tau: float = 1.0, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.tau = _within("LogitAdjustedLoss: tau", tau)
        self.label_smoothing = _within("LogitAdjustedLoss: label_smoothing", label_smoothing, below=1)

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean loss of logits ``(N, K)`` and labels ``(N,)`` or soft labels ``(N, K)``.

        ``weight``, ``(N,)``, is what each sample counts.
        """
        logits = self._checked(logits)
        # Counts instead of shares: softmax does not see the constant between them.
        adjusted = logits + self.tau * self.class_counts.clamp(min=1).log()
        costs = _weighed(-adjusted.log_softmax(1), weight)
        return _mean(costs, _shares(target, logits), self.label_smoothing)


class WeightedCrossEntropy(CountedLoss):
    """Cross-entropy with weights of the classes that follow from their counts.

    As ``torch.nn.CrossEntropyLoss(weight=...)`` on hard labels: the weighted mean, divided by the weights of the labels
    in the batch. Soft labels are averaged the same way (torch divides them by the batch size). A batch without any
    weight gives 0, not NaN.

    Args:
        method: how a weight follows from a count: ``inverse`` (frequency), ``square_root``, ``effective_number``
            (Cui et al. 2019, arXiv:1901.05555) or ``none``.
        beta: of the effective number.
        cap: the most times the smallest weight that the largest may be; without it, more than 100 is an error.
        multipliers: further factor by class name, such as ``{disgust: 3, fear: 2}``; not bounded by ``cap``.
        label_smoothing: share of each label that is spread over all classes.
    """

    class_weights: Tensor

    def __init__(
        self,
        method: Method = "inverse",
        beta: float = 0.999,
        cap: float | None = None,
        multipliers: dict[str, float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        class_weights({"any": 1}, method, beta=beta, cap=cap)  # complains of wrong arguments before any data is read
        self.method = method
        self.beta = beta
        self.cap = cap
        self.multipliers = multipliers
        self.label_smoothing = _within(f"{type(self).__name__}: label_smoothing", label_smoothing, below=1)
        self.register_buffer("class_weights", torch.zeros(0), persistent=False)  # follows from the counts

    @property
    def weighs(self) -> bool:
        """Whether any weights are asked for."""
        return self.method != "none" or bool(self.multipliers)

    @property
    def needs_class_counts(self) -> bool:
        """Whether the loss cannot be computed without the class counts."""
        return self.weighs

    def set_class_counts(self, counts: Mapping[str, int]) -> None:
        """Take the number of training samples of each class, by name, in label order.

        Raises:
            ConfigError: if these are not the classes, a multiplier names none of them, or a weight would explode.
        """
        super().set_class_counts(counts)
        if not self.weighs:
            return
        if self.cap is None:
            _refuse_explosion(type(self).__name__, counts, class_weights(counts, self.method, beta=self.beta))
        weights = class_weights(counts, self.method, beta=self.beta, cap=self.cap, multipliers=self.multipliers)
        self.class_weights.copy_(torch.tensor(list(weights.values())))

    def _resize(self, num_classes: int) -> None:
        super()._resize(num_classes)
        self.class_weights = self.class_weights.new_zeros(num_classes)

    def costs(self, logits: Tensor) -> Tensor:
        """Return what each class would cost if it were the right one, ``(N, K)``, for float32 logits ``(N, K)``."""
        return -logits.log_softmax(1)

    def weights_in_use(self) -> Tensor | None:
        """Return the weights ``(K,)``, ``None`` where all classes weigh the same."""
        return self.class_weights if self.weighs else None

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean loss of logits ``(N, K)`` and labels ``(N,)`` or soft labels ``(N, K)``.

        ``weight``, ``(N,)``, is what each sample counts beside its class.
        """
        logits = self._checked(logits)
        costs = _weighed(self.costs(logits), weight)
        return _mean(costs, _shares(target, logits), self.label_smoothing, self.weights_in_use())


class FocalLoss(WeightedCrossEntropy):
    """Focal loss (Lin et al. 2017, arXiv:1708.02002) of a softmax: ``(1 - p)^gamma`` times cross-entropy.

    Samples that are predicted well count less. With soft labels, the focal term of each class is weighted by its share.
    ``gamma`` 0 is ``WeightedCrossEntropy``.

    Args:
        gamma: how fast the loss of easy samples falls; 0 and more.
        method: how class weights follow from the counts, as in ``WeightedCrossEntropy``.
        **options: of ``WeightedCrossEntropy``.
    """

    def __init__(self, gamma: float = 2.0, method: Method = "none", **options: Any) -> None:
        super().__init__(method, **options)
        self.gamma = _within("FocalLoss: gamma", gamma)

    def costs(self, logits: Tensor) -> Tensor:
        """Return the focal term of each class, ``(N, K)``, for float32 logits ``(N, K)``."""
        log_p = logits.log_softmax(1)
        # Not 1 - exp(log_p): near p = 1 that is exactly 0, where 0^gamma has an infinite slope for gamma below 1.
        wrong = (-torch.expm1(log_p)).clamp(min=1e-12)
        return -(wrong**self.gamma) * log_p


class LDAMLoss(WeightedCrossEntropy):
    """Label-distribution-aware margins with deferred reweighting (Cao et al. 2019, arXiv:1906.07413).

    The logit of the right class is lowered by a margin proportional to ``n^(-1/4)`` (equation 13), which rare classes
    have to overcome; from a late epoch on, classes are weighted too. A class without samples has the margin of the
    rarest one. With soft labels, the loss of each class is weighted by its share.
    The paper's scale of 30 is meant for a head whose logits are cosines; for a plain linear head take ``scale: 1``.

    Args:
        max_margin: margin of the rarest class; 0.5 in the paper's code.
        scale: factor of the logits after the margin; 30 in the paper's code.
        reweight_from_epoch: first epoch, from 0, with class weights (160 of 200 in the paper); ``null`` for never.
        method: how these weights follow from the counts, as in ``WeightedCrossEntropy``.
        beta: of the effective number; 0.9999 in the paper's code.
        cap: the most times the smallest weight that the largest may be; without it, more than 100 is an error.
        multipliers: further factor by class name; not bounded by ``cap``.
    """

    def __init__(
        self,
        max_margin: float = 0.5,
        scale: float = 30.0,
        reweight_from_epoch: int | None = None,
        method: Method = "effective_number",
        beta: float = 0.9999,
        cap: float | None = None,
        multipliers: dict[str, float] | None = None,
    ) -> None:
        super().__init__(method, beta, cap, multipliers)
        self.max_margin = _within("LDAMLoss: max_margin", max_margin)
        self.scale = _within("LDAMLoss: scale", scale, low=1e-3)
        if reweight_from_epoch is not None:
            _within("LDAMLoss: reweight_from_epoch", reweight_from_epoch)
        elif multipliers:
            raise ConfigError("LDAMLoss: multipliers have no effect without reweight_from_epoch: set it, 0 for always")
        self.reweight_from_epoch = reweight_from_epoch
        self.epoch = 0  # set by the task, also when it loads a checkpoint

    @property
    def weighs(self) -> bool:
        """Whether any weights are asked for, now or in a later epoch."""
        return self.reweight_from_epoch is not None and super().weighs

    needs_class_counts = CountedLoss.needs_class_counts  # always: the margins follow from the counts

    def set_epoch(self, epoch: int) -> None:
        """Take the number of the epoch, from 0."""
        self.epoch = epoch

    def weights_in_use(self) -> Tensor | None:
        """Return the weights ``(K,)`` of this epoch, ``None`` before reweighting begins."""
        if self.reweight_from_epoch is None or self.epoch < self.reweight_from_epoch:
            return None
        return super().weights_in_use()

    def costs(self, logits: Tensor) -> Tensor:
        """Return the margin loss of each class, ``(N, K)``, for float32 logits ``(N, K)``."""
        margins = ldam_margins(self.class_counts, self.max_margin)
        lowered = logits[:, None, :] - margins.diag()  # (N, K, K): row k as if class k were the right one
        return -(self.scale * lowered).log_softmax(2).diagonal(dim1=1, dim2=2)


def ldam_margins(counts: Tensor, max_margin: float) -> Tensor:
    """Return margins ``(K,)`` proportional to ``n^(-1/4)`` of class counts ``(K,)``, the largest being ``max_margin``.

    Example:
        >>> ldam_margins(torch.tensor([16.0, 256.0, 4096.0]), max_margin=0.5).tolist()
        [0.5, 0.25, 0.125]
    """
    fewest = torch.where(counts > 0, counts, torch.inf).min()
    return max_margin * (torch.maximum(counts, fewest) / fewest) ** -0.25


def _weighed(costs: Tensor, weight: Tensor | None) -> Tensor:
    """Return costs ``(N, K)`` times the weight of each sample ``(N,)``."""
    return costs if weight is None else costs * weight[:, None]


def _shares(target: Tensor, logits: Tensor) -> Tensor:
    """Return labels ``(N,)`` or soft labels ``(N, K)`` as float32 shares ``(N, K)``."""
    if target.shape == logits.shape and target.is_floating_point():
        return target.float()
    if target.shape != logits.shape[:1] or target.is_floating_point():
        raise ConfigError(
            f"a loss of logits {tuple(logits.shape)} takes labels int64 (N,) or soft labels float (N, K), "
            f"not {str(target.dtype).removeprefix('torch.')} {tuple(target.shape)}"
        )
    return F.one_hot(target, logits.shape[1]).float()


def _mean(costs: Tensor, shares: Tensor, smoothing: float, weights: Tensor | None = None) -> Tensor:
    """Return the mean of costs ``(N, K)`` under shares ``(N, K)``, weighted by class.

    As in torch, the weights of smoothed labels apply class by class, and the divisor is that of the labels as given.
    """
    smoothed = shares * (1 - smoothing) + smoothing / shares.shape[1] if smoothing else shares
    if weights is None:
        return (smoothed * costs).sum(1).mean()
    mass = (shares * weights).sum()
    portion = torch.where(mass > 0, 1 / mass.clamp(min=1e-12), 0.0)
    return (smoothed * costs * weights).sum() * portion


def _refuse_explosion(owner: str, counts: Mapping[str, int], weights: Mapping[str, float]) -> None:
    """Raise ``ConfigError`` if a weight is more than ``MOST_WEIGHT`` times the smallest one."""
    present = [name for name, count in counts.items() if count > 0]
    low, high = min(present, key=weights.__getitem__), max(present, key=weights.__getitem__)
    ratio = weights[high] / weights[low]
    if ratio > MOST_WEIGHT * (1 + 1e-9):
        raise ConfigError(
            f"{owner}: class '{high}' with {counts[high]:,} training samples would weigh {weights[high]:.3g}, "
            f"{ratio:,.0f} times as much as '{low}' with {counts[low]:,}: give a cap, such as 20, or a milder method"
        )


def _within(what: str, value: float, low: float = 0.0, below: float = math.inf) -> float:
    """Return a value; raise ``ConfigError`` if it is outside its range or not finite."""
    if not low <= value < below:
        bound = f"at least {low:g}" + ("" if math.isinf(below) else f" and below {below:g}")
        raise ConfigError(f"{what} must be {bound}, not {value:g}")
    return value
