"""The map of raw pixels: which images stand on it, and where."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text
from numpy.typing import NDArray

from fer_lightning.data.files.file_images import ResizedImages
from fer_lightning.errors import ConfigError, MissingExtraError
from fer_lightning.figures import figure_png
from fer_lightning.inspection.embedding import check_tsne, embed_pixels, embedding_figure, flat_pixels, stratified_rows
from tests.helpers.data import stripes_table


def test_a_draw_keeps_the_shares_of_the_classes() -> None:
    labels = np.repeat([0, 1, 2], [900, 90, 3])
    rows = np.arange(993)
    drawn = stratified_rows(labels, rows, 100, seed=3)
    assert len(drawn) == len(set(drawn.tolist())) == 100
    counts = np.bincount(labels[drawn])
    assert abs(counts[0] - 90.6) <= 2
    assert abs(counts[1] - 9.1) <= 2
    assert counts[2] == 1
    np.testing.assert_array_equal(drawn, stratified_rows(labels, rows, 100, seed=3))
    assert drawn.tolist() != stratified_rows(labels, rows, 100, seed=4).tolist()
    assert stratified_rows(labels, rows[:50], 100, seed=0).tolist() == list(range(50))


def test_images_that_look_alike_lie_together() -> None:
    pytest.importorskip("sklearn")
    table = stripes_table({"val": 7, "train": 140})
    rows, places = embed_pixels(table, samples=105, seed=0)
    assert set(table.splits[rows]) == {"train"}
    assert np.bincount(table.labels[rows]).tolist() == [15] * 7
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (table.labels[rows][distances.argmin(axis=1)] == table.labels[rows]).all()
    np.testing.assert_array_equal(embed_pixels(table, samples=105, seed=0)[1], places)


def test_pca_and_tsne_are_asked_for_what_is_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    manifold, decomposition = pytest.importorskip("sklearn.manifold"), pytest.importorskip("sklearn.decomposition")
    asked: list[dict[str, Any]] = []

    class Recorded:
        def __init__(self, components: int = 2, **options: Any) -> None:
            asked.append({"components": components, **options})

        def fit_transform(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
            return values[:, :2]

    monkeypatch.setattr(manifold, "TSNE", Recorded)
    monkeypatch.setattr(decomposition, "PCA", Recorded)
    table = stripes_table({"train": 140})
    for samples in (112, 28):
        embed_pixels(table, samples, seed=5)
    assert [call["components"] for call in asked] == [50, 2, 28, 2]
    assert [call["perplexity"] for call in asked[1::2]] == [30.0, 9.0]  # at most a third of the other images
    assert {call["random_state"] for call in asked} == {5}


def test_large_images_are_averaged_down() -> None:
    table = stripes_table({"train": 7})
    large = replace(table, images=ResizedImages(table.images, 130, 3))
    flat = flat_pixels(large, np.arange(7))
    assert flat.shape == (7, 3 * 43 * 43)
    assert 0.0 <= flat.min() <= flat.max() <= 1.0
    small = flat_pixels(table, np.arange(7))
    np.testing.assert_allclose(small, np.asarray(table.images).reshape(7, -1) / 255.0, atol=1e-6)


def test_a_missing_extra_is_named_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fer_lightning\[explain\]'"):
        check_tsne(100)


def test_too_few_images_are_refused() -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(ConfigError, match="t-SNE of 3 images: expected at least 5"):
        embed_pixels(stripes_table({"train": 3}), samples=100, seed=0)


def test_every_class_stands_in_the_legend() -> None:
    labels = np.arange(30) % 3
    figure = embedding_figure(np.random.default_rng(0).random((30, 2)), labels, ("happy", "sad", "fear"), "Map")
    assert len(figure.axes[0].collections[0].get_facecolor()) == 30
    assert {"happy", "sad", "fear", "Map"} <= {text.get_text() for text in figure.findobj(Text)}
    assert figure_png(figure).startswith(b"\x89PNG")
