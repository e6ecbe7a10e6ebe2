"""What ``fer explain`` writes: a page that holds all of its pictures, the same as files, and the numbers as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_lightning.explanation.explainer import Maps
from fer_lightning.explanation.pictures import (
    covering_figure,
    grid_figure,
    means_figure,
    picture_uri,
    pointing_figure,
    randomisation_figure,
    stack,
)
from fer_lightning.explanation.study import NETWORKS, mean_maps
from fer_lightning.explanation.subject import Subject
from fer_lightning.figures import PREVIEW, figure_pixels, figure_png, figure_svg, pixels_png, pixels_webp
from fer_lightning.outputs import Findings
from fer_lightning.pages import render
from fer_lightning.text import counted, table_lines

__all__ = ["explanation_lines", "verdicts", "write_explanation"]
_FEWEST_TOLD = 10  # faces of which a failed test is told


def verdicts(found: Mapping[str, Any]) -> list[str]:
    """Return in a sentence each what the tests say of the maps."""
    fine, sentences = found["maps"]["fine"]["name"], []
    if pointing := found["pointing"]:
        own, random, *_ = pointing["ways"]
        others = {way["name"]: way["share"] for way in pointing["ways"]}
        told = "the maps show what the network has learned" if pointing["passed"] else "no better than random weights"
        told = told if pointing["passed"] or pointing["images"] >= _FEWEST_TOLD else "too few faces to tell"
        foreign = "" if pointing["faces"] == "own" else ", which are not of this data set,"
        faces = counted(pointing["images"], "drawn face")
        sentences.append(
            f"{fine} points at what moved on {own['share']:.1%} of {faces}{foreign} that "
            f"the network gets right; with random weights on {random['share']:.1%}, an edge detector on "
            f"{others['edges']:.1%}, the middle of the picture on {others['centre']:.1%} (p {_p(pointing['p'])}: "
            f"{told})."
        )
        if pointing["faces"] != "own":
            sentences.append("Where the truth lies in the images of this data set nobody knows. More on drawn faces:")
    elif found["parts"] is None:
        sentences.append(
            "Where the truth lies in these images nobody knows, so whether the maps hit it cannot be said."
        )
    else:
        sentences.append("The network gets none of the drawn faces right, so whether its maps hit cannot be said.")
    last = found["randomisation"][-1]["fine"]
    if last is not None:
        sentences.append(
            f"With all weights replaced by random ones, the rank correlation of {fine} with itself falls from 1 to "
            f"{last:.2f}: {'it depends on the weights' if last < 0.5 else 'much of it shows the image alone'}."
        )
    orders = {order["name"]: order for order in found["covering"]["orders"]}
    if fine in orders:
        own, random = orders[fine], orders["random"]
        sentences.append(
            f"Covering the hottest pixels first (by {_fill(found)}) leaves a mean probability of "
            f"{own['deletion_area']:.2f}, a random order {random['deletion_area']:.2f}, the middle first "
            f"{orders['centre']['deletion_area']:.2f}."
        )
    for key, count in found["empty"].items():
        if count:
            name = found["maps"][key]["name"]
            sentences.append(f"{name} has no heat at all in {count:,} of {counted(found['images'], 'image')}.")
    return sentences


def _fill(found: Mapping[str, Any]) -> str:
    return "the same face at rest" if found["covering"]["fill"] == "resting face" else "a blur"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def explanation_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the numbers as lines of a terminal."""
    lines = table_lines(_pointing_rows(found)) if found["pointing"] else []
    drawn = [found["on_drawn"]] if found["on_drawn"] else []
    above, below = verdicts(found)[: _above(found)], verdicts(found)[_above(found) :]
    return [*lines, *([""] if lines else []), *above, *drawn, *below]


def _above(found: Mapping[str, Any]) -> int:
    """Return how many of the sentences stand above the command that explains the model on drawn faces."""
    return 2 if found["pointing"] and found["pointing"]["faces"] != "own" else 1


def _pointing_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("way to point", "hits", "from, to", "heat / area", "empty")]
    for way in found["pointing"]["ways"]:
        interval = "" if way["hits"] is None else f"{way['low']:.1%} to {way['high']:.1%}"
        heat = "n/a" if way["heat_over_area"] is None else f"{way['heat_over_area']:.2f}"
        rows.append((way["name"], f"{way['share']:.1%}", interval, heat, f"{way['empty']:,.0f}"))
    return rows


def write_explanation(subject: Subject, maps: Maps, found: Mapping[str, Any], folder: Path, shown: int) -> Path:
    """Write an explanation as page, pictures and ``explain.json``; return the page.

    Args:
        subject: what was explained.
        maps: what was found.
        found: from ``judged``, with ``title``, ``about``, ``command``, ``on_drawn`` and ``made`` (how it was made,
            by name).
        folder: to write into.
        shown: images of each class that are shown, right ones and wrong ones each.

    Raises:
        OSError: if it cannot be written.
    """
    output = Findings(folder, "explain.json")
    sides = {name: _sides(subject, maps, label, shown) for label, name in enumerate(subject.class_names)}
    sides = {name: each for name, each in sides.items() if any(map(len, each))}
    counts = {each["class"]: each for each in found["classes"]}
    heads = {name: f"{name}, {counts[name]['right']:,} of {counts[name]['images']:,} right" for name in sides}
    rows = ["face", *found["maps"]["names"]]
    for name, (right, wrong) in sides.items():
        columns = [(stack(subject, maps, row), _caption(subject, maps, row)) for row in (*right, *wrong)]
        title = f"{heads[name]}: on the left; on the right, taken for others"
        picture = figure_png(grid_figure(columns, rows, title, len(right)))
        output.write(f"class_{name.replace('/', '_')}.png", picture)
    examples = [right[0] for right, _ in sides.values() if right]
    sample = [(stack(subject, maps, row), _caption(subject, maps, row)) for row in examples]
    if sample:
        pixels = figure_pixels(grid_figure(sample, rows, "One face of each class"))
        output.write("samples.png", pixels_png(pixels))
        output.write(PREVIEW, pixels_webp(pixels))
    drawings = _drawings(subject, maps, found)
    for name, (svg, _) in drawings.items():
        output.write(f"{name}.svg", svg)
    page = render(
        "explain.html",
        sections={key: title for key, title in _SECTIONS.items() if key != "parts" or found["parts"]},
        title=found["title"],
        about=found["about"],
        cards=_cards(found),
        verdicts=verdicts(found),
        above=_above(found),
        on_drawn=found["on_drawn"],
        layers=rows[1:],
        sides={
            heads[name]: [[_tile(subject, maps, row) for row in part] for part in each] for name, each in sides.items()
        },
        samples=[_tile(subject, maps, row) for row in examples],
        drawings=drawings,
        pointing=_pointing_rows(found) if found["pointing"] else [],
        networks=NETWORKS,
        parts=_parts_rows(found["parts"] or []),
        covering=_covering_rows(found),
        fill=_fill(found),
        ninths=_ninths_rows(found),
        made=list(found["made"].items()),
        command=found["command"],
    )
    return output.finish({**found, "verdicts": verdicts(found)}, page)


_SECTIONS = {
    "verdict": "Verdict",
    "samples": "One face of each class",
    "classes": "Classes: right and wrong",
    "means": "Mean maps",
    "parts": "Parts at rest",
    "tests": "Tests of the maps",
    "repeat": "How to repeat",
}


def _sides(subject: Subject, maps: Maps, label: int, shown: int) -> tuple[list[int], list[int]]:
    """Return rows of a class that the network gets right, and others that it gets wrong, at most ``shown`` each."""
    here = np.flatnonzero(subject.labels == label)
    right = maps.preds[here] == label
    return here[right][:shown].tolist(), here[~right][:shown].tolist()


def _caption(subject: Subject, maps: Maps, row: int) -> str:
    label = int(maps.preds[row])
    return f"{subject.class_names[label]}\n{maps.probs[row, label]:.2f}"


def _tile(subject: Subject, maps: Maps, row: int) -> dict[str, str]:
    true, said = subject.class_names[subject.labels[row]], _caption(subject, maps, row)
    return {
        "picture": picture_uri(stack(subject, maps, row)),
        "caption": said.replace("\n", " "),
        "about": f"{subject.files[row]}: {true}, predicted {said}".replace("\n", " "),
    }


def _drawings(subject: Subject, maps: Maps, found: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the drawings by name, each with what it shows."""
    layers, drawn = found["maps"], {}
    means = mean_maps(subject, maps)
    if means:
        name = layers["fine"]["name"]
        shows = f"mean {name} by true class; below it, where it is hotter (red) or colder (blue) than the mean of all"
        drawn["means"] = (means_figure(means), shows)
    if found["pointing"]:
        shows = "faces whose hottest pixel lies where the face moved, with 95 % intervals; the line is chance"
        drawn["pointing"] = (pointing_figure(found["pointing"]["ways"]), shows)
    names = {key: layers[key]["name"] for key in ("fine", "coarse") if layers[key]["name"]}
    shows = "how alike the maps are to those of the trained network when ever more of it is random"
    drawn["randomisation"] = (randomisation_figure(found["randomisation"], names), shows)
    if orders := found["covering"]["orders"]:
        shows = "probability while pixels are covered (left) and shown (right), the hottest first"
        drawn["covering"] = (covering_figure(orders), shows)
    return {name: (figure_svg(figure, shows), shows) for name, (figure, shows) in drawn.items()}


def _cards(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    explained = f"image{'s' if found['images'] != 1 else ''} explained"
    cards = [(f"{found['images']:,}", explained), (f"{found['right'] / found['images']:.1%}", "of them right")]
    if pointing := found["pointing"]:
        own, random, *_ = pointing["ways"]
        where = "" if pointing["faces"] == "own" else " (drawn faces)"
        cards += [(f"{own['share']:.1%}", f"hit what moved{where}"), (f"{random['share']:.1%}", "with random weights")]
    return cards


def _parts_rows(parts: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    at_rest = ("brows, eyes at rest", "nose, mouth at rest", "all at rest")
    rows: list[tuple[str, ...]] = [("class", "faces", "probability", *at_rest)]
    for each in parts:
        falls = (f"{-100 * each['falls'][part]:+.1f}" for part in ("upper", "lower", "all"))
        rows.append((each["class"], f"{each['images']:,}", f"{each['probability']:.2f}", *falls))
    return rows


def _covering_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("order", "deletion (less is better)", "insertion (more is better)")]
    rows += [
        (order["name"], f"{order['deletion_area']:.3f}", f"{order['insertion_area']:.3f}")
        for order in found["covering"]["orders"]
    ]
    return rows


def _ninths_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the shares of the heat in the ninths, from the upper left to the lower right, by class."""
    places = [f"{row} {column}" for row in ("upper", "middle", "lower") for column in ("left", "centre", "right")]
    table = {**found["ninths"]["classes"], "centre map": found["ninths"]["centre"]}
    shares = {name: [f"{share:.0%}" for row in rows for share in row] for name, rows in table.items()}
    return [("", *places), *((name, *each) for name, each in shares.items())]
