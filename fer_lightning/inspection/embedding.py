"""Maps of images in a plane, by their raw pixels or by any other features: PCA, then t-SNE."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import ConfigError
from fer_lightning.extras import need_extra
from fer_lightning.figures import INK, house_style
from fer_lightning.inspection.plots import class_colors
from fer_lightning.inspection.statistics import train_or_all
from fer_lightning.text import counted

__all__ = [
    "check_tsne",
    "embed_pixels",
    "embedding_figure",
    "flat_pixels",
    "principal_components",
    "stratified_rows",
    "tsne_places",
]

_COMPONENTS = 50  # of the PCA before t-SNE, as van der Maaten and Hinton advise: 2008, JMLR 9, section 4.2
_PERPLEXITY = 30.0  # scikit-learn's default; the paper recommends 5 to 50
_SIDE = 64  # pixels; larger images are averaged down, so that thousands of them fit into memory as floats
_FEWEST = 5  # images; fewer have no neighbourhoods
_CHUNK = 64  # images read at a time


def check_tsne(samples: int) -> None:
    """Check that t-SNE of so many images is possible, before any is read.

    Raises:
        MissingExtraError: if scikit-learn is not installed.
        ConfigError: if there are fewer than five images.
    """
    need_extra("explain", "t-SNE needs", "sklearn")
    if samples < _FEWEST:
        raise ConfigError(f"t-SNE of {counted(samples, 'image')}: expected at least {_FEWEST}")


def stratified_rows(labels: NDArray[np.int64], rows: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Draw ``count`` of ``rows`` so that each class keeps its share; ascending, int64 ``(M,)``.

    Labels are int64 ``(N,)``, of all rows of the table. Every class has at least one row as long as ``count`` is not
    below the number of classes; if there are no more than ``count``, all rows are taken.
    """
    if len(rows) <= count:
        return np.sort(rows)
    shuffled = np.random.default_rng(seed).permutation(rows)
    # rank of each row within its class, divided by the size of the class: a cut takes the same share of every class
    rank = np.empty(len(rows))
    for label in np.unique(labels[shuffled]):
        here = np.flatnonzero(labels[shuffled] == label)
        rank[here] = np.arange(len(here)) / len(here)
    return np.sort(shuffled[np.argsort(rank, kind="stable")[:count]])


def embed_pixels(table: SamplesTable, samples: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Place the images in a plane by t-SNE of their pixels, after PCA to 50 components.

    Args:
        table: the images; the part that ``train_or_all`` returns is used.
        samples: draw at most so many; classes keep their shares. 3,000 take half a minute on two cores.
        seed: of the draw, of PCA and of t-SNE.

    Returns:
        Rows of the table, int64 ``(M,)``, and their places, float64 ``(M, 2)``.

    Raises:
        MissingExtraError: if scikit-learn is not installed.
        ConfigError: if there are fewer than five images.
    """
    rows = stratified_rows(table.labels, train_or_all(table)[1], samples, seed)
    check_tsne(len(rows))
    return rows, tsne_places(principal_components(flat_pixels(table, rows), seed), seed)


def principal_components(features: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Return the first 50 principal components of features ``(M, F)``, or as many as there are, float32 ``(M, P)``."""
    from sklearn.decomposition import PCA

    count = min(_COMPONENTS, *features.shape)
    found = PCA(count, svd_solver="randomized", random_state=seed).fit_transform(features)
    return np.asarray(found, np.float32)


def tsne_places(components: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """Return places in a plane by t-SNE of principal components ``(M, P)``, float64 ``(M, 2)``.

    Neighbours stay neighbours; distances between far groups and their sizes mean nothing.
    """
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(components) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(components)
    return np.asarray(places, np.float64)


def flat_pixels(table: SamplesTable, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the pixels of rows of a table, at most 64 pixels a side, float32 ``(M, C * H * W)`` in 0..1."""
    height, width = table.images.shape[2:]
    step = -(-max(height, width) // _SIDE)
    tall, wide = max(1, height // step), max(1, width // step)
    parts = []
    for start in tqdm(range(0, len(rows), _CHUNK), desc="t-SNE", unit="chunk", disable=None, leave=False):
        images = table.images[rows[start : start + _CHUNK]][:, :, : tall * step, : wide * step]
        blocks = images.reshape(*images.shape[:2], tall, images.shape[2] // tall, wide, images.shape[3] // wide)
        parts.append(blocks.mean(axis=(3, 5), dtype=np.float32).reshape(len(images), -1) / np.float32(255.0))
    return np.concatenate(parts)


def embedding_figure(
    places: NDArray[np.float64],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    title: str,
    legend: str = "class",
    narrow: bool = False,
) -> Figure:
    """Draw points in the plane, float64 ``(M, 2)``, coloured by class, int64 ``(M,)``.

    Args:
        places: of the points.
        labels: of the points.
        class_names: by label.
        title: headline.
        legend: what the colours stand for.
        narrow: for the column of a page, the legend below.
    """
    colors = class_colors(len(class_names))
    size = float(np.clip((8_000 if narrow else 24_000) / max(1, len(places)), 2.0 if narrow else 6.0, 40.0))
    with house_style():
        figure = Figure(figsize=(5.2, 4.9) if narrow else (8.2, 6.2), layout="constrained")
        axes = figure.add_subplot()
        # all in one call, in the order of the rows: no class lies on top of the others
        axes.scatter(
            places[:, 0],
            places[:, 1],
            s=size,
            c=[colors[label] for label in labels],
            alpha=0.75,
            linewidths=0.15,
            edgecolors=INK,
            rasterized=True,
        )
        for name, color in zip(class_names, colors, strict=True):
            axes.scatter([], [], s=40, color=color, label=name, linewidths=0.15, edgecolors=INK)
        axes.set(xticks=[], yticks=[], title=title)
        axes.set_aspect("equal", adjustable="datalim")
        axes.spines[:].set_visible(True)
        if narrow:
            figure.legend(loc="outside lower center", title=legend, ncols=4)
        else:
            figure.legend(loc="outside right upper", title=legend, alignment="left")
    return figure
