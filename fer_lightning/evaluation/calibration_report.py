"""The report of a calibration: lines for the terminal, a page with its drawings in it, pictures, and the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_lightning.evaluation.calibration import NONE
from fer_lightning.evaluation.calibration_plots import reliability_figure, risk_figure, sets_figure
from fer_lightning.figures import figure_png, figure_svg
from fer_lightning.files import json_text, write_atomically
from fer_lightning.models.calibration import CALIBRATION
from fer_lightning.pages import render
from fer_lightning.text import counted, table_lines

__all__ = ["PAGE", "answers_told", "calibration_lines", "verdicts", "write_calibration"]

PAGE = "calibration.html"
"""Name of the page."""
_TITLES = {
    NONE: "as it is",
    "temperature": "temperature",
    "prior": "temperature and tau",
    "vector": "vector scaling",
    "matrix": "matrix scaling",
}
_MEANINGLESS = 100  # temperature above which a probability of 99 % becomes one that chance gives
_SECTIONS = {
    "verdict": "Verdict",
    "scalings": "Scalings",
    "reliability": "Reliability",
    "risk": "When to answer",
    "sets": "Prediction sets",
    "use": "How it is used",
}


def verdicts(found: Mapping[str, Any]) -> list[str]:
    """Return what was found, in sentences."""
    seen = found.get("trained_on")
    notes = [f"{seen:,} of these images were trained on: of them, all this is too good."] if seen else []
    if origin := found["calibration"].get("origin"):
        runs = counted(len(found["evaluations"]), "run")
        notes.append(f"Fitted on what {runs} of {origin} say of the images that each has left out.")
    return [_gain(found), answers_told(found["risk"]), _covered(found), *notes]


def _gain(found: Mapping[str, Any]) -> str:
    before, after, change = _row(found, NONE), _row(found, found["chosen"]), found["change"]
    if found["chosen"] == NONE:
        return "No scaling makes the probabilities more believable than they are: nothing is changed."
    if found["fit"].get("temperature", 0) > _MEANINGLESS:
        return (
            "The probabilities say next to nothing about the labels, so that the best scaling makes them the same for "
            "every class: train the network first."
        )
    sure = "" if change["nll"]["high"] < 0 else "; that may be chance: the interval holds 0"
    null = after["ece_null"]
    return (
        f"{_title(found)}: negative log-likelihood {before['nll']:.4f} to {after['nll']:.4f} (95 % interval of the "
        f"change {change['nll']['low']:+.4f} to {change['nll']['high']:+.4f}{sure}), Brier score {before['brier']:.4f} "
        f"to {after['brier']:.4f}, ECE {before['ece']:.2%} to {after['ece']:.2%}; a perfect model of these confidences "
        f"shows {null['low']:.2%} to {null['high']:.2%}."
    )


def answers_told(risk: Mapping[str, Any]) -> str:
    """Return in a sentence what the threshold does: ``risk`` of ``calibrate``, or of a ``Calibrated``."""
    if not risk["reached"]:
        if risk["wanted"] is None:
            return "No answer is marked as uncertain."
        least = min(risk["curves"]["after"]["risk"])
        return (
            f"No threshold brings the risk down to {risk['wanted']:.1%} (the least is {least:.1%}): nothing is marked."
        )
    if risk["risk"] is None:
        return f"Answers below a confidence of {risk['threshold']:.3f} are marked as uncertain."
    share, ends = risk["risk"], f"{risk['risk']['low']:.1%} to {risk['risk']['high']:.1%}"
    wanted = "" if risk["wanted"] is None else f"; wanted {risk['wanted']:.1%}"
    return (
        f"Answers below a confidence of {risk['threshold']:.3f} are marked as uncertain. Of the others, "
        f"{risk['answered']:.0%} of the images, {share['value']:.1%} are wrong (95 % interval {ends}{wanted})."
    )


def _covered(found: Mapping[str, Any]) -> str:
    sets, names = found["sets"], found["class_names"]
    judged = [(name, row) for name, row in zip(names, sets["classes"], strict=True) if row["coverage"] is not None]
    outside = [name for name, row in judged if not row["low"] <= row["coverage"] <= row["high"]]
    beyond = [name for name, row in judged if not row["joint_low"] <= row["coverage"] <= row["joint_high"]]
    told = f"every class is inside its 95 % range ({len(judged)} of {len(judged)})"
    if outside:
        told = f"{', '.join(outside)} outside of the 95 % range"
        told += "" if beyond else "; all are inside the ranges that hold for all classes together"
    return (
        f"Sets for a coverage of {sets['coverage']:.0%} hold the true class for {sets['covered']:.1%} of the second "
        f"half, with {sets['mean_size']:.1f} classes on average; {told}."
    )


def _row(found: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    row: Mapping[str, Any] = next(row for row in found["kinds"] if row["kind"] == kind)
    return row


def _title(found: Mapping[str, Any]) -> str:
    title, fit = _TITLES[found["chosen"]], found["fit"]
    values = [f"T {fit['temperature']:.3f}"] if "temperature" in fit else []
    values += [f"tau {fit['tau']:+.3f}"] if "tau" in fit else []
    return title[0].upper() + title[1:] + (f" ({', '.join(values)})" if values else "")


def _kind_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("", "NLL", "Brier", "ECE", "perfect model", "accuracy", "macro F1", "")]
    for row in found["kinds"]:
        null, chosen = row["ece_null"], "chosen" if row["kind"] == found["chosen"] else ""
        scores = (f"{row['nll']:.4f}", f"{row['brier']:.4f}", f"{row['ece']:.2%}")
        shares = (f"{row['accuracy']:.2%}", f"{row['f1_macro']:.2%}")
        rows.append((_TITLES[row["kind"]], *scores, f"{null['low']:.2%} to {null['high']:.2%}", *shares, chosen))
    return rows


def _set_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("class", "thresholds from", "judged on", "coverage", "95 % range", "all classes together", "one threshold")
    ]
    for name, row in zip(found["class_names"], found["sets"]["classes"], strict=True):
        pooled = " (all classes)" if row["pooled"] else ""
        cells = [f"{row['calibrated_on']:,}{pooled}", f"{row['images']:,}"]
        if row["coverage"] is not None:
            cells += [f"{row['coverage']:.1%}"]
            cells += [f"{row[f'{which}low']:.1%} to {row[f'{which}high']:.1%}" for which in ("", "joint_")]
            cells += [f"{row['marginal']:.1%}"]
        rows.append((name, *cells))
    return rows


def calibration_lines(found: Mapping[str, Any]) -> list[str]:
    """Return a calibration (of ``calibrate``) as lines of a terminal."""
    heading = f"{_about(found)}\n"
    return [heading, *table_lines(_kind_rows(found)), "", *verdicts(found)]


def _about(found: Mapping[str, Any]) -> str:
    images = f"{counted(found['images'], 'validation image')}, {found['distinct']:,} of them distinct"
    where = found["evaluations"]
    return f"{images}: {where[0] if len(where) == 1 else f'{len(where)} runs pooled'}"


def write_calibration(found: Mapping[str, Any], folder: Path) -> Path:
    """Write a calibration (of ``calibrate``) into a folder as page, pictures and numbers; return the page.

    Raises:
        OSError: if it cannot be written.
    """
    risk = found["risk"]
    figures = {
        "reliability": (
            reliability_figure(found["bins"]),
            "share of right answers at each confidence; grey: 95 % range of a perfect model",
        ),
        "risk": (
            risk_figure(risk["curves"], risk["wanted"], risk if risk["reached"] else None),
            "share of wrong answers among the surest images; the dot is the threshold",
        ),
        "sets": (sets_figure(found), "how often sets hold the true class of the second half; grey: the range of 95 %"),
    }
    drawings: dict[str, list[tuple[str, str]]] = {}
    pictures: dict[str, bytes] = {}
    for name, (figure, shows) in figures.items():
        drawings[name] = [(figure_svg(figure, shows), shows)]
        pictures[f"calibration_{name}.png"] = figure_png(figure)
    before, after = _row(found, NONE), _row(found, found["chosen"])
    page = render(
        "calibration.html",
        sections=_SECTIONS,
        title=f"Calibration of {_name(folder)}",
        about=_about(found),
        cards=[
            (f"{after['ece']:.2%}", f"ECE, before {before['ece']:.2%}"),
            (f"{after['nll']:.3f}", f"negative log-likelihood, before {before['nll']:.3f}"),
            (f"{after['brier']:.3f}", f"Brier score, before {before['brier']:.3f}"),
            (f"{after['accuracy']:.1%}", f"accuracy, before {before['accuracy']:.1%}"),
        ],
        verdicts=verdicts(found),
        kinds=_kind_rows(found),
        sets=_set_rows(found),
        drawings=drawings,
        remarks=_remarks(found),
        use=_use(found, folder),
    )
    for file, content in pictures.items():
        write_atomically(folder / file, content)
    write_atomically(folder / PAGE, page)
    write_atomically(folder / CALIBRATION, json_text({**found, "verdicts": verdicts(found)}))
    return folder / PAGE


def _name(folder: Path) -> str:
    return "/".join(folder.absolute().parts[-2:])


def _remarks(found: Mapping[str, Any]) -> dict[str, list[str]]:
    before, sets, risk = _row(found, NONE), found["sets"], found["risk"]
    by = "as was asked" if found["asked"] else "because its negative log-likelihood on the other half is the least"
    kept = found["chosen"] in (NONE, "temperature")
    labels = "It changes no label." if kept else "It changes labels, too: accuracy and macro F1 tell how much."
    gap = before["confidence"] - before["accuracy"]
    way = "too sure" if gap > 0 else "not sure enough"
    curves, empty = risk["curves"], f"{sets['single']:.0%} hold one class, {sets['empty']:.1%} none"
    return {
        "scalings": [
            f"{_title(found)} was taken {by}. {labels}",
            "Models are ranked by negative log-likelihood and Brier score. The ECE is never 0 for a finite sample: "
            "beside it is what a perfect model of the same confidences shows.",
        ],
        "reliability": [
            f"Before: mean confidence {before['confidence']:.1%}, accuracy {before['accuracy']:.1%}: on the whole "
            f"{way} by {100 * abs(gap):.1f} points."
        ],
        "risk": [f"Area under the curve: {curves['before']['area']:.4f} before, {curves['after']['area']:.4f} after."],
        "sets": [
            f"Over all classes {sets['covered']:.1%} are covered; {empty}.",
            "The thresholds are those of the first half, for each class its own; judged is the second half, identical "
            "images once. With one threshold for all classes (last column) the promise holds on average only.",
        ],
    }


def _use(found: Mapping[str, Any], folder: Path) -> Sequence[str]:
    if found["step"] is None:
        return [
            "These are the predictions of several runs: no model takes this over. Calibrate the run that is to be used."
        ]
    coverages = ", ".join(found["calibration"]["sets"])
    return [
        f"`fer recognize PICTURE --model {folder}` and `fer serve {folder}` use it as it is.",
        f"`fer predict --ckpt_path {folder} --set {found['sets']['coverage']:g}` adds the prediction sets (stored for "
        f"{coverages}).",
        f"`fer export {folder} --out MODEL` carries it along.",
    ]
