"""Comparison and audit of the evaluations that words stand for: folders, runs, models, names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_lightning.errors import ConfigError, DataError
from fer_lightning.evaluation.audit import attributes_of, audit, check_auditable
from fer_lightning.evaluation.audit_report import audit_lines
from fer_lightning.evaluation.compare_report import comparison_lines
from fer_lightning.evaluation.comparison import Evaluation, comparison
from fer_lightning.evaluation.finding import FoundEvaluation, find_evaluations, seen_notes

__all__ = ["Answer", "audit_of", "comparison_of"]


@dataclass(frozen=True)
class Answer:
    """What was found.

    Attributes:
        numbers: plain values.
        notes: what is to be known of the evaluations.
        text: all of it to read.
    """

    numbers: dict[str, Any]
    notes: list[str]
    text: str


def _answer(numbers: dict[str, Any], lines: list[str], of: Sequence[FoundEvaluation]) -> Answer:
    notes = seen_notes(of)
    return Answer(numbers, notes, "\n".join([*lines, *(f"warning: {note}" for note in notes)]))


def comparison_of(
    words: Sequence[str], split: str | None, root: Path, seed: int
) -> tuple[list[FoundEvaluation], Answer]:
    """Find evaluations and compare them; return them and what was found.

    Args:
        words: one for each; see ``find_evaluations``.
        split: of runs and models.
        root: the folder of all runs.
        seed: of the resamples.

    Raises:
        ConfigError: if they are fewer than two, or there is no such evaluation.
        DataError: if they are not of the same images, or damaged.
    """
    if len(words) < 2:
        raise ConfigError(
            "fer compare: expected two evaluations or more, for example: fer compare runs/a/version_0 runs/b/version_0"
        )
    folders = find_evaluations(words, split, root)
    given = [Evaluation(each.name, each.predictions(), each.fingerprint, each.again) for each in folders]
    found = comparison(given, seed=seed)
    return folders, _answer(found, comparison_lines(found), folders)


def audit_of(folder: FoundEvaluation, groups: Sequence[str], intersect: int, shuffles: int, seed: int) -> Answer:
    """Audit an evaluation; the arguments are those of ``attributes_of`` and ``audit``.

    Raises:
        ConfigError: if no groups are named, or it has no such groups.
        DataError: if it is damaged, or older than audits; the message names the command that makes it again.
    """
    predictions = folder.predictions()
    try:
        check_auditable(predictions)
    except DataError as error:
        raise DataError(f"{folder.table.parent}: {error}: run {folder.again} again") from error
    if not groups:
        known = ", ".join(predictions.groups)
        there = f"there are {known}" if known else "this evaluation has none: its data set knows no groups"
        raise ConfigError(f"fer audit: name the groups, such as --groups gender,age_group ({there})")
    found = audit(predictions, attributes_of(predictions, list(groups), intersect), shuffles, seed)
    return _answer(found, audit_lines(found), [folder])
