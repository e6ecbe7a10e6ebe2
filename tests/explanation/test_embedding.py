"""Features in front of the head, how well they keep groups together, and the files for TensorBoard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from PIL import Image
from sklearn.metrics import silhouette_score
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from fer_lightning.data.sets.sketch.sketch import scan_sketch
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.explanation.embedding import AFTER, BEFORE, CLASS, PIXELS, colourings, distinct_rows, embedded
from fer_lightning.explanation.embedding_report import embedding_verdicts
from fer_lightning.explanation.features import features_of, grouping
from fer_lightning.explanation.projector import write_projector
from fer_lightning.preprocessing import prepare
from tests.explanation.test_layers import GRAY, classifier


def test_features_are_what_the_head_gets() -> None:
    network, images = classifier("fer_b_fast"), scan_sketch(counts={"val": 12}).images
    network.train()
    rows = np.array([7, 2, 9])
    counts: list[int] = []
    features, preds = features_of(network, GRAY, images, rows, counts.append)
    assert network.training
    assert counts == [3]
    network.eval()
    prepared = prepare(torch.from_numpy(images[rows]), GRAY)
    torch.testing.assert_close(torch.from_numpy(features), network.features(prepared).detach())
    assert preds.tolist() == network(prepared).argmax(1).tolist()


def test_purity_and_silhouette_are_those_by_hand() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 3, 60)
    points = (rng.normal(size=(60, 4)) + groups[:, None]).astype(np.float32)
    found = grouping(points, groups)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    near = np.argsort(distances, axis=1)[:, :10]
    same = (groups[near] == groups[:, None]).mean(axis=1)
    assert found["purity"] == pytest.approx(np.mean([same[groups == group].mean() for group in range(3)]))
    assert found["silhouette"] == pytest.approx(silhouette_score(points, groups))
    chance = [grouping(points, rng.permutation(groups)) for _ in range(30)]
    assert np.mean([each["purity"] for each in chance]) == pytest.approx(found["chance"], abs=0.02)


def test_what_is_not_known_is_left_out_of_a_division() -> None:
    table = scan_sketch(counts={"val": 28})
    table.columns["camera"] = np.where(np.arange(28) < 8, "", np.where(np.arange(28) % 2, "left", "right"))
    table.columns["subject"] = np.array([f"{row}" for row in range(28)])
    rows = distinct_rows(table, "val", 100, 0)
    ways = {way.name: way for way in colourings(table, rows)}
    assert "subject" not in ways  # too many to be groups
    assert "source" not in ways  # only one
    assert (ways["camera"].labels == -1).sum() == 8
    assert ways["camera"].groups == ("left", "right")
    assert [way.name for way in colourings(table, rows, "subject")] == ["class", "subject"]
    with pytest.raises(ConfigError, match="there is no column 'camra'; did you mean 'camera'"):
        colourings(table, rows, "camra")
    with pytest.raises(ConfigError, match="the column 'camera' has one value only, 'right', in the 2 images chosen"):
        colourings(table, rows[8:12:2], "camera")


def test_identical_images_are_taken_once() -> None:
    table = scan_sketch(counts={"val": 21})
    twice = table.select(np.concatenate([np.arange(21), np.arange(10)]))
    assert distinct_rows(twice, "val", 100, 0).tolist() == list(range(21))
    with pytest.raises(DataError, match="no image in its split 'test'; splits with images: val"):
        distinct_rows(table, "test", 100, 0)


def test_the_same_seed_maps_the_same_and_each_step_is_told() -> None:
    table = scan_sketch(counts={"val": 28})
    rows, network = distinct_rows(table, "val", 100, 0), classifier("fer_b_fast")
    ways = colourings(table, rows)
    steps: list[str] = []
    first, second = (
        embedded({BEFORE: network, AFTER: network}, GRAY, table, rows, ways, 3, steps.append) for _ in range(2)
    )
    np.testing.assert_array_equal(first.places[AFTER], second.places[AFTER])
    np.testing.assert_array_equal(first.places[BEFORE], first.places[AFTER])
    assert len(steps) == 2 * 5
    assert set(first.scores) == {PIXELS, BEFORE, AFTER}
    assert first.scores[BEFORE] == first.scores[AFTER]
    assert "as much as before" in embedding_verdicts(first.scores)[1]


def test_nothing_is_said_of_a_single_class() -> None:
    one = {CLASS: {"purity": 1.0, "chance": 1.0, "silhouette": 0.0}}
    told = embedding_verdicts({space: one for space in (PIXELS, BEFORE, AFTER)})
    assert told == ["All images are of one class, so how far classes lie apart cannot be said."]


def test_tensorboard_reads_the_projector_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 255, (5, 3, 48, 48)).astype(np.uint8)
    columns = {"file": np.array(["a\tb", "b", "c", "d", ""]), "class": np.array(list("vwxyz"))}
    write_projector(tmp_path, {"after": rng.random((5, 4)).astype(np.float32)}, columns, faces)
    config = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (after,) = config.embeddings
    assert after.tensor_name == "after"
    assert np.loadtxt(tmp_path / after.tensor_path).shape == (5, 4)
    lines = (tmp_path / after.metadata_path).read_text().splitlines()
    assert lines == ["file\tclass", "a b\tv", "b\tw", "c\tx", "d\ty", "-\tz"]
    with Image.open(tmp_path / after.sprite.image_path) as sprite:
        assert sprite.size == (96, 96)
    assert list(after.sprite.single_image_dim) == [32, 32]
