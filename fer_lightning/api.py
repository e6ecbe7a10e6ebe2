"""What verbs do, as functions for Python: numbers to go on with, and text to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fer_lightning.evaluation.asked import audit_of, comparison_of
from fer_lightning.evaluation.finding import find_evaluations
from fer_lightning.evaluation.report import text_table
from fer_lightning.runs.records import REPORT, read_report
from fer_lightning.signals import Stopped

__all__ = ["Outcome", "audit", "compare", "evaluate"]


@dataclass(frozen=True, eq=False, repr=False)
class Outcome(Mapping[str, Any]):
    """What was measured. Its ``repr`` is the table that the verb prints; its items are the numbers of the JSON file.

    Attributes:
        numbers: all of them, as in ``report.json``, ``compare.json`` or ``audit.json``.
        text: the same to read.
        folder: where an evaluation was written, with its page and its pictures; ``None`` if nothing was written.
    """

    numbers: Mapping[str, Any]
    text: str
    folder: Path | None = None

    def __getitem__(self, name: str) -> Any:
        return self.numbers[name]

    def __iter__(self) -> Any:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def __repr__(self) -> str:
        return self.text


def evaluate(
    model: str | Path, split: Literal["test", "val"] = "test", root: str | Path = "runs", **options: Any
) -> Outcome:
    """Evaluate a trained model as ``fer test`` or ``fer validate`` does, which write numbers, pictures and a page.

    Example::

        scores = evaluate("runs/mine/version_0", data="ImageFolderDataModule", data__root="faces")
        print(scores, scores["accuracy"])

    Args:
        model: a run folder, a checkpoint file, or a model folder.
        split: of the data set.
        root: the folder of all runs.
        **options: those of ``fer test``, with two underscores for a dot: ``data__root="faces"`` is
            ``--data.root faces``.

    Raises:
        FERError: with what is wrong with the model, the options or the data.
        KeyboardInterrupt: if a signal stopped the evaluation.
    """
    from fer_lightning.cli.early_check import check_command_line
    from fer_lightning.cli.start import begun  # imports Lightning

    verb = "test" if split == "test" else "validate"
    given = {"ckpt_path": model, "trainer__default_root_dir": root, **options}
    args = [f"--{name.replace('__', '.')}={_text(value)}" for name, value in given.items()]
    check_command_line(verb, args)
    try:
        with begun(verb, args) as cli:
            cli.execute()
    except Stopped as stop:
        raise KeyboardInterrupt from stop
    folder = Path(cli.trainer.default_root_dir)
    report = read_report(folder / REPORT)
    return Outcome(report, text_table(report), folder)


def _text(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def compare(
    *evaluations: str | Path, split: Literal["test", "val"] | None = None, root: str | Path = "runs", seed: int = 0
) -> Outcome:
    """Compare models on the same images, as ``fer compare`` does: differences with intervals, tests, classes.

    Example::

        print(compare("runs/plain/version_0", "runs/focus/version_0"))

    Args:
        *evaluations: two or more folders of evaluations, runs or models, or names of runs.
        split: of runs and models; ``test`` if all have it, if not given.
        root: the folder of all runs.
        seed: of the resamples.

    Raises:
        ConfigError: if they are fewer than two, or there is no such evaluation.
        DataError: if they are not of the same images, or damaged.
    """
    _, found = comparison_of([str(each) for each in evaluations], split, Path(root), seed)
    return Outcome(found.numbers, found.text)


def audit(
    evaluation: str | Path,
    groups: Sequence[str],
    intersect: int = 1,
    split: Literal["test", "val"] | None = None,
    root: str | Path = "runs",
    shuffles: int = 2_000,
    seed: int = 0,
) -> Outcome:
    """Compare how a model does on groups of people, as ``fer audit`` does, and which differences chance explains.

    Example::

        print(audit("runs/mine/version_0", groups=["gender", "age_group"]))

    Args:
        evaluation: folder of an evaluation, a run or a model, or the name of a run.
        groups: columns of the data set that name groups.
        intersect: also look at people of two or more columns together.
        split: of a run or model; ``test`` if it has it, if not given.
        root: the folder of all runs.
        shuffles: of the groups, for the p values.
        seed: of shuffles and resamples.

    Raises:
        ConfigError: if there is no such evaluation, or it has no such groups.
        DataError: if it is damaged, or older than audits.
    """
    [folder] = find_evaluations([str(evaluation)], split, Path(root))
    found = audit_of(folder, groups, intersect, shuffles, seed)
    return Outcome(found.numbers, found.text)
