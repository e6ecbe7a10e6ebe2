"""Whether an evaluation can be believed: a list of what speaks for it, against it, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fer_lightning.text import counted

__all__ = ["STATES", "checks", "weak_spot"]

STATES = ("warning", "unknown", "ok")
"""In the order in which they are shown."""

_EXACT = ("32", "32-true", "64", "64-true")
Check = tuple[str, str]
"""One of ``STATES``, and a sentence."""


def checks(report: Mapping[str, Any]) -> list[Check]:
    """Return what is known of the trustworthiness of an evaluation, warnings first.

    Args:
        report: content of ``report.json``, with ``uncertainty``; ``seen`` and ``looks`` may be missing.
    """
    found = [
        _trained_on(report),
        *_origins(report),
        _repeated(report),
        _looks(report),
        _selection(report),
        _precision(report),
        _labels(report),
        _code(report),
    ]
    return sorted(found, key=lambda check: STATES.index(check[0]))


def _trained_on(report: Mapping[str, Any]) -> Check:
    seen = report.get("seen") or {"train": None}
    overlap = report["context"].get("overlap_with_train")
    count = overlap if seen["train"] is None else seen["train"]
    if count is None:
        return "unknown", "Whether images of this split were trained on is not known."
    if not count:
        return "ok", "No image of this split was trained on (identical ones, by their digests)."
    told = f"{counted(count, 'image')} of this split ({count / max(report['n'], 1):.1%}) were trained on"
    return "warning", f"{told}; see the scores without them."


def _origins(report: Mapping[str, Any]) -> list[Check]:
    """Say what else the model may have seen."""
    unknown = (report.get("seen") or {}).get("unknown") or []
    return [("unknown", f"Which images the model has seen before is not wholly known: {why}.") for why in unknown]


def _repeated(report: Mapping[str, Any]) -> Check:
    twice = report["n"] - report["uncertainty"]["distinct"]
    if not twice:
        return "ok", "No image is twice in this split."
    return "ok", f"{counted(twice, 'image')} of this split repeat another; intervals count identical ones as one."


def _looks(report: Mapping[str, Any]) -> Check:
    looks = report.get("looks")
    if not looks:
        return "unknown", "How often this split was looked at before is not known."
    number = looks["number"]
    if number < 2:
        return "ok", "This is the first look at this split in this project folder."
    told = f"This is look {number} at this split in this project folder"
    if looks["gain"] is None:
        return "warning", f"{told}."
    gain = f"would gain up to {100 * looks['gain']:.1f} points of accuracy"
    return "warning", f"{told}: choosing the best of {number} equal models {gain}."


def _selection(report: Mapping[str, Any]) -> Check:
    chosen = (report.get("seen") or {}).get("val") or 0
    if report["split"] != "val" and 0 < chosen < report["n"]:
        told = f"The best epoch was chosen on {counted(chosen, 'image')} of this split ({chosen / report['n']:.1%})"
        return "warning", f"{told}: on them, scores are a little too good."
    if report["split"] == "val" or chosen:
        return "warning", "The best epoch was chosen on these images: the scores are a little too good. Test on others."
    return "ok", "Nothing was chosen on this split: the best epoch was chosen on the validation part."


def _precision(report: Mapping[str, Any]) -> Check:
    precision = report["context"].get("precision")
    if precision is None:
        return "unknown", "The precision of the computation is not known."
    if str(precision) in _EXACT:
        return "ok", "Computed in float32."
    return "warning", f"Computed in {precision}: a few labels differ from those in float32."


def _labels(report: Mapping[str, Any]) -> Check:
    return "ok", f"Labels: {report['scheme']} ({', '.join(report['class_names'])})."


def _code(report: Mapping[str, Any]) -> Check:
    code = report["context"].get("code") or {}
    if not code.get("commit"):
        return "unknown", "The commit of the code is not known: it ran from an installed package."
    changed = " with changes that are in no commit" if code.get("dirty") else ""
    return "warning" if changed else "ok", f"The code is commit {code['commit'][:12]}{changed}."


def weak_spot(report: Mapping[str, Any]) -> str:
    """Return in a sentence which class is recognized worst, and what it is taken for; empty without any image."""
    known = {name: row for name, row in report["per_class"].items() if row["support"]}
    if not known:
        return ""
    name, row = min(known.items(), key=lambda item: item[1]["f1"])
    low, high = report["uncertainty"]["per_class"][name]["recall"]
    told = f"The weak spot is {name}: {row['recall']:.0%} of its {counted(row['support'], 'image')} are found"
    told += f" (95 %: {low:.0%} to {high:.0%})"
    matrix, names = report["confusion_matrix"], report["class_names"]
    wrong = {names[k]: count for k, count in enumerate(matrix[names.index(name)]) if names[k] != name and count}
    if wrong:
        other = max(wrong, key=lambda each: wrong[each])
        told += f"; {wrong[other] / row['support']:.0%} are taken for {other}"
    if row["predicted"] and row["precision"] < row["recall"]:
        told += f"; of what is called {name}, {row['precision']:.0%} is"
    return f"{told}."
