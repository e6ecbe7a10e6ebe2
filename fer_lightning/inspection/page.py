"""What ``fer data inspect`` writes: a page, its pictures, and its numbers and lists as JSON and CSV."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fer_lightning import __version__
from fer_lightning.class_weights import class_weights
from fer_lightning.data.splitting.dedupe import Duplicates, find_duplicates
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import DataError
from fer_lightning.figures import data_url, figure_pixels, pixels_png, pixels_webp
from fer_lightning.files import csv_text, json_text, write_atomically
from fer_lightning.inspection.embedding import check_tsne, embed_pixels, embedding_figure
from fer_lightning.inspection.examples import caption, list_cells, one_per_group, pairs_picture, short_name
from fer_lightning.inspection.findings import findings
from fer_lightning.inspection.plots import (
    counts_figure,
    faces_figure,
    histogram_figure,
    light_figure,
    samples_figure,
    sizes_figure,
    strip_figure,
)
from fer_lightning.inspection.statistics import (
    UNUSED,
    PixelStatistics,
    column_summary,
    mean_faces,
    measure_pixels,
    pixel_summary,
    size_summary,
    soft_label_summary,
    split_names,
    split_summary,
    subject_summary,
    train_or_all,
)
from fer_lightning.pages import render

__all__ = ["SCHEMA", "inspect_table"]

SCHEMA = 1
"""Version of the layout of ``inspect.json``; it rises when a key changes its meaning or goes."""

_PER_CLASS = 8  # images in the grid of samples
_EXTREMES = 8  # darkest and brightest images shown, of each
_BLANKS = 16  # blank images shown
_PAIRS = 12  # pairs of near-duplicates shown
_SHOWN, _QUALITY = 1040, 75  # pixels of width, and quality, of the pictures in the page
_TABLES = ("counts.csv", "duplicates.csv", "blank.csv", "unreadable.csv", "tsne.csv")
_PICTURES = (
    "counts", "mean_faces", "samples", "histogram", "light", "extremes", "blank", "duplicates", "sizes", "tsne"
)  # fmt: skip


@dataclass
class _Output:
    """The files of an inspection, kept in memory until all of them are made.

    Attributes:
        pictures: PNG files by name without suffix.
        shown: the same for the page, as data URLs: as wide as the page, and small.
        figures: by section of the page, the pictures in it: file and what it shows.
        tables: CSV files by name.
    """

    pictures: dict[str, bytes] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)
    figures: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    tables: dict[str, str] = field(default_factory=dict)

    def picture(self, section: str, stem: str, figure: Figure, shows: str) -> None:
        pixels = figure_pixels(figure)
        self.pictures[stem] = pixels_png(pixels)
        self.shown[stem] = data_url(pixels_webp(pixels, _SHOWN, _QUALITY), "webp")
        self.figures[section].append((f"pictures/{stem}.png", shows))

    def table(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        self.tables[name] = csv_text(header, rows)

    def write(self, folder: Path, report: dict[str, Any]) -> None:
        """Write all files, and remove those of an earlier inspection that this one does not have."""
        for name in _TABLES:
            if name not in self.tables:
                (folder / name).unlink(missing_ok=True)
        for stem in _PICTURES:
            if stem not in self.pictures:
                (folder / "pictures" / f"{stem}.png").unlink(missing_ok=True)
        for stem, content in self.pictures.items():
            write_atomically(folder / "pictures" / f"{stem}.png", content)
        for name, text in self.tables.items():
            write_atomically(folder / name, text)
        write_atomically(folder / "inspect.json", json_text(report))
        sections, files = _sections(report, "map" in self.figures), sorted(self.tables)
        figures: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for section, listed in self.figures.items():
            figures[section] = [(file, shows, self.shown[Path(file).stem]) for file, shows in listed]
        page = render(
            "inspect.html", report=report, cards=_cards(report), sections=sections, figures=figures, files=files
        )
        write_atomically(folder / "index.html", page)


def _sections(report: dict[str, Any], has_map: bool) -> dict[str, str]:
    """Return title by id of the sections that have something to show."""
    sizes = report["sizes"]
    titles = {
        "look": "What to look at",
        "classes": "Classes and splits",
        "faces": "Faces",
        "pixels": "Pixels",
        "duplicates": "Duplicates",
        "columns": "Sources and groups",
        "files": "Files",
        "votes": "Soft labels",
        "map": "Map of the pixels",
    }
    present = {
        "columns": bool(report["columns"]),
        "files": bool(report["unreadable"]) or (sizes is not None and sizes["known"] > 0),
        "votes": report["soft_labels"] is not None,
        "map": has_map,
    }
    return {section: title for section, title in titles.items() if present.get(section, True)}


def _cards(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the large numbers at the head of the page, each with what it counts."""
    splits, duplicates = report["splits"], report["duplicates"]
    ratio, absent = splits["train"]["imbalance_ratio"], len(splits["train"]["absent"])
    empty = f"; {absent} of {len(report['class_names'])} have no image" if absent else ""
    shared = sum(count["exact"] for pair, count in duplicates["shared"].items() if pair.endswith("in train"))
    copies = sum(part["exact"]["rows"] - part["exact"]["groups"] for part in duplicates["within"].values())
    images = [
        (f"{part['images']:,}", f"images in {name}")
        for name, part in splits.items()
        if part["images"] or name != UNUSED
    ]
    return [
        *images,
        ("n/a" if ratio is None else f"{ratio:.1f} : 1", f"largest to smallest class of train{empty}"),
        (f"{shared:,}", "images of val and test that train has, too"),
        (f"{copies:,}", "identical copies within the splits"),
        (f"{report['pixels']['blank']['images']:,}", "blank images"),
        (f"{len(report['unreadable']):,}", "files left out"),
    ]


def inspect_table(
    table: SamplesTable,
    out: Path,
    *,
    name: str,
    notes: Sequence[tuple[str, str]] = (),
    near: bool = True,
    mirrored: bool = False,
    tsne: bool = False,
    tsne_samples: int = 3000,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a data set and write ``index.html``, ``inspect.json``, lists (CSV) and ``pictures/``.

    Images are read a few megabytes at a time. Nothing is written before all of it is there; files of an earlier
    inspection in the same folder are replaced or removed.

    Args:
        table: the data set.
        out: folder to write into; made if missing.
        name: of the data set, for the headlines.
        notes: (file, reason) of what was left out of the table.
        near: also look for near-duplicates.
        mirrored: count mirror images as near-duplicates.
        tsne: also draw a map of the images by their raw pixels.
        tsne_samples: most images on that map.
        seed: chooses the images shown.

    Returns:
        The content of ``inspect.json``: ``schema, version, name, seed, images, image_shape`` (channels, height, width),
        ``scheme, class_names, part`` (which the faces show: ``train`` or ``all``), ``remarks`` and ``findings``
        (sentences), ``class_weights`` (inverse frequency in train, or ``None``), ``unreadable`` (``file``, ``reason``),
        the returns of the summaries in ``statistics`` (``splits, columns, subjects, pixels, sizes, soft_labels``)
        and ``duplicates``: ``Duplicates.counts``, ``near`` and ``mirrored`` (what was looked for).

    Raises:
        DataError: if the table is empty.
        ConfigError: if ``tsne`` is set and there are fewer than five images for it.
        MissingExtraError: if ``tsne`` is set and scikit-learn is not installed.
    """
    if not len(table):
        raise DataError(f"{name}: there is no image to inspect")
    if tsne:
        check_tsne(min(tsne_samples, len(train_or_all(table)[1])))
    pixels = measure_pixels(table)
    found = find_duplicates(table, near=near, mirrored=mirrored)
    report = {**_head(table, name, seed, notes), **_numbers(table, pixels)}
    report["duplicates"] = {"near": near, "mirrored": mirrored, **found.counts()}
    del report["duplicates"]["blank"]  # see pixels
    report["findings"] = findings(report)
    output = _Output()
    _add_tables(output, table, report, pixels, found)
    _add_statistics(output, table, report, pixels)
    _add_examples(output, table, pixels, seed)
    _add_pairs(output, table, found)
    if tsne:
        _add_map(output, table, tsne_samples, seed)
    output.write(out, report)
    return report


def _head(table: SamplesTable, name: str, seed: int, notes: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": __version__,
        "name": name,
        "seed": seed,
        "images": len(table),
        "image_shape": list(table.images.shape[1:]),
        "scheme": table.scheme,
        "class_names": list(table.class_names),
        "part": train_or_all(table)[0],
        "remarks": list(table.remarks),
        "findings": [],
        "unreadable": [{"file": str(file), "reason": str(reason)} for file, reason in notes],
    }


def _numbers(table: SamplesTable, pixels: PixelStatistics) -> dict[str, Any]:
    splits = split_summary(table)
    return {
        "splits": splits,
        "class_weights": class_weights(splits["train"]["counts"]) if splits["train"]["images"] else None,
        "columns": column_summary(table),
        "subjects": subject_summary(table),
        "pixels": pixel_summary(table, pixels),
        "sizes": size_summary(table),
        "soft_labels": soft_label_summary(table),
    }


def _add_tables(
    output: _Output,
    table: SamplesTable,
    report: dict[str, Any],
    pixels: PixelStatistics,
    found: Duplicates,
) -> None:
    names = split_names(table)
    counts = {split: report["splits"][split]["counts"] for split in names}
    output.table("counts.csv", ["class", *names], [[k, *(counts[s][k] for s in names)] for k in table.class_names])
    if len(pixels.blank):
        rows = [[row, *list_cells(table, row), f"{pixels.contrast[row]:.6f}"] for row in pixels.blank.tolist()]
        output.table("blank.csv", ["row", "file", "split", "label", "standard_deviation"], rows)
    exact, groups = found.exact_groups, found.near_groups
    repeated = np.flatnonzero(np.bincount(groups)[groups] > 1)
    if len(repeated):
        order = repeated[np.lexsort((repeated, exact[repeated], groups[repeated]))]
        # groups are numbered from 1 in the order in which they are listed
        number = {group: place for place, group in enumerate(dict.fromkeys(groups[order].tolist()), start=1)}
        content = {group: place for place, group in enumerate(dict.fromkeys(exact[order].tolist()), start=1)}
        rows = [
            [number[int(groups[row])], content[int(exact[row])], row, *list_cells(table, row)] for row in order.tolist()
        ]
        output.table("duplicates.csv", ["group", "identical", "row", "file", "split", "label"], rows)
    if report["unreadable"]:
        rows = [[note["file"], note["reason"]] for note in report["unreadable"]]
        output.table("unreadable.csv", ["file", "reason"], rows)


def _add_statistics(output: _Output, table: SamplesTable, report: dict[str, Any], pixels: PixelStatistics) -> None:
    part, rows = train_or_all(table)
    counts = {split: report["splits"][split]["counts"] for split in split_names(table)}
    output.picture(
        "classes", "counts", counts_figure(counts, "Images per class"), "Images of each class in each split."
    )
    mean, std = mean_faces(pixels)
    figure = faces_figure(mean, std, pixels.face_rows.tolist(), table.class_names, f"Mean faces, {part}")
    shows = "Mean and standard deviation of the images of each class, and where the mean differs from that of all."
    output.picture("faces", "mean_faces", figure, shows)
    output.picture(
        "pixels", "histogram", histogram_figure(pixels.histograms, "Pixel values"), "How common each pixel value is."
    )
    figure = light_figure(
        pixels.brightness[rows], pixels.contrast[rows], table.labels[rows], table.class_names, f"Light, {part}"
    )
    shows = "Mean (brightness) and standard deviation (contrast) of the images: median, middle half, middle 90 %."
    output.picture("pixels", "light", figure, shows)
    sizes = report["sizes"]
    if sizes is not None and sizes["known"]:
        width, height = (np.asarray(table.columns[side], np.float64) for side in ("width", "height"))
        known = (width > 0) & (height > 0)
        _, tall, wide = report["image_shape"]
        figure = sizes_figure(width[known], height[known], (tall, wide), "Sizes of the original files")
        output.picture("files", "sizes", figure, "Shorter side and aspect of the original files.")


def _add_examples(output: _Output, table: SamplesTable, pixels: PixelStatistics, seed: int) -> None:
    part, rows = train_or_all(table)
    chosen = {}
    for label, name in enumerate(table.class_names):
        of_class = rows[table.labels[rows] == label]
        # a generator for each class: what is shown of it does not depend on how many images the others have
        picked = np.random.default_rng([seed, label]).permutation(len(of_class))[:_PER_CLASS]
        chosen[name] = table.images[of_class[picked]]
    figure = samples_figure(chosen, f"Samples, {part}")
    output.picture("faces", "samples", figure, f"Images of each class, drawn with seed {seed}.")
    extremes = np.concatenate(pixels.extremes(_EXTREMES))
    if len(extremes):
        captions = [f"{short_name(table, row)}\n{pixels.brightness[row]:.3f}" for row in extremes.tolist()]
        figure = strip_figure(table.images[extremes], captions, "Darkest and brightest images", len(extremes) // 2)
        output.picture("pixels", "extremes", figure, "The darkest and the brightest images that are not blank.")
    blank = pixels.blank[:_BLANKS]
    if len(blank):
        captions = [caption(table, row) for row in blank.tolist()]
        figure = strip_figure(table.images[blank], captions, f"Blank images ({len(blank):,} of {len(pixels.blank):,})")
        output.picture("pixels", "blank", figure, "Images whose pixels are nearly all the same.")


def _add_pairs(output: _Output, table: SamplesTable, found: Duplicates) -> None:
    """Show near-duplicates that are not identical: the closest pair of each group, from all kinds of pairs."""
    first, second = found.pairs.first, found.pairs.second
    nearly = np.flatnonzero((table.digests[first] != table.digests[second]).any(axis=1))
    across = table.splits[first] != table.splits[second]
    conflicting = table.labels[first] != table.labels[second]
    order = nearly[np.lexsort((found.pairs.distance[nearly], ~conflicting[nearly], ~across[nearly]))]
    if not len(order):
        return
    order = one_per_group(found, order)
    # a third each: in different splits; others with different labels; the rest. Where there are too few, more of others
    kinds = [across[order], conflicting[order] & ~across[order], ~conflicting[order] & ~across[order]]
    preferred = np.concatenate([np.flatnonzero(kind)[: _PAIRS // 3] for kind in kinds])
    shown = order[np.concatenate([preferred, np.setdiff1d(np.arange(len(order)), preferred)])[:_PAIRS]]
    title = f"Near-duplicates ({len(shown):,} of {len(nearly):,} pairs)"
    figure = pairs_picture(table, found, shown, title)
    output.picture("duplicates", "duplicates", figure, "Pairs that show nearly the same; framed: the labels differ.")


def _add_map(output: _Output, table: SamplesTable, samples: int, seed: int) -> None:
    rows, places = embed_pixels(table, samples, seed)
    title = f"t-SNE of the pixels of {len(rows):,} images, {train_or_all(table)[0]}"
    figure = embedding_figure(places, table.labels[rows], table.class_names, title)
    shows = (
        "Raw pixels after PCA to 50 components and t-SNE: images that look alike lie together, whatever their class."
    )
    output.picture("map", "tsne", figure, shows)
    lines = [
        [row, *list_cells(table, row), f"{x:.5f}", f"{y:.5f}"]
        for row, (x, y) in zip(rows.tolist(), places.tolist(), strict=True)
    ]
    output.table("tsne.csv", ["row", "file", "split", "label", "x", "y"], lines)
