"""A trained model as a folder that can be passed on: weights without pickle, and JSON that says what they are.

::

    <folder>/
        model.safetensors    weights of the network
        config.json          architecture, classes, preprocessing, framing, calibration, where it comes from, digests
        README.md            card
        trained_on.npy       digests of the images that it was trained and chosen on, unless they were left out

It can be given wherever a checkpoint is taken: ``read_checkpoint`` reads both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fer_lightning.errors import CheckpointError
from fer_lightning.files import file_digest, json_text
from fer_lightning.shipped import shipped
from fer_lightning.text import first_line

__all__ = [
    "CARD",
    "CONFIG",
    "TRAINED_ON",
    "WEIGHTS",
    "is_in_model_folder",
    "is_model_folder",
    "read_model_folder",
    "read_values",
    "released",
    "values_text",
]

WEIGHTS = "model.safetensors"
"""Name of the file of weights."""
CONFIG = "config.json"
"""Name of the file that describes the model."""
CARD = "README.md"
"""Name of the model card."""
TRAINED_ON = "trained_on.npy"
"""Name of the file of digests of the training images."""
_FORMAT, _SCHEMA = "fer_lightning", 1
_NEEDED = {"architecture", "class_names", "preprocessing", "sha256", "name"}


def is_model_folder(path: Path) -> bool:
    """Tell whether a path is a folder with a model in it."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def released() -> dict[str, Path]:
    """Return the models that come with the package: the folder of each by its name."""
    place = shipped("checkpoints")
    folders = sorted(place.iterdir()) if place.is_dir() else []
    return {folder.name: folder for folder in folders if is_model_folder(folder)}


def is_in_model_folder(path: Path) -> bool:
    """Tell whether a file is the weights of a model folder."""
    return path.name == WEIGHTS and is_model_folder(path.parent)


def values_text(values: dict[str, Any], folder: Path) -> str:
    """Return the text of ``config.json`` for values of a model, whose other files lie in the folder already."""
    head = {"format": _FORMAT, "schema": _SCHEMA}
    digests = {name: file_digest(folder / name, "sha256") for name in (WEIGHTS, TRAINED_ON) if (folder / name).exists()}
    return json_text({**head, **values, "sha256": digests})


def read_model_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a model folder. No code in it is run.

    Returns:
        What stands in ``config.json``, and the weights: tensors by name.

    Raises:
        CheckpointError: if a file is missing, damaged, changed since it was written, or of a later version.
    """
    from safetensors import SafetensorError  # listing runs must not wait for it
    from safetensors.torch import load_file

    values, path = read_values(folder), folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"the model folder {folder} holds no {WEIGHTS}")
    if file_digest(path, "sha256") != values["sha256"].get(WEIGHTS):
        raise CheckpointError(f"{path} is not the file that {folder / CONFIG} was written with: fetch the folder again")
    try:
        return values, load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {first_line(error)}") from error


def read_values(folder: Path) -> dict[str, Any]:
    """Return what stands in the ``config.json`` of a model folder; raise a ``CheckpointError`` if damaged."""
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not of a model of this package")
    if values.get("schema", 0) > _SCHEMA:
        raise CheckpointError(
            f"{path} is of a later version of this package ({values.get('version')}): pip install -U fer_lightning"
        )
    if missing := _NEEDED - values.keys():
        raise CheckpointError(f"{path} is damaged: it lacks {', '.join(sorted(missing))}")
    names = values["architecture"]
    if not isinstance(names, dict) or {"backbone", "head"} - names.keys():
        raise CheckpointError(f"{path} is damaged: its architecture names no backbone and head")
    return values
