"""What ``fer embed`` writes: a page that holds its pictures, a table of places, the numbers, files for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.explanation.embedding import AFTER, BEFORE, CLASS, PIXELS, Colouring, Embedding
from fer_lightning.explanation.features import NEIGHBOURS
from fer_lightning.explanation.projector import write_projector
from fer_lightning.figures import PREVIEW, figure_pixels, figure_svg, pixels_webp
from fer_lightning.files import csv_text
from fer_lightning.inspection.embedding import embedding_figure
from fer_lightning.outputs import Findings
from fer_lightning.pages import render
from fer_lightning.text import table_lines

__all__ = ["embedding_lines", "embedding_verdicts", "write_embedding"]

_SPACES = (PIXELS, BEFORE, AFTER)
_EQUAL = 0.02  # of a purity: less is no difference worth a word


def embedding_verdicts(scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Return in a sentence each what training has done to the classes and to other groups."""
    before, after = scores[BEFORE][CLASS], scores[AFTER][CLASS]
    pixels = scores[PIXELS][CLASS]
    sentences = [
        "All images are of one class, so how far classes lie apart cannot be said."
        if after["chance"] == 1
        else f"After training {after['purity']:.0%} of an image's nearest neighbours are of its class; before, "
        f"{before['purity']:.0%}; by pixels, {pixels['purity']:.0%}; by chance, {after['chance']:.0%}. The silhouette "
        f"of the classes went from {before['silhouette']:.2f} to {after['silhouette']:.2f}."
    ]
    for name, own in scores[AFTER].items():
        if name == CLASS:
            continue
        first, chance = scores[BEFORE][name]["purity"], own["chance"]
        gained = own["purity"] - first
        told = "as much as" if abs(gained) < _EQUAL else "more than" if gained > 0 else "less than"
        sentences.append(
            f"{name}: {own['purity']:.0%} of the neighbours are of the same group (chance {chance:.0%}, before "
            f"training {first:.0%}): the features tell these groups apart {told} before."
        )
    return sentences


def _rows(scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (
            "divided by",
            "chance",
            *(f"purity, {space}" for space in _SPACES),
            *(f"silhouette, {space}" for space in _SPACES),
        )
    ]
    for name in scores[AFTER]:
        purity = (f"{scores[space][name]['purity']:.1%}" for space in _SPACES)
        silhouette = (f"{scores[space][name]['silhouette']:.3f}" for space in _SPACES)
        rows.append((name, f"{scores[AFTER][name]['chance']:.1%}", *purity, *silhouette))
    return rows


def embedding_lines(found: Embedding) -> list[str]:
    """Return the numbers as lines of a terminal."""
    return [*table_lines([row[:5] for row in _rows(found.scores)]), "", *embedding_verdicts(found.scores)]


def write_embedding(
    found: Embedding, table: SamplesTable, ways: Sequence[Colouring], about: Mapping[str, Any], folder: Path
) -> Path:
    """Write an embedding as page, drawings, ``embed.json``, ``places.csv`` and for TensorBoard; return the page.

    Args:
        found: features, places and numbers.
        table: of the data set.
        ways: to colour the maps.
        about: ``title``, ``about``, ``command``, ``start`` (what the network was before training) and ``made``.
        folder: to write into.

    Raises:
        OSError: if it cannot be written.
    """
    output = Findings(folder, "embed.json")
    drawings = _drawings(found, ways, output)
    columns = _columns(found, table, ways)
    output.write("places.csv", _places(found, columns))
    features = {when.replace(" ", "_"): values for when, values in found.features.items()}
    write_projector(folder / "projector", features, columns, table.images[found.rows])
    verdicts = embedding_verdicts(found.scores)
    values = {
        **about,
        "images": len(found.rows),
        "neighbours": min(NEIGHBOURS, len(found.rows) - 1),
        "scores": found.scores,
        "verdicts": verdicts,
    }
    page = render(
        "embed.html",
        sections={
            "verdict": "Verdict",
            **{f"by-{way.name}": f"By {way.name}" for way in ways},
            "repeat": "How to repeat",
        },
        title=about["title"],
        about=about["about"],
        start=about["start"],
        verdicts=verdicts,
        rows=_rows(found.scores),
        drawings={f"by-{name}": each for name, each in drawings.items()},
        neighbours=min(NEIGHBOURS, len(found.rows) - 1),
        made=list(about["made"].items()),
        command=about["command"],
        projector=str(folder / "projector"),
    )
    return output.finish(values, page)


def _drawings(found: Embedding, ways: Sequence[Colouring], output: Findings) -> dict[str, list[tuple[str, str]]]:
    """Draw and write the maps; return them by colouring, each with what it shows."""
    drawings: dict[str, list[tuple[str, str]]] = {}
    for way in ways:
        known = way.labels >= 0
        drawings[way.name] = []
        for when in (BEFORE, AFTER):
            places, labels = found.places[when][known], way.labels[known]
            figure = embedding_figure(places, labels, way.groups, when.capitalize(), way.name, narrow=True)
            shows = f"each point is an image, coloured by {way.name}: features {when}"
            svg = figure_svg(figure, shows)
            output.write(f"{way.name.replace('/', '_')}_{when.partition(' ')[0]}.svg", svg)
            if (way.name, when) == (CLASS, AFTER):
                output.write(PREVIEW, pixels_webp(figure_pixels(figure)))
            drawings[way.name].append((svg, shows))
    return drawings


def _places(found: Embedding, columns: Mapping[str, NDArray[np.str_]]) -> str:
    """Return a table of all images with their places on both maps."""
    numbers = np.concatenate([found.places[BEFORE], found.places[AFTER]], axis=1).round(4)
    header = [*columns, "before_x", "before_y", "after_x", "after_y"]
    texts = zip(*columns.values(), strict=True)
    return csv_text(header, ([*text, *row] for text, row in zip(texts, numbers.tolist(), strict=True)))


def _columns(found: Embedding, table: SamplesTable, ways: Sequence[Colouring]) -> dict[str, NDArray[np.str_]]:
    """Return what is known of the images, ``(M,)`` strings by name."""
    names = np.array(table.class_names)
    columns = {
        "file": np.asarray(table.files, np.str_)[found.rows],
        CLASS: names[table.labels[found.rows]],
        "predicted": names[found.preds],
    }
    for way in ways:
        if way.name != CLASS:
            columns[way.name] = np.array([*way.groups, ""])[way.labels]  # -1 is the last
    return columns
