"""Explaining a network on images: the maps, and what tells whether they can be believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fer_lightning.evaluation.pairs import cluster_mcnemar
from fer_lightning.evaluation.predictions import digest_texts
from fer_lightning.evaluation.resampling import clusters_of
from fer_lightning.explanation.explainer import Explainer, Maps, Step, as_array
from fer_lightning.explanation.occlusion import Curves, blurred, covering_curves
from fer_lightning.explanation.pointing import (
    centre_map,
    edge_maps,
    heat_over_area,
    hits,
    is_empty,
    moved,
    ninths,
    unit_maps,
    widened,
)
from fer_lightning.explanation.randomised import cascade, number_of_stages, rank_correlations
from fer_lightning.explanation.subject import Subject
from fer_lightning.metrics import wilson_interval
from fer_lightning.models.classifier import EmotionClassifier
from fer_lightning.preprocessing import scaled

__all__ = ["LEVEL", "NETWORKS", "judged", "mean_maps", "number_of_steps"]

LEVEL = 0.01
"""The maps pass if they hit the truth more often than those of random weights with a p value below this."""

_FEWER = 100  # images of the tests that run the network many times
NETWORKS = 5
"""Networks with random weights that are compared with the trained one: one of them alone may be lucky."""

_RANDOM_WEIGHTS = "random weights"
_UNMOVED = "neutral"  # a neutral face moves nothing: there is no truth to be hit

Untrained = Callable[[int], EmotionClassifier]


def judged(
    explainer: Explainer,
    untrained: Untrained,
    subject: Subject,
    maps: Maps,
    drawn: Subject | None = None,
    step: Step = lambda what: None,
) -> dict[str, Any]:
    """Return what tells whether maps can be believed, as plain values.

    Args:
        explainer: of the trained network.
        untrained: called with 0, 1, ..., gives networks of the same architecture with different random weights.
        subject: what was explained.
        maps: what was found.
        drawn: faces of which the truth is known, for the pointing where it is not known of the subject.
        step: called before each part of the work.
    """
    right = maps.preds == subject.labels
    return {
        "images": len(right),
        "right": int(right.sum()),
        "maps": {"fine": _layer(explainer, True), "coarse": _layer(explainer, False), "names": explainer.names},
        "empty": {
            name: int(is_empty(each).sum())
            for name, each in (("fine", maps.fine), ("coarse", maps.coarse))
            if each is not None
        },
        "classes": _classes(subject, maps),
        "pointing": _pointing(explainer, untrained, subject, maps, drawn, step),
        "parts": _parts(explainer, subject, maps),
        "randomisation": _randomisation(explainer, untrained(0), subject, maps, step),
        "covering": _covering(explainer, subject, maps, step),
        "ninths": _ninths(subject, maps),
    }


def number_of_steps(explainer: Explainer, subject: Subject) -> int:
    """Return how often ``Explainer.explained`` and ``judged`` together call ``step``."""
    orders = 4 + (explainer.coarse is not None) + (subject.truth is not None)
    return 3 + 1 + number_of_stages(explainer.network) + orders


def _layer(explainer: Explainer, fine: bool) -> dict[str, Any]:
    layer, name = (explainer.fine, explainer.fine_name) if fine else (explainer.coarse, explainer.coarse_name)
    return {"name": name, "layer": None if layer is None else layer.name, "side": None if layer is None else layer.side}


def _classes(subject: Subject, maps: Maps) -> list[dict[str, Any]]:
    found = []
    for label, name in enumerate(subject.class_names):
        here = subject.labels == label
        right = int((maps.preds[here] == label).sum())
        found.append({"class": name, "images": int(here.sum()), "right": right})
    return found


def _known(subject: Subject, maps: Maps) -> tuple[NDArray[np.int64], NDArray[np.bool_]] | None:
    """Return the images that the network gets right and whose truth is known, with what moved, ``(M, S, S)``."""
    if subject.truth is None:
        return None
    where = moved(subject.faces, subject.truth.resting)
    still = np.array([name == _UNMOVED for name in subject.class_names])[subject.labels]
    rows = np.flatnonzero((maps.preds == subject.labels) & where.any(axis=(1, 2)) & ~still)
    size = subject.images.shape[2]
    if where.shape[1] != size:  # a mask at the size of the network's input
        at = (np.arange(size) + 0.5) * where.shape[1] // size
        where = where[:, at.astype(int)][:, :, at.astype(int)]
    return rows, where[rows]


def _pointing(
    explainer: Explainer, untrained: Untrained, subject: Subject, maps: Maps, drawn: Subject | None, step: Step
) -> dict[str, Any] | None:
    """Return hits of the truth by the maps, by those of random weights, and by maps that look at no network."""
    step(_RANDOM_WEIGHTS)
    faces = "own"
    if subject.truth is None and drawn is not None:
        faces, subject, maps = "drawn", drawn, explainer.explained(drawn.images)
    known = _known(subject, maps)
    if known is None or not len(known[0]):
        return None
    rows, where = known
    near, images, labels = widened(where), subject.images[rows], torch.from_numpy(subject.labels[rows])
    others = [explainer.of_other(untrained(turn)) for turn in range(NETWORKS)]
    fine = [other.fine_maps(images, labels).numpy() for other in others]
    random = [_scored(f"{explainer.fine_name}, {_RANDOM_WEIGHTS}", each, where, near) for each in fine]
    ways = [_scored(explainer.fine_name, maps.fine[rows], where, near), _mean_of(random)]
    if maps.coarse is not None:
        ways.append(_scored(explainer.coarse_name, maps.coarse[rows], where, near))
        coarse = [as_array(other.coarse_maps(images, labels)) for other in others]
        name = f"{explainer.coarse_name}, {_RANDOM_WEIGHTS}"
        ways.append(_mean_of([_scored(name, each, where, near) for each in coarse if each is not None]))
    ways.append(_scored("edges", edge_maps(images.numpy()), where, near))
    ways.append(_scored("centre", np.broadcast_to(centre_map(images.shape[2]), where.shape), where, near))
    chance = {"name": "any pixel", "hits": None, "share": float(near.mean()), "low": None, "high": None}
    best = int(np.argmax([each["hits"] for each in random]))  # the hardest to beat
    first, second = hits(maps.fine[rows], near), hits(fine[best], near)
    p_value = cluster_mcnemar(first, second, clusters_of(digest_texts(subject.digests[rows])))
    return {
        "faces": faces,
        "images": len(rows),
        "area": float(where.mean()),
        "area_widened": float(near.mean()),
        "ways": [*ways, {**chance, "heat_over_area": 1.0, "empty": 0}],
        "p": p_value,
        "passed": bool(p_value < LEVEL and first.sum() > second.sum()),
    }


def _mean_of(scored: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of several networks, and the least and the most of them."""
    shares = [each["share"] for each in scored]
    heats = [each["heat_over_area"] for each in scored if each["heat_over_area"] is not None]
    return {
        "name": scored[0]["name"],
        "hits": float(np.mean([each["hits"] for each in scored])),
        "share": float(np.mean(shares)),
        "low": min(shares),
        "high": max(shares),
        "heat_over_area": float(np.mean(heats)) if heats else None,
        "empty": float(np.mean([each["empty"] for each in scored])),
    }


def _scored(name: str, maps: NDArray[np.float32], where: NDArray[np.bool_], near: NDArray[np.bool_]) -> dict[str, Any]:
    hit = int(hits(maps, near).sum())
    low, high = wilson_interval(hit, len(maps))
    heat = heat_over_area(maps, where)
    return {
        "name": name,
        "hits": hit,
        "share": hit / len(maps),
        "low": low,
        "high": high,
        "heat_over_area": None if np.isnan(heat) else heat,
        "empty": int(is_empty(maps).sum()),
    }


def _parts(explainer: Explainer, subject: Subject, maps: Maps) -> list[dict[str, Any]] | None:
    """Return by class how much probability a face loses whose upper or lower part, or all of it, is at rest."""
    if subject.truth is None:
        return None
    found = []
    for label, name in enumerate(subject.class_names):
        rows = np.flatnonzero((subject.labels == label) & (maps.preds == label))
        if not len(rows) or name == _UNMOVED:
            continue
        before = maps.probs[rows, label]
        parts = {"upper": subject.truth.upper, "lower": subject.truth.lower, "all": subject.truth.resting}
        falls = {}
        for part, faces in parts.items():
            images = scaled(torch.from_numpy(faces[rows]), explainer.preprocessing)
            falls[part] = float((before - explainer.probabilities(images).numpy()[:, label]).mean())
        found.append({"class": name, "images": len(rows), "probability": float(before.mean()), "falls": falls})
    return found


def _randomisation(
    explainer: Explainer, fresh: EmotionClassifier, subject: Subject, maps: Maps, step: Step
) -> list[dict[str, Any]]:
    """Return the rank correlation of maps with those after ever more stages got random weights."""
    images, labels = subject.images[:_FEWER], torch.from_numpy(maps.preds[:_FEWER])
    coarse = None if maps.coarse is None else maps.coarse[:_FEWER]
    points = []
    for stage, network in cascade(explainer.network, fresh):
        step(f"random {stage}")
        other = explainer.of_other(network)
        changed = rank_correlations(maps.fine[:_FEWER], other.fine_maps(images, labels).numpy())
        point: dict[str, Any] = {"stage": stage, "fine": _mean(changed)}
        if coarse is not None and (now := as_array(other.coarse_maps(images, labels))) is not None:
            point["coarse"] = _mean(rank_correlations(coarse, now))
        points.append(point)
    return points


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _covering(explainer: Explainer, subject: Subject, maps: Maps, step: Step) -> dict[str, Any]:
    """Return deletion and insertion curves by the maps, in a random order, from the middle on, and by the truth."""
    known = _known(subject, maps)
    rows = np.arange(len(subject.labels))[:_FEWER] if known is None else known[0][:_FEWER]
    images, labels = subject.images[rows], torch.from_numpy(maps.preds[rows])
    orders: dict[str, NDArray[Any]] = {explainer.fine_name: maps.fine[rows]}
    if maps.coarse is not None:
        orders[explainer.coarse_name] = maps.coarse[rows]
    size = images.shape[2]
    orders["edges"] = edge_maps(images.numpy()) if len(rows) else np.zeros((0, size, size), np.float32)
    orders["centre"] = centre_map(size)
    orders["random"] = np.random.default_rng(0).random((len(rows), size, size), dtype=np.float32)
    if subject.truth is None or known is None:
        fill, covered = blurred(images), "blur"
    else:
        fill, covered = scaled(torch.from_numpy(subject.truth.resting[rows]), explainer.preprocessing), "resting face"
        change = np.abs((images - fill).numpy()).sum(axis=1)
        orders["truth"] = change.astype(np.float32)
    found: dict[str, Curves] = {}
    for name, order in orders.items():
        step(f"covering: {name}")
        if len(rows):
            found[name] = covering_curves(explainer.probabilities, images, fill, labels, order)
    return {"images": len(rows), "fill": covered, "orders": [_plain(name, each) for name, each in found.items()]}


def _plain(name: str, curves: Curves) -> dict[str, Any]:
    deletion, insertion = curves.areas
    points = {"deletion": curves.deletion.round(6).tolist(), "insertion": curves.insertion.round(6).tolist()}
    return {"name": name, "deletion_area": deletion, "insertion_area": insertion, **points}


def _ninths(subject: Subject, maps: Maps) -> dict[str, Any]:
    """Return the share of the heat in each ninth of the image by class, of all, and of the centre map."""
    size = subject.images.shape[2]
    means: Mapping[str, NDArray[np.float32]] = mean_maps(subject, maps)
    found = {name: ninths(each) for name, each in means.items()}
    return {"classes": found, "centre": ninths(centre_map(size))}


def mean_maps(subject: Subject, maps: Maps) -> dict[str, NDArray[np.float32]]:
    """Return the mean fine map of each true class and, as ``all``, the mean over the classes, ``(S, S)`` each.

    Each map counts with a heat of 1; classes without any heat are left out.
    """
    found = {}
    for label, name in enumerate(subject.class_names):
        units = unit_maps(maps.fine[subject.labels == label])
        if len(units):
            found[name] = units.mean(axis=0)
    if found:
        found["all"] = np.mean(list(found.values()), axis=0, dtype=np.float32)
    return found
