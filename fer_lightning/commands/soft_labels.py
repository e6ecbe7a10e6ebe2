"""``fer soft_labels``: what networks of a cross-validation say of the images that they have not seen.

What needs torch is imported inside of the function.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from fer_lightning.cli.early_check import check_data_options
from fer_lightning.cli.verbs import Rest
from fer_lightning.errors import ConfigError
from fer_lightning.text import one_line

__all__ = ["soft_labels"]

_ABOUT = "Options of the data that the networks were trained on may be given anew, such as --data.root DIR."
_OfTheirData = Annotated[
    list[str],
    Rest("--data.OPTION VALUE", _ABOUT, "--data.", check=lambda verb, _, flags: check_data_options(verb, flags)),
]


def soft_labels(
    arms: Annotated[tuple[str, ...], "ARM"],
    *,
    out: Annotated[Path, "FILE"] = Path("soft_labels.npz"),
    views: Literal["none", "flip", "flip_shift"] = "flip_shift",
    calibrate: bool = False,
    root: Annotated[Path, "DIR"] = Path("runs"),
    of_data: _OfTheirData,
) -> None:
    """Write soft labels: for each training image the probabilities of networks that were not trained on it.

    The networks are those of fer crossval --folds K: each answers for the fold that it left out. Those of several arms,
    studies and seeds are averaged, every network counts the same:
      fer crossval large.yaml --folds 5 --name teachers
      fer soft_labels teachers/large --out soft.npz
      fer fit --config small.yaml --data.soft_label_file soft.npz

    Arms stand before all options. A network that was trained on an image which it would label is refused. Answers are
    kept in the cache: the same command goes on where it was stopped.

    Args:
        arms: folders of arms, STUDY/ARM.
        out: file to write, .npz.
        views: average the probabilities of several views of each image: flip takes twice as long as none, flip_shift
            ten times.
        calibrate: divide the logits of each network by a temperature, fitted on the other folds.
        root: the folder of all runs.
        of_data: options of the data set, such as --data.root DIR where it has moved.
    """
    from fer_lightning.commands.data_sets import opened_for
    from fer_lightning.data.table.soft_labels import write_soft_labels
    from fer_lightning.outputs import place_to_write, writing_errors
    from fer_lightning.studies.crossval.out_of_fold import answers_of, averaged, lines_of, provenance_of
    from fer_lightning.studies.crossval.teachers import find_arm

    if out.suffix.lower() != ".npz":
        raise ConfigError(one_line(f"fer soft_labels: --out must be a .npz file, such as {out.with_suffix('.npz')}"))
    if place_to_write(out).is_dir():
        raise ConfigError(one_line(f"fer soft_labels: --out {out} is a folder"))
    found = [find_arm(arm, root) for arm in arms]
    if twice := {arm.name for arm in found if [each.name for each in found].count(arm.name) > 1}:
        raise ConfigError(f"fer soft_labels: {min(twice)} is named twice")
    for line in (line for arm in found for line in arm.missing_lines()):
        print(line)
    answers = []
    with _said_once():
        for run in (run for arm in found for run in arm.runs):
            with opened_for("fer soft_labels", run.checkpoint, None, [*of_data, *run.flags]) as data:
                answers.append(answers_of(run, data.table, views, data.cache_dir))
    soft = averaged(found, answers, calibrate)
    provenance = provenance_of(soft, answers, views)
    with writing_errors(out):
        write_soft_labels(out, soft.digests, soft.probs, soft.class_names, soft.own_label, soft.trained_on, provenance)
    print("\n".join(lines_of(provenance)))
    print(f"\nsoft labels  {out}: fer fit ... --data.soft_label_file {out}")


@contextmanager
def _said_once() -> Iterator[None]:
    """Let the block log each remark about the data once, although it reads them for each network."""
    logger, said = logging.getLogger("fer_lightning.data.datamodule"), set[str]()

    def is_new(record: logging.LogRecord) -> bool:
        before = len(said)
        said.add(record.getMessage())
        return len(said) > before

    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)
