"""What the arms of a comparison differ in, and which of them wins, in a sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fer_lightning.evaluation.pairs import holm
from fer_lightning.evaluation.spread import Spread
from fer_lightning.runs.changes import learned_changes, short_value, value_at
from fer_lightning.studies.crossval.comparison import Comparison, Settings
from fer_lightning.studies.crossval.run_result import TRAINED
from fer_lightning.text import joined, p_text, percent, points

__all__ = ["arm_settings", "verdict"]

_LEVEL = 0.05
_MODULE = re.compile(r"\b(?:[a-z_][a-z_0-9]*\.)+(?=[A-Z])")
_OFF = re.compile(r"\w+=(?:none|false)(?:, |(?=\)))")
_CELL = 120  # characters
_ENOUGH = 5  # seeds that show a difference of half a point


def arm_settings(values: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Return the options in which arms differ: by option, the value of each arm as text.

    Args:
        values: the configuration of each arm, the first one being that which others are compared with.
    """
    first, *others = values
    keys = dict.fromkeys(change.key for arm in others for change in learned_changes(values[first], values[arm]))
    listed = [key for key in keys if not any(key.startswith(f"{other}.") for other in keys)]
    return {key: {arm: _shown(value_at(own, key)) for arm, own in values.items()} for key in listed}


def _shown(value: Any) -> str:
    """Return a value as a cell: a class without its module and without the arguments that are switched off."""
    text = _OFF.sub("", _MODULE.sub("", value)).replace(", )", ")") if isinstance(value, str) else value
    return short_value(text, _CELL)


def verdict(comparison: Comparison) -> str:
    """Return in a sentence which arms differ from the first one in macro F1, as trained.

    A difference counts if its p value, corrected by Holm's method for the number of arms, is below 0.05.
    """
    split, (first, *others) = comparison.main_split, comparison.arms
    if not others:
        found = comparison.scores[split][TRAINED]["f1_macro"][first]
        ends = _ends(found, percent)
        return f"{first} has a macro F1 of {percent(found.mean)} on {split}{f' ({ends})' if ends else ''}."
    gains = {arm: comparison.differences[split][TRAINED]["f1_macro"][arm] for arm in others}
    known = {arm: gain for arm, gain in gains.items() if gain.p is not None}
    corrected = dict(zip(known, holm([gain.p for gain in known.values() if gain.p is not None]), strict=True))
    sure = [arm for arm in others if corrected.get(arm, 1.0) < _LEVEL]
    parts = [
        f"{arm} has {_more(gains[arm])} than {first} ({_ends(gains[arm], points)}, p {p_text(corrected[arm])})"
        for arm in sure
    ]
    unsure = [arm for arm in others if arm not in sure]
    if unsure:
        parts.append(_nothing_shown(comparison, first, {arm: gains[arm] for arm in unsure}, bool(sure)))
    return f"On {split}, {'; '.join(parts)}."


def _more(gain: Spread) -> str:
    mean = gain.mean or 0.0
    return f"{100 * abs(mean):.1f} points {'more' if mean > 0 else 'less'} macro F1"


def _ends(found: Spread, shown: Any) -> str:
    return "" if found.low is None or found.high is None else f"95 % interval {shown(found.low)} to {shown(found.high)}"


def _nothing_shown(comparison: Comparison, first: str, gains: Mapping[str, Spread], others_differ: bool) -> str:
    """Return the words for arms whose difference could be chance, and what would tell more."""
    names = joined(list(gains))
    if len(gains) == 1 and not others_differ:
        [(arm, gain)] = gains.items()
        ends = _ends(gain, points)
        size = f": {arm} minus {first} is {points(gain.mean)} points{f' ({ends})' if ends else ''}"
        told = f"no difference in macro F1 between {first} and {arm} is shown{size}"
    else:
        told = f"no difference to {first} in macro F1 is shown for {names}"
    units, most = ("seeds", len(comparison.seeds)) if comparison.folds is None else ("folds", comparison.folds)
    if most == 1:
        return f"{told}; one run of each arm tells nothing: take --seeds 0,1,2,3,4"
    if most < _ENOUGH:
        return f"{told}; with {most} {units} an interval is nearly always that wide: take {_ENOUGH}"
    return told
