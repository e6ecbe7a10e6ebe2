"""``fer explain``: what a model looks at, and whether that can be believed.

What needs torch is imported inside of the function.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fer_lightning.commands.data import OfData
from fer_lightning.errors import ConfigError
from fer_lightning.text import counted

if TYPE_CHECKING:
    from fer_lightning.commands.trained import Trained
    from fer_lightning.explanation.explainer import Maps
    from fer_lightning.explanation.subject import Subject

__all__ = ["explain"]


def explain(
    run: str,
    path: str | None = None,
    *,
    out: Annotated[Path | None, "DIR"] = None,
    split: Literal["train", "val", "test"] = "val",
    images: int = 500,
    classes: Annotated[str, "NAMES"] = "",
    shown: int = 4,
    root: Annotated[Path, "DIR"] = Path("runs"),
    seed: int = 0,
    of_data: OfData,
) -> None:
    """Show what a model looks at when it decides, class by class, and test whether these maps can be believed.

    No layer has to be named. On drawn faces (--data SketchDataModule) the truth is known: where the face moved.

    Args:
        run: folder or name of a run, a checkpoint, a model folder, or the name of a released model.
        path: where a data set lies, see below; the data that the run was trained with, if not given.
        out: folder to write; in that of the run, explain (or explain-test and the like, by split), if not given.
        split: whose images are explained.
        images: images at most, of all classes equally many.
        classes: only these, with commas between: happy,sad.
        shown: images of each class on the page, right ones and wrong ones each.
        root: the folder of all runs.
        seed: chooses the images, and the weights of the random networks.
        of_data: options of the data set.
    """
    from fer_lightning.commands.data_sets import checked_place, name_of, opened_for
    from fer_lightning.commands.places import page_folder
    from fer_lightning.commands.trained import check_classes, find_trained, note_look, retyped
    from fer_lightning.explanation.report import explanation_lines, write_explanation
    from fer_lightning.explanation.subject import chosen_classes, subject_of, truth_of

    for name, value in (("images", images), ("shown", shown)):
        if value < 1:
            raise ConfigError(f"fer explain: --{name} must be at least 1, not {value}")
    chosen = {"split": split, "images": images, "root": root, "seed": seed, "out": out}
    trained = find_trained("fer explain", run, root)
    model = trained.model
    wanted = chosen_classes(model.class_names, classes)
    folder = page_folder("explain", out, trained.run, "" if split == "val" else split)
    with opened_for("fer explain", trained.checkpoint, path, of_data) as data:
        checked_place(folder, data)
        data_name = f"{name_of(data)}, split {split}"
        check_classes(model, data.table)
        subject, rows = subject_of(data.table, model.preprocessing, split, wanted, images, seed)
        subject = replace(subject, truth=truth_of(data, rows))
        note_look("explain", trained.checkpoint, data.table, split, root)
        maps, found = _measured(trained, subject, seed)
        found |= {
            "title": f"What {model.card.name} looks at",
            "about": f"{counted(len(rows), 'image')} of {data_name}.",
            "command": retyped("explain", run, path, *of_data, classes=classes, shown=shown, **chosen),
            "on_drawn": _on_drawn(run, model.class_names, folder) if subject.truth is None else "",
            **trained.origin(run, data_name),
        }
        print("\n".join(explanation_lines(found)))
        trained.tell(write_explanation(subject, maps, found, folder, shown))


def _measured(trained: Trained, subject: Subject, seed: int) -> tuple[Maps, dict[str, Any]]:
    """Make the maps and test them, behind a bar."""
    from fer_lightning.commands.trained import steps_shown
    from fer_lightning.explanation.explainer import Explainer
    from fer_lightning.explanation.study import judged, number_of_steps
    from fer_lightning.explanation.subject import drawn_subject

    explainer = Explainer.of(trained.network, trained.model.preprocessing)
    with steps_shown(number_of_steps(explainer, subject)) as step:
        maps = explainer.explained(subject.images, step)
        own = subject.truth is not None
        drawn = None if own else drawn_subject(explainer.preprocessing, subject.class_names, seed)
        return maps, judged(explainer, lambda turn: trained.untrained(seed + turn), subject, maps, drawn, step)


def _on_drawn(run: str, class_names: tuple[str, ...], folder: Path) -> str:
    """Return the command that explains a model on drawn faces beside a folder, empty if these have other classes."""
    from fer_lightning.data.sets.sketch.sketch import SketchDataModule

    if class_names != SketchDataModule.class_names:
        return ""
    return shlex.join(["fer", "explain", run, "--data", "SketchDataModule", "--out", f"{folder}_drawn"])
