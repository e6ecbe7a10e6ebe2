"""A trained model as a folder that can be passed on: weights without pickle, and JSON that says what they are.

::

    <folder>/
        model.safetensors    weights of the network
        config.json          architecture, classes, preprocessing, framing, calibration, where it comes from, digests
        README.md            card, if one was written
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.files import file_digest, json_text, write_atomically
from fer_lightning.inference.framing import Framing
from fer_lightning.inference.model import Calibration, Card, Model, TorchBackend
from fer_lightning.models.architecture import Architecture, architecture_of, described
from fer_lightning.models.classifier import EmotionClassifier
from fer_lightning.preprocessing import check_preprocessing
from fer_lightning.runs.checkpoint import CONFIG_KEY, LINEAGE_KEY, TASK_KEY, read_checkpoint
from fer_lightning.text import first_line

__all__ = ["CONFIG", "WEIGHTS", "is_model_folder", "model_of_checkpoint", "read_model_folder", "write_model_folder"]

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_FORMAT, _SCHEMA = "fer_lightning", 1
_PREFIX = "classifier."  # of the classifier's weights in a checkpoint


def is_model_folder(path: Path) -> bool:
    """Tell whether a path is a folder with a model in it, as :func:`write_model_folder` makes one."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def write_model_folder(model: Model, folder: Path) -> Path:
    """Write a model as a folder and return it; files of an earlier model there are replaced.

    Raises:
        ConfigError: if the model has no PyTorch network, as one that was read from an ONNX file.
        OSError: if it cannot be written.
    """
    if not isinstance(model.backend, TorchBackend) or model.architecture is None:
        raise ConfigError(f"{model.card.name} has no PyTorch network that could be written: use the model it came from")
    weights = {name: value.cpu().contiguous() for name, value in model.backend.network.state_dict().items()}
    path = write_atomically(folder / WEIGHTS, save(weights, metadata={"format": "pt"}))
    values = {
        "format": _FORMAT,
        "schema": _SCHEMA,
        "architecture": model.architecture,
        "class_names": list(model.class_names),
        "scheme": model.scheme,
        "preprocessing": dict(model.preprocessing),
        "framing": None if model.framing is None else asdict(model.framing),
        "calibration": asdict(model.calibration),
        **asdict(model.card),
        "sha256": {WEIGHTS: file_digest(path, "sha256")},
    }
    write_atomically(folder / CONFIG, json_text(values))
    return folder


def read_model_folder(folder: Path) -> Model:
    """Read a model from a folder. No code in it is run.

    Raises:
        CheckpointError: if a file is missing, damaged, changed since it was written, or of a later version.
        ConfigError: if its network cannot be built here.
    """
    values = _values(folder / CONFIG)
    path = folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"the model folder {folder} holds no {WEIGHTS}")
    if file_digest(path, "sha256") != values["sha256"].get(WEIGHTS):
        raise CheckpointError(f"{path} is not the file that {folder / CONFIG} was written with: fetch the folder again")
    try:
        weights = load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {first_line(error)}") from error
    preprocessing = check_preprocessing(values["preprocessing"])
    classifier = described(values["architecture"], len(values["class_names"]), preprocessing)
    _load(classifier, weights, path)
    framing = values.get("framing")
    return Model(
        TorchBackend(classifier, preprocessing),
        tuple(values["class_names"]),
        preprocessing,
        Card(**{name: values[name] for name in Card.__annotations__ if name in values}),
        values["architecture"],
        None if framing is None else Framing(**framing),
        Calibration(**values.get("calibration", {})),
    )


def model_of_checkpoint(path: Path, name: str) -> Model:
    """Return the model in a checkpoint of ours. Classes of the user's own modules are imported.

    Args:
        path: the file.
        name: of the model, as it is shown.

    Raises:
        CheckpointError: if it cannot be read or is not a checkpoint of this package.
        ConfigError: if its network cannot be built here.
    """
    content = read_checkpoint(path)
    task, config = content.get(TASK_KEY), content.get(CONFIG_KEY)
    if not isinstance(task, dict) or not isinstance(config, dict):
        raise CheckpointError(f"{path} was not written by fer fit: --model.weights of fer fit can start from it")
    architecture = architecture_of(config["model"])
    preprocessing = check_preprocessing(task["preprocessing"])
    classifier = described(architecture, len(task["class_names"]), preprocessing, foreign=True)
    state: Mapping[str, Tensor] = content["state_dict"]
    _load(classifier, {key.removeprefix(_PREFIX): state[key] for key in state if key.startswith(_PREFIX)}, path)
    training = {"data": config.get("data", {}).get("class_path", ""), **content.get(LINEAGE_KEY, {}).get("data", {})}
    card = Card(name, training={**training, "seed": config.get("seed_everything")})
    return Model(TorchBackend(classifier, preprocessing), tuple(task["class_names"]), preprocessing, card, architecture)


def _load(classifier: EmotionClassifier, weights: Mapping[str, Tensor], path: Path) -> None:
    try:
        classifier.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the network that it names: {first_line(error)}") from error


def _values(path: Path) -> dict[str, Any]:
    """Return what stands in a ``config.json``."""
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
    missing = {"architecture", "class_names", "preprocessing", "sha256", "name"} - values.keys()
    if missing:
        raise CheckpointError(f"{path} is damaged: it lacks {', '.join(sorted(missing))}")
    names: Architecture | None = values["architecture"]
    if not isinstance(names, dict) or {"backbone", "head"} - names.keys():
        raise CheckpointError(f"{path} is damaged: its architecture names no backbone and head")
    return values
