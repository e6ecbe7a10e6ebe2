"""``fer endtoend``: detector and classifier together, on whole pictures.

What needs torch is imported inside of the functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from fer_lightning.commands.data import OfData
from fer_lightning.errors import ConfigError

__all__ = ["endtoend"]


def endtoend(
    model: str,
    path: str | None = None,
    *,
    boxes: Annotated[Path | None, "FILE"] = None,
    box: Literal["face", "crop"] = "face",
    out: Annotated[Path | None, "DIR"] = None,
    detector: Annotated[tuple[str, ...], "NAME"] = (),
    views: Literal["none", "squares", "fine"] = "squares",
    split: Literal["train", "val", "test"] = "test",
    faces: int = 1000,
    sizes: str = "60-360",
    most: int = 4,
    picture: str = "960x720",
    seed: int = 0,
    write: Annotated[Path | None, "DIR"] = None,
    of_data: OfData,
) -> None:
    """Score detector and classifier together on whole pictures, beside the score on the true parts of the pictures.

    The pictures are scenes that are made of the faces of a data set (drawn persons of SketchDataModule, or images with
    a gray border), or your own with a table of boxes and labels. Missed faces count as errors.

    Args:
        model: see fer recognize --help.
        path: where the data set lies, see below.
        boxes: instead of a data set: a table with the columns path, label, x, y, w, h, one row for each face.
        box: what those boxes hold: a face, as a detector's box does, or a crop, as an image of a data set.
        out: folder to write into: endtoend.json, endtoend.png; endtoend in the folder of the run, if not given.
        detector: see fer recognize --help; several times for several. All that are there if not given.
        views: parts of a picture in which small faces are looked for.
        split: of the data set.
        faces: how many are put into scenes, at most.
        sizes: of the faces in scenes: sides of the smallest and of the largest in pixels.
        most: faces in one scene, at most.
        picture: width and height of a scene in pixels.
        seed: of the scenes.
        write: also write the scenes into this folder, with their table boxes.csv (--box crop).
        of_data: options of the data set.
    """
    from fer_lightning.commands.places import page_folder
    from fer_lightning.inference.faces.choice import detectors_named
    from fer_lightning.inference.loading import checkpoint_of, load_model
    from fer_lightning.runs.checkpoint import run_folder_of

    _check(faces, boxes, path is not None or bool(of_data) or write is not None)
    shape = (*_pair("picture", picture, "960x720"), *_pair("sizes", sizes, "60-360"), most, seed)
    checkpoint = checkpoint_of(model)
    folder = page_folder("endtoend", out, None if checkpoint is None else run_folder_of(checkpoint))
    loaded, detectors = load_model(model), detectors_named(detector, views)
    if not loaded.framings:
        print(f"{loaded.card.name}: its framing is not known: both ways of cutting are the same")
    if boxes is None:
        pictures = _scenes(loaded.class_names, path, of_data, split, faces, shape, write, checkpoint)
    else:
        pictures = _own_pictures(loaded, boxes, box)
    _score(loaded, detectors, pictures, folder, {"views": views, "seed": seed})


def _own_pictures(model: Any, boxes: Path, box: str) -> tuple[Any, ...]:
    """Return the pictures of a table of boxes, how many they are, and how a model's images are cut from such boxes."""
    from fer_lightning.inference.framing import nearest
    from fer_lightning.inference.scene_files import read_boxes

    found = read_boxes(boxes, model.class_names)
    truth = model.framings.get(nearest(model.framings, "blazeface")) if box == "face" else None
    return found, len(found), truth


def _score(model: Any, detectors: Any, pictures: tuple[Any, ...], out: Path, about: dict[str, Any]) -> None:
    """Score a model on pictures, whose last part is as for ``answers_of``; print and write it."""
    from fer_lightning.inference.endtoend import answers_of
    from fer_lightning.inference.endtoend_report import endtoend_table, write_endtoend
    from fer_lightning.outputs import writing_errors

    with writing_errors(out):
        answers = answers_of(model, detectors, *pictures)
        write_endtoend(out, answers, model=model.card.name, **about)
    print("\n".join([*endtoend_table(answers), "", *endtoend_table(answers, by_size=True), ""]))
    print(f"written: {out / 'endtoend.png'}, endtoend.json")


def _check(faces: int, boxes: Path | None, has_data: bool) -> None:
    if faces < 1:
        raise ConfigError(f"fer endtoend: --faces must be at least 1, not {faces}")
    if boxes is not None and has_data:
        raise ConfigError("fer endtoend: give either --boxes FILE or a data set; --write is for scenes of a data set")


def _scenes(
    class_names: Sequence[str],
    path: str | None,
    of_data: Sequence[str],
    split: str,
    faces: int,
    shape: tuple[int, ...],
    write: Path | None,
    checkpoint: Path | None,
) -> tuple[Any, ...]:
    """Return scenes of the faces of a data set, and how many faces there are."""
    from fer_lightning.cli.data_set import data_module
    from fer_lightning.cli.known_options import DEFAULT_ROOT
    from fer_lightning.commands.data_sets import checked_folder
    from fer_lightning.commands.trained import note_look
    from fer_lightning.inference.scene_files import written
    from fer_lightning.inference.scenes import SceneSettings, scene_faces, scenes

    settings = SceneSettings(*shape)
    data = data_module("fer endtoend", path, of_data)
    source = scene_faces(data, class_names, split, faces, settings.seed)
    note_look("endtoend", checkpoint, data.table, split, Path(DEFAULT_ROOT))
    made = scenes(source, settings)
    if write is not None:
        made = written(made, checked_folder(str(write), data), class_names)
    return made, len(source.labels)


def _pair(option: str, text: str, example: str) -> tuple[int, int]:
    """Return two whole numbers that are written with something between them, as in an example."""
    first, _, second = text.partition(example.strip("0123456789"))
    if not (first.isdecimal() and second.isdecimal()):
        raise ConfigError(f"fer endtoend: --{option} {text}: expected two whole numbers, such as {example}")
    return int(first), int(second)
