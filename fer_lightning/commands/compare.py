"""``fer compare``: evaluations of several models on the same images, side by side.

What needs torch is imported inside of the function.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from fer_lightning.errors import ConfigError

__all__ = ["compare"]


def compare(
    evaluations: tuple[str, ...],
    *,
    out: Annotated[Path, "DIR"] = Path("compare"),
    split: Literal["test", "val"] | None = None,
    seed: int = 0,
) -> None:
    """Compare models on the same images: differences with intervals, tests, what each class gained and lost.

    Only the evaluations are read, not the data: fer test and fer validate write them, fer fit its best validation.

    Args:
        evaluations: two or more folders of runs or evaluations; by class, all are compared with the first.
        out: folder to write: a page, pictures, compare.json.
        split: of run folders, test or val; test if all have it, if not given.
        seed: of the resamples.
    """
    from fer_lightning.evaluation.compare_report import comparison_lines, write_comparison
    from fer_lightning.evaluation.comparison import Evaluation, comparison
    from fer_lightning.evaluation.predictions import read_predictions

    if len(evaluations) < 2:
        raise ConfigError(
            "fer compare: expected two evaluations or more, for example: fer compare runs/a/version_0 runs/b/version_0"
        )
    folders = _folders([Path(each).expanduser() for each in evaluations], split)
    names = _names(folders)
    found = comparison(
        [Evaluation(name, read_predictions(folder)) for name, folder in zip(names, folders, strict=True)], seed=seed
    )
    print("\n".join(comparison_lines(found)))
    print(f"\nreport       {write_comparison(found, out, _warnings(names, folders))}")


def _folders(given: list[Path], split: str | None) -> list[Path]:
    """Return the folder of each evaluation."""
    from fer_lightning.evaluation.predictions import PREDICTIONS

    for folder in given:
        if not folder.exists():
            raise ConfigError(f"fer compare: there is no {folder}")
    runs = [folder for folder in given if not (folder / PREDICTIONS).is_file() and folder.is_dir()]
    wanted = split or next(
        (name for name in ("test", "val") if all((run / name / PREDICTIONS).is_file() for run in runs)), ""
    )
    for run in runs:
        if not wanted or not (run / wanted / PREDICTIONS).is_file():
            has = [name for name in ("test", "val", "validate") if (run / name / PREDICTIONS).is_file()]
            what = f"has an evaluation of {', '.join(has)} only" if has else "has no evaluation"
            raise ConfigError(
                f"fer compare: {run} {what}: fer {'validate' if wanted == 'val' else 'test'} --ckpt_path {run}"
            )
    return [folder / wanted if folder in runs else folder for folder in given]


def _names(folders: list[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell the folders apart."""
    parts = [folder.absolute().parts for folder in folders]
    while len({path[-1] for path in parts}) == 1 and all(len(path) > 1 for path in parts):
        parts = [path[:-1] for path in parts]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(path[-count:]) for path in parts]
        if len(set(names)) == len(names):
            return names
    raise ConfigError(f"fer compare: {folders[0]} is given twice")


def _warnings(names: list[str], folders: list[Path]) -> list[str]:
    """Return what makes a comparison unfair, as far as the reports beside the predictions tell."""
    import json

    found = []
    for name, folder in zip(names, folders, strict=True):
        path = (folder if folder.is_dir() else folder.parent) / "report.json"
        try:
            context = json.loads(path.read_text(encoding="utf-8"))["context"]
        except (OSError, ValueError, KeyError):
            found.append(f"{name}: no report tells whether it was trained on some of these images")
            continue
        if context.get("overlap_with_train"):
            found.append(f"{name}: {context['overlap_with_train']:,} of these images are in its training part, too")
    return found
