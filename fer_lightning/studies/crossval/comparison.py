"""The scores of all arms, their paired differences, and notes on how to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fer_lightning.errors import DataError
from fer_lightning.evaluation.spread import Key, Spread, difference, spread
from fer_lightning.studies.crossval.run_result import DECISIONS, GROUP_SCORES, SCORES, TRAINED, TUNED, RunResult

__all__ = ["Comparison", "Settings", "check_alike", "compare", "notes_on"]

Table = dict[str, dict[str, dict[str, dict[str, Spread]]]]
"""By split, decision, score and arm."""

_SHOWN = 2e-5  # what tables of predictions, of six digits, can make of equal scores

Settings = dict[str, dict[str, str]]
"""Options in which arms differ: by option, the value of each arm."""


@dataclass(frozen=True)
class Comparison:
    """Arms side by side.

    Attributes:
        name: of the study.
        arms: names; differences are to the first.
        folds: number of folds, ``None`` for seeds alone.
        seeds: of the runs.
        class_names: in label order.
        splits: that were evaluated: ``val``, perhaps ``test``.
        runs: all that are finished.
        missing: (arm, fold, seed) of the runs that are not finished.
        scores: by split, decision, score and arm.
        differences: likewise, of each arm but the first: its score minus that of the first arm, run by run.
        settings: what the arms differ in.
        titles: of the scores, those of single classes left out.
    """

    name: str
    arms: tuple[str, ...]
    folds: int | None
    seeds: tuple[int, ...]
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    runs: tuple[RunResult, ...]
    missing: tuple[tuple[str, int, int], ...]
    scores: Table
    differences: Table
    settings: Settings = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=lambda: dict(SCORES))

    @property
    def main_split(self) -> str:
        """The split that the page shows first: ``test`` where it was evaluated."""
        return self.splits[-1]

    def decisions(self, split: str) -> tuple[str, ...]:
        """Return the decisions of a split that give other scores than those before it."""
        scores = self.scores[split]
        kept: list[str] = []
        for decision in scores:
            if not any(_repeats(scores[decision], scores[other]) for other in kept):
                kept.append(decision)
        return tuple(kept)

    def values(self, split: str, decision: str, score: str, arm: str) -> dict[Key, float | None]:
        """Return one score of all runs of an arm that have it, by fold and seed."""
        return _values([run for run in self.runs if run.arm == arm], split, decision, score)


def _repeats(scores: Mapping[str, Mapping[str, Spread]], others: Mapping[str, Mapping[str, Spread]]) -> bool:
    """Tell whether all scores that are known, by score and arm, are those of another decision, as far as is shown."""
    pairs = ((found.mean, others[score][arm].mean) for score, row in scores.items() for arm, found in row.items())
    return all(mean is None or (other is not None and abs(mean - other) < _SHOWN) for mean, other in pairs)


def _values(runs: Sequence[RunResult], split: str, decision: str, score: str) -> dict[Key, float | None]:
    return {run.key: run.scores[split][decision].get(score) for run in runs if decision in run.scores.get(split, {})}


def check_alike(run: RunResult, other: RunResult) -> None:
    """Check that two runs of the same fold can be compared.

    Training images may differ: what an arm trains on is a part of it.

    Raises:
        DataError: if they have other classes or were evaluated on other images.
    """
    if run.class_names != other.class_names:
        raise DataError(
            f"arms '{other.arm}' and '{run.arm}' cannot be compared: classes {', '.join(other.class_names)} against "
            f"{', '.join(run.class_names)}"
        )
    for split in ("val", "test"):
        one, two = run.fingerprints.get(split), other.fingerprints.get(split)
        if one != two and split in run.scores and split in other.scores:
            raise DataError(
                f"arms '{other.arm}' and '{run.arm}' cannot be compared: they are evaluated on other {split} images "
                f"(fingerprint {two}, {other.counts.get(split, 0):,} images, against {one}, "
                f"{run.counts.get(split, 0):,}); give them the same data, or compare them on a part that they share"
            )


def compare(
    name: str,
    arms: Sequence[str],
    runs: Sequence[RunResult],
    folds: int | None = None,
    missing: Sequence[tuple[str, int, int]] = (),
    settings: Settings | None = None,
) -> Comparison:
    """Compute the scores of all arms and their differences to the first; the arguments are those of the result.

    Raises:
        DataError: if there is no run, or runs of a fold have other classes or were evaluated on other images.
    """
    if not runs:
        raise DataError(f"{name}: no run is finished, there is nothing to compare")
    first: dict[int, RunResult] = {}
    for run in sorted(runs, key=lambda run: arms.index(run.arm)):
        check_alike(run, first.setdefault(run.key[0], run))
    splits = tuple(split for split in ("val", "test") if any(split in run.scores for run in runs))
    grouped = any("group_gap" in decisions[TRAINED] for run in runs for decisions in run.scores.values())
    titles = {**SCORES, **(GROUP_SCORES if grouped else {})}
    wanted = [*titles, *(f"{kind}_{label}" for kind in ("recall", "f1") for label in runs[0].class_names)]
    scores: Table = {}
    differences: Table = {}
    by_arm = {arm: [run for run in runs if run.arm == arm] for arm in arms}
    for split in splits:
        scores[split], differences[split] = {}, {}
        for decision in DECISIONS:
            table = {score: {arm: _values(by_arm[arm], split, decision, score) for arm in arms} for score in wanted}
            if not any(table["f1_macro"].values()):
                continue
            scores[split][decision] = {
                score: {arm: _within(spread(values, folds), 0.0) for arm, values in row.items()}
                for score, row in table.items()
            }
            differences[split][decision] = {
                score: {arm: _within(difference(row[arm], row[arms[0]], folds), -1.0) for arm in arms[1:]}
                for score, row in table.items()
            }
    seeds = tuple(sorted({run.key[1] for run in runs} | {seed for _, _, seed in missing}))
    classes, listed, lacking = runs[0].class_names, tuple(runs), tuple(missing)
    return Comparison(
        name, tuple(arms), folds, seeds, classes, splits, listed, lacking, scores, differences, settings or {}, titles
    )


def _within(found: Spread, lowest: float) -> Spread:
    """Return a spread whose interval holds no value that a score, or a difference of two, cannot have."""
    if found.low is None or found.high is None:
        return found
    return replace(found, low=max(found.low, lowest), high=min(found.high, 1.0))


def notes_on(comparison: Comparison) -> list[str]:
    """Return sentences that one must know to read the numbers."""
    runs, folds = comparison.runs, comparison.folds
    monitors = sorted({run.monitor for run in runs if run.monitor})
    chosen = f"by {monitors[0]}" if len(monitors) == 1 else f"by {' or '.join(monitors)}" if monitors else "as best"
    lines = [f"Each run is scored with the checkpoint that was chosen {chosen} on its validation images."]
    optimistic = "the same images chose the checkpoint, so that they are a little too good, alike for all arms"
    if "test" in comparison.splits:
        lines.append(f"Scores on test images are of images that chose nothing. Scores on val: {optimistic}.")
    else:
        lines.append(f"All scores are on the validation images: {optimistic}. `--evaluate test` adds test scores.")
    if folds is not None:
        lines.append(
            f"{folds} folds of the training images, of which each is validated on once: other images than the data "
            "set's own validation split, with which these scores are not to be compared."
        )
        lines.append(
            "Intervals and p-values count folds, seeds averaged, and are corrected for the training images that folds "
            "share (Nadeau and Bengio 2003)."
        )
    else:
        lines.append(
            "Intervals are t-intervals over seeds: they say how much the seed matters on these images, not how much "
            "other images would."
        )
    if len(monitors) > 1:
        lines.append(f"The arms chose their checkpoints by different metrics ({', '.join(monitors)}): look twice.")
    precisions = sorted({run.precision for run in runs})
    if len(precisions) > 1:
        lines.append(f"The runs were trained in different precisions ({', '.join(precisions)}).")
    lines += _effort_notes(comparison)
    if len(comparison.arms) > 2:
        lines.append("p-values are of single comparisons; of twenty equal arms, one will look different at 0.05.")
    if comparison.missing:
        listed = ", ".join(f"{arm} fold {fold} seed {seed}" for arm, fold, seed in comparison.missing)
        lines.append(f"Not finished, and not in these numbers: {listed}.")
    tuned = [split for split, decisions in comparison.scores.items() if TUNED in decisions]
    if tuned and not any(TUNED in comparison.decisions(split) for split in tuned):
        lines.append("Choosing tau changes no score, so that it has no tables of its own.")
    elif tuned:
        lines.append(
            "tau: log-probabilities plus tau times the log share of each class in training, chosen in every arm alike "
            "for macro F1 on val. For scores on val, it is chosen on one half of the images and scored on the other."
        )
    return lines


def _effort_notes(comparison: Comparison) -> list[str]:
    """Return sentences on whether all arms drew as many training images, and the same ones."""
    lines = []
    drawn: dict[str, tuple[int, ...]] = {}
    for arm in comparison.arms:
        images = {run.images for run in comparison.runs if run.arm == arm and run.images is not None}
        if images:
            drawn[arm] = tuple(sorted(images))
    if len(drawn) > 1:
        equal, one = len(set(drawn.values())) == 1, next(iter(drawn.values()))
        if equal and len(one) == 1:
            lines.append(f"All arms drew as many training images ({one[0]:,} a run).")
        else:
            listed = "; ".join(f"{arm} {_range(images)}" for arm, images in drawn.items())
            unequal = "" if equal else " The arms did not have equal shares: a difference may be due to that."
            lines.append(f"Training images drawn in a run: {listed}.{unequal}")
    first = {run.key: run for run in comparison.runs if run.arm == comparison.arms[0]}
    for arm in comparison.arms[1:]:
        others = [run for run in comparison.runs if run.arm == arm and run.key in first]
        unlike = [run for run in others if run.fingerprints.get("train") != first[run.key].fingerprints.get("train")]
        if unlike:
            counts = unlike[0].counts.get("train", 0), first[unlike[0].key].counts.get("train", 0)
            lines.append(
                f"{arm} trains on other images than {comparison.arms[0]} ({counts[0]:,} against {counts[1]:,}); the "
                "evaluated images are the same."
            )
    return lines


def _range(values: Sequence[int]) -> str:
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"
