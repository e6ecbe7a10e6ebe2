"""``fer card``: the card of a model.

What needs torch is imported inside of the function.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fer_lightning.errors import ConfigError

__all__ = ["card"]


def card(
    model: str,
    *,
    out: Annotated[Path | None, "FILE"] = None,
    licence: str = "",
    groups: Annotated[str | None, "COLUMNS"] = None,
    root: Annotated[Path, "DIR"] = Path("runs"),
) -> None:
    """Write the card of a model: uses, data, scores with intervals, groups, calibration, training, origin.

    It is made of what is there: the run or model folder, its evaluations (fer test, fer validate), its calibration
    (fer calibrate) and its lineage. Its head is what the Hugging Face hub reads.

    Args:
        model: a run (its folder, or its name in --root), a checkpoint, a model folder, the name of a released model, or
            the folder of an evaluation of one.
        out: file to write; README.md in the folder, if not given.
        licence: under which the weights may be used.
        groups: columns with groups of people, with commas between; gender, skin_type, age_group and the like, if not
            given.
        root: the folder of all runs, in which evaluations of the same weights are looked for.
    """
    from fer_lightning.commands.trained import source_of
    from fer_lightning.files import write_atomically
    from fer_lightning.inference.card import card_text
    from fer_lightning.inference.facts import model_with_facts
    from fer_lightning.inference.model_folder import add_card
    from fer_lightning.outputs import place_to_write
    from fer_lightning.runs.model_folder import is_model_folder

    named = None if groups is None else [name.strip() for name in groups.split(",") if name.strip()]
    if named is not None and not named:
        raise ConfigError("--groups names no column: expected names with commas between, such as gender,age_group")
    if out is not None:
        place_to_write(out)
    found = source_of(model, root)
    made, source = model_with_facts(found, root, named, licence=licence), Path(found)
    path = out or _place(source, made.card.name)
    try:
        if out is None and is_model_folder(source):
            add_card(made, source)
        else:
            write_atomically(path, card_text(made))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}: give another --out FILE") from error
    print(f"card         {path}")


def _place(source: Path, name: str) -> Path:
    """Return where the card of a model is written."""
    if source.is_dir():
        return source / "README.md"
    return Path(f"{name.replace('/', '-')}.md") if not source.exists() else source.with_suffix(".md")
