"""``fer embed``: what training has done to a model's features.

What needs torch is imported inside of the function.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

from fer_lightning.commands.data import OfData
from fer_lightning.errors import ConfigError
from fer_lightning.text import counted

__all__ = ["embed"]


def embed(
    run: str,
    path: str | None = None,
    *,
    out: Annotated[Path | None, "DIR"] = None,
    split: Literal["train", "val", "test"] = "val",
    images: int = 2000,
    groups: Annotated[str, "COLUMNS"] = "",
    root: Annotated[Path, "DIR"] = Path("runs"),
    seed: int = 0,
    of_data: OfData,
) -> None:
    """Map a model's features before and after training: do classes lie together, and sources, and groups of people?

    Args:
        run: folder or name of a run, a checkpoint, a model folder, or the name of a released model.
        path: where a data set lies, see below; the data that the run was trained with, if not given.
        out: folder to write, also projector/ for TensorBoard; in that of the run, embed (or embed-test and the like, by
            split), if not given.
        split: whose images are mapped.
        images: images at most; classes keep their shares. 2,000 take about half a minute on one core.
        groups: columns to colour by as well, with commas between; all with 2 to 12 groups if not given.
        root: the folder of all runs.
        seed: chooses the images, the weights before training, PCA and t-SNE.
        of_data: options of the data set.
    """
    from fer_lightning.commands.data_sets import checked_place, name_of, opened_for
    from fer_lightning.commands.places import page_folder
    from fer_lightning.commands.trained import check_classes, find_trained, note_look, retyped, steps_shown
    from fer_lightning.explanation.embedding import AFTER, BEFORE, colourings, distinct_rows, embedded
    from fer_lightning.explanation.embedding_report import embedding_lines, write_embedding

    if images < 1:
        raise ConfigError(f"fer embed: --images must be at least 1, not {images}")
    chosen = {"split": split, "images": images, "root": root, "seed": seed, "out": out}
    trained = find_trained("fer embed", run, root)
    model = trained.model
    folder = page_folder("embed", out, trained.run, "" if split == "val" else split)
    with opened_for("fer embed", trained.checkpoint, path, of_data) as data:
        checked_place(folder, data)
        data_name = f"{name_of(data)}, split {split}"
        table = data.table
        check_classes(model, table)
        rows = distinct_rows(table, split, images, seed)
        ways = colourings(table, rows, groups)
        note_look("embed", trained.checkpoint, table, split, root)
        before, start = trained.start(seed)
        networks = {BEFORE: before, AFTER: trained.network}
        with steps_shown(5) as step:
            found = embedded(networks, model.preprocessing, table, rows, ways, seed, step)
        about = {
            "title": f"The features of {model.card.name}",
            "about": f"{counted(len(rows), 'image')} of {data_name}.",
            "command": retyped("embed", run, path, *of_data, groups=groups, **chosen),
            "start": start,
            **trained.origin(run, data_name, before=start),
        }
        print("\n".join(embedding_lines(found)))
        trained.tell(write_embedding(found, table, ways, about, folder))
        print(f"projector    tensorboard --logdir {shlex.quote(str(folder / 'projector'))}")
