"""Soft labels of the networks of a cross-validation: each image by those that have not seen it, averaged."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import fer_lightning
from fer_lightning.callbacks.provenance import code_state
from fer_lightning.data.table.cache import cached_arrays
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import DataError
from fer_lightning.evaluation.confidence import fit_scaling, log_losses
from fer_lightning.files import file_digest
from fer_lightning.inference.loading import load_model
from fer_lightning.inference.model import Model, TorchBackend
from fer_lightning.metrics import accuracy, confusion_matrix, macro_f1
from fer_lightning.models.views import Views
from fer_lightning.runs.trained_on import TrainedOn, joined
from fer_lightning.studies.crossval.teachers import FoldRun, TeacherArm, left_out_rows, seen_by
from fer_lightning.text import one_line, table_lines

__all__ = ["Answers", "SoftLabels", "answers_of", "averaged", "lines_of", "provenance_of"]

_BATCH = 64  # of all that were tried the fastest for 48 pixels on one core
_FORMAT = 1  # of what is cached; raise it whenever the same network would give other probabilities


@dataclass(frozen=True, eq=False)  # arrays have no equality that is one answer
class Answers:
    """What one network says of the fold that it has not seen.

    Attributes:
        run: of the network.
        class_names: of the columns.
        digests: uint8 ``(M, 16)``, of the images in the order of the data.
        labels: int64 ``(M,)``, the given ones.
        probs: float32 ``(M, K)``, averaged over views.
        trained_on: which images the network has seen.
        others: digests, uint8 ``(O, 16)``, of all training images of its data outside of the fold.
        facts: for the provenance.
    """

    run: FoldRun
    class_names: tuple[str, ...]
    digests: NDArray[np.uint8]
    labels: NDArray[np.int64]
    probs: NDArray[np.float32]
    trained_on: TrainedOn
    others: NDArray[np.uint8]
    facts: dict[str, Any]


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """Averaged probabilities of the images that networks left out.

    Attributes:
        class_names: of the columns.
        digests: uint8 ``(N, 16)``: the images of all folds, one behind the other.
        labels: int64 ``(N,)``, the given ones.
        probs: float64 ``(N, K)``.
        own_label: digests, uint8 ``(M, 16)``, of training images that no fold has: they are linked to test images.
        trained_on: which images any of the networks has seen.
        temperatures: of each network, by the name of its run; empty if they were not calibrated.
    """

    class_names: tuple[str, ...]
    digests: NDArray[np.uint8]
    labels: NDArray[np.int64]
    probs: NDArray[np.float64]
    own_label: NDArray[np.uint8]
    trained_on: TrainedOn
    temperatures: dict[str, float]


def answers_of(run: FoldRun, table: SamplesTable, views: Views, cache_dir: Path | None) -> Answers:
    """Let the network of a run answer for the fold that it left out, unless it has done so before.

    Args:
        run: the run.
        table: its data, with the splits of its fold.
        views: of each image, whose probabilities are averaged.
        cache_dir: where the answers are kept; ``None`` for the user's cache folder.

    Raises:
        DataError: if the network was trained on an image of the fold, or that cannot be known.
        CheckpointError: if the checkpoint is damaged.
    """
    known, evidence = seen_by(run, table)
    rows = left_out_rows(run, table, known)
    model = load_model(run.checkpoint)
    model.set_views(views)
    if set(model.class_names) != set(table.class_names):
        raise DataError(
            f"fer soft_labels: {run.name} knows the classes {', '.join(model.class_names)}; the data has "
            f"{', '.join(table.class_names)}"
        )
    digests, sha256 = table.digests[rows], file_digest(run.checkpoint, "sha256")
    made_of = [sha256, views, fer_lightning.__version__, torch.__version__, digests.tobytes().hex()]
    key = hashlib.blake2b("\n".join(made_of).encode(), digest_size=16).hexdigest()
    made = cached_arrays(
        f"answers-v{_FORMAT}-{key}", lambda: {"probs": _probabilities(run, model, table, rows)}, cache_dir
    )
    order = [model.class_names.index(name) for name in table.class_names]
    probs, labels = made["probs"][:, order], table.labels[rows]
    facts = {
        "run": run.name,
        "network": model.architecture["backbone"] if model.architecture else "",
        "sha256": sha256,
        "fold": run.fold,
        "folds": run.folds,
        "seed": run.seed,
        **_scores(probs, labels),
        "unseen_by": evidence,
        "unknown": list(known.unknown),
        "data": model.card.training.get("fingerprints", {}),
        "code": model.card.training.get("code", {}),
    }
    others = table.digests[table.rows("train")]
    return Answers(run, tuple(table.class_names), digests, labels, probs, known, others, facts)


def _probabilities(run: FoldRun, model: Model, table: SamplesTable, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the probabilities of some rows, float32 ``(M, K)``, behind a bar; on a GPU where there is one."""
    assert isinstance(model.backend, TorchBackend)  # it was made of a checkpoint
    device = "cuda" if torch.cuda.is_available() else "cpu"
    backend = TorchBackend(model.backend.network, model.preprocessing, device)
    parts = []
    with tqdm(total=len(rows), disable=None, leave=False, unit="image", desc=run.name) as bar:
        for start in range(0, len(rows), _BATCH):
            images = table.images[rows[start : start + _BATCH]]
            parts.append(backend(model.scaled(torch.from_numpy(images))).softmax(dim=1).numpy())
            bar.update(len(images))
    return np.concatenate(parts)


def averaged(arms: Sequence[TeacherArm], answers: Sequence[Answers], calibrate: bool) -> SoftLabels:
    """Average what networks say of each image; every network counts the same.

    Args:
        arms: that they are from; one at least must have all its folds.
        answers: of all runs of the arms.
        calibrate: first divide the log-probabilities of each network by the temperature that is best for the other
            folds of its arm and seed: no label has a part in its own image's probabilities.

    Raises:
        DataError: if no arm has all folds, or the arms are of other classes or images.
    """
    whole = next((arm for arm in arms if arm.is_whole), None)
    if whole is None:
        raise DataError(
            one_line(
                "fer soft_labels: no arm has all its folds ("
                + "; ".join(line.partition(" ")[2].strip() for arm in arms for line in arm.missing_lines())
                + "): let the same fer crossval go on until it is done"
            )
        )
    answers = _of_same_classes(answers)
    temperatures = {each.run.name: _temperature(each, answers) for each in answers} if calibrate else {}
    seed = next(seed for seed, folds in whole.missing.items() if not folds)
    base = [each for each in answers if each.run.arm == whole.name and each.run.seed == seed]
    digests = np.concatenate([each.digests for each in base])
    place = {digest.tobytes(): row for row, digest in reversed(list(enumerate(digests)))}  # an image's first row
    total, count = np.zeros((len(digests), len(base[0].class_names))), np.zeros(len(digests), np.int64)
    for each in answers:
        _, first = np.unique(each.digests, axis=0, return_index=True)
        rows = [place.get(digest.tobytes(), -1) for digest in each.digests[first]]
        if -1 in rows:
            raise DataError(
                f"fer soft_labels: {each.run.name} left out {rows.count(-1):,} images that {whole.name} does not have: "
                "average arms that were trained on the same data"
            )
        total[rows] += _tempered(each.probs[first], temperatures.get(each.run.name))
        count[rows] += 1
    first = np.array([place[digest.tobytes()] for digest in digests])
    others = np.unique(np.concatenate([each.others for each in base]), axis=0)
    held = {digest.tobytes() for digest in digests}
    own_label = np.array([row for row in others if row.tobytes() not in held], np.uint8).reshape(-1, digests.shape[1])
    return SoftLabels(
        base[0].class_names,
        digests,
        np.concatenate([each.labels for each in base]),
        (total / np.maximum(count, 1)[:, None])[first],
        own_label,
        joined(each.trained_on for each in answers),
        temperatures,
    )


def _of_same_classes(answers: Sequence[Answers]) -> list[Answers]:
    """Return the answers with their columns and labels in the order of the first ones' classes."""
    names = answers[0].class_names
    for each in answers:
        if set(each.class_names) != set(names):
            raise DataError(
                f"fer soft_labels: {each.run.name} knows the classes {', '.join(each.class_names)}; "
                f"{answers[0].run.name} knows {', '.join(names)}"
            )
    orders = [[each.class_names.index(name) for name in names] for each in answers]
    return [
        replace(each, class_names=names, probs=each.probs[:, order], labels=np.argsort(order)[each.labels])
        for each, order in zip(answers, orders, strict=True)
    ]


def _temperature(one: Answers, answers: Sequence[Answers]) -> float:
    """Return the temperature for a network: that of the other folds of its arm and seed, pooled."""
    group = (one.run.arm, one.run.seed)
    others = [each for each in answers if (each.run.arm, each.run.seed) == group and each.run.fold != one.run.fold]
    if not others:
        raise DataError(f"fer soft_labels: --calibrate needs two folds of {one.run.arm} with seed {one.run.seed}")
    probs, labels = (np.concatenate([getattr(each, name) for each in others]) for name in ("probs", "labels"))
    return float(1 / fit_scaling(probs, labels, "temperature").weight[0, 0])


def _tempered(probs: NDArray[np.float32], temperature: float | None) -> NDArray[np.float64]:
    if temperature is None:
        return probs.astype(np.float64)
    logits = torch.from_numpy(probs).double().clamp_min(torch.finfo(torch.float32).tiny).log() / temperature
    tempered: NDArray[np.float64] = logits.softmax(dim=1).numpy()
    return tempered


def _scores(probs: NDArray[np.floating], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Return ``images``, ``accuracy``, ``f1_macro``, ``nll`` (nats) and ``differ``: how many have another top class."""
    preds = probs.argmax(axis=1)
    matrix = confusion_matrix(torch.from_numpy(labels), torch.from_numpy(preds), probs.shape[1])
    return {
        "images": len(labels),
        "accuracy": float(accuracy(matrix)),
        "f1_macro": float(macro_f1(matrix)),
        "nll": float(log_losses(probs, labels).mean()),
        "differ": int((preds != labels).sum()),
    }


def provenance_of(soft: SoftLabels, answers: Sequence[Answers], views: Views) -> dict[str, Any]:
    """Return where soft labels come from, as plain values for their file."""
    content = hashlib.blake2b(np.sort(soft.digests.view("V16").ravel()).tobytes(), digest_size=8).hexdigest()
    return {
        "made_by": "fer soft_labels",
        "version": fer_lightning.__version__,
        "code": code_state(),
        "torch": torch.__version__,
        "views": views,
        "calibration": "temperature, fitted on the other folds" if soft.temperatures else "none",
        "images": content,
        "own_label": len(soft.own_label),
        "scores": _scores(soft.probs, soft.labels),
        "teachers": [{**each.facts, "temperature": soft.temperatures.get(each.run.name)} for each in answers],
    }


def lines_of(provenance: dict[str, Any]) -> list[str]:
    """Return what is printed of soft labels: a row for each network, their mean, and what it means."""
    titles = ("", "images", "accuracy", "macro F1", "NLL")
    rows: list[tuple[str, ...]] = [(*titles, "temperature") if provenance["calibration"] != "none" else titles]
    teachers, mean = provenance["teachers"], provenance["scores"]
    for title, each in [*((each["run"], each) for each in teachers), ("mean", mean)]:
        scores = f"{100 * each['accuracy']:.2f} %", f"{100 * each['f1_macro']:.2f}", f"{each['nll']:.4f}"
        temperature = each.get("temperature")
        rows.append((title, f"{each['images']:,}", *scores, "" if temperature is None else f"{temperature:.3f}"))
    share = f"{100 * mean['differ'] / mean['images']:.1f} %"
    lines = [
        *table_lines(rows),
        f"{mean['differ']:,} of {mean['images']:,} images ({share}) have another top class than their label",
    ]
    lines.append(f"calibration: {provenance['calibration']}; views: {provenance['views']}")
    if provenance["own_label"]:
        lines.append(f"{provenance['own_label']:,} training images that no fold left out keep their label")
    unknown = sorted({text for each in teachers for text in each["unknown"]})
    if unknown:
        lines.append(f"not known is what these have seen: {'; '.join(unknown)}")
    return lines
