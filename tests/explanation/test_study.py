"""What is said of maps: good ones pass, bad ones do not, and neutral faces, which do not move, do not count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fer_lightning.data.sets.sketch.sketch import SketchDataModule
from fer_lightning.explanation.explainer import Explainer, Maps
from fer_lightning.explanation.pointing import moved
from fer_lightning.explanation.report import verdicts
from fer_lightning.explanation.study import NETWORKS, judged, number_of_steps
from fer_lightning.explanation.subject import Subject, balanced_rows, subject_of, truth_of
from fer_lightning.models.classifier import EmotionClassifier, build_classifier
from fer_lightning.models.heads import LinearHead
from tests.explanation.test_layers import GRAY
from tests.helpers.parts import TinyBackbone


@pytest.fixture(scope="module")
def subject() -> Subject:
    data = SketchDataModule(train=0, val=28, test=0)
    subject, rows = subject_of(data.table, GRAY, "val", list(range(7)), 28, 0)
    return replace(subject, truth=truth_of(data, rows))


def untrained(turn: int) -> EmotionClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(turn)
        return build_classifier(TinyBackbone(), LinearHead, 7, 1, 48).eval()


def test_maps_are_judged_by_what_moved(subject: Subject) -> None:
    assert subject.truth is not None
    explainer = Explainer.of(untrained(0), GRAY)
    truth = moved(subject.faces, subject.truth.resting).astype(np.float32)
    sure = np.eye(7, dtype=np.float32)[subject.labels]  # every face is right
    steps: list[str] = []
    good, bad = (
        judged(explainer, untrained, subject, Maps(sure, fine, None, None), step=steps.append)
        for fine in (truth, 1 - truth)
    )
    assert len(steps) == 2 * (number_of_steps(replace(explainer, coarse=None), subject) - 3)
    assert good["right"] == 28
    assert good["pointing"]["images"] == bad["pointing"]["images"] == 24
    shares = [found["pointing"]["ways"][0]["share"] for found in (good, bad)]
    assert shares[0] == 1 > shares[1]
    assert good["pointing"]["passed"]
    assert not bad["pointing"]["passed"]
    random = good["pointing"]["ways"][1]
    assert random["low"] <= random["share"] <= random["high"]
    assert round(random["share"] * 24 * NETWORKS, 6).is_integer()  # the mean of so many networks
    assert "the maps show what the network has learned" in verdicts({**good, "on_drawn": ""})[0]
    assert "no better than random weights" in verdicts({**bad, "on_drawn": ""})[0]
    one = {**bad, "on_drawn": "", "pointing": {**bad["pointing"], "images": 1}}
    assert "of 1 drawn face that" in verdicts(one)[0]
    assert "too few faces to tell" in verdicts(one)[0]
    assert {each["class"] for each in good["parts"]} == set(subject.class_names) - {"neutral"}


def test_where_nothing_is_right_nothing_is_said(subject: Subject) -> None:
    explainer = Explainer.of(untrained(0), GRAY)
    wrong = np.eye(7, dtype=np.float32)[(subject.labels + 1) % 7]
    found = judged(explainer, untrained, subject, Maps(wrong, np.ones((28, 48, 48), np.float32), None, None))
    assert found["pointing"] is None
    assert found["covering"]["orders"] == []
    assert "gets none of the drawn faces right" in verdicts({**found, "on_drawn": ""})[0]


def test_every_beginning_of_a_draw_is_balanced() -> None:
    labels = np.repeat([0, 1, 2], [50, 50, 2])
    drawn = balanced_rows(labels, np.arange(102), 60, 3)
    assert np.bincount(labels[drawn]).tolist() == [29, 29, 2]
    assert sorted(labels[drawn[:6]].tolist()) == [0, 0, 1, 1, 2, 2]
    assert len(set(drawn.tolist())) == 60
    assert drawn.tolist() != balanced_rows(labels, np.arange(102), 60, 4).tolist()
