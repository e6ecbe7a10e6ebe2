"""Trained models out of checkpoints and model folders, and into the latter.

``fer_lightning.runs.model_folder`` says what lies in such a folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from fer_lightning import __version__
from fer_lightning.errors import CheckpointError, ConfigError, FERError
from fer_lightning.files import write_atomically
from fer_lightning.inference.card import card_text
from fer_lightning.inference.framing import Framing, framings_in, plain_framings, read_framing
from fer_lightning.inference.model import Card, Model, TorchBackend
from fer_lightning.models.architecture import architecture_of, described
from fer_lightning.models.calibration import calibration_in, calibration_of, plain_calibration
from fer_lightning.models.classifier import EmotionClassifier
from fer_lightning.preprocessing import check_preprocessing
from fer_lightning.runs.checkpoint import (
    CONFIG_KEY,
    LINEAGE_KEY,
    NETWORK_PREFIX,
    TASK_KEY,
    read_checkpoint,
    run_folder_of,
)
from fer_lightning.runs.model_folder import (
    CARD,
    CONFIG,
    TRAINED_ON,
    WEIGHTS,
    is_in_model_folder,
    read_model_folder,
    read_values,
    values_text,
)
from fer_lightning.runs.records import Run
from fer_lightning.runs.trained_on import TrainedOn, read_trained_on, trained_on_in
from fer_lightning.text import first_line

__all__ = ["add_card", "add_framings", "framings_of", "model_of_checkpoint", "model_of_folder", "write_model_folder"]


def write_model_folder(model: Model, folder: Path) -> Path:
    """Write a model as a folder and return it; files of an earlier model there are replaced.

    Raises:
        ConfigError: if the model has no PyTorch network, as one that was read from an ONNX file.
        OSError: if it cannot be written.
    """
    if not isinstance(model.backend, TorchBackend) or model.architecture is None:
        raise ConfigError(f"{model.card.name} has no PyTorch network that could be written: use the model it came from")
    weights = {name: value.cpu().contiguous() for name, value in model.backend.network.state_dict().items()}
    write_atomically(folder / WEIGHTS, save(weights, metadata={"format": "pt"}))
    said = _write_trained_on(model.trained_on, folder / TRAINED_ON)
    values = {
        "architecture": model.architecture,
        "class_names": list(model.class_names),
        "scheme": model.scheme,
        "preprocessing": dict(model.preprocessing),
        "framing": plain_framings(model.framings),
        "calibration": plain_calibration(model.calibration),
        **({} if said is None else {"trained_on": said}),
        **asdict(model.card),
    }
    write_atomically(folder / CONFIG, values_text(values, folder))
    write_atomically(folder / CARD, card_text(model))
    return folder


def _write_trained_on(record: TrainedOn | None, path: Path) -> dict[str, Any] | None:
    """Write the digests of the images that a model was trained on; return what ``config.json`` says of them."""
    path.unlink(missing_ok=True)
    if record is None:
        return None
    if len(record.train) or len(record.val):
        write_atomically(path, record.npy_bytes())
    return {"train": len(record.train), "val": len(record.val), "unknown": list(record.unknown)}


def add_framings(folder: Path, framings: Mapping[str, Framing]) -> Path:
    """Write framings into the ``config.json`` of a model folder, beside those of other detectors; return the file.

    Raises:
        CheckpointError: if the folder is damaged or of a later version.
        OSError: if it cannot be written.
    """
    values, _ = read_model_folder(folder)
    values["framing"] = plain_framings({**framings_in(values.get("framing")), **framings})
    return write_atomically(folder / CONFIG, values_text(values, folder))


def framings_of(path: Path) -> dict[str, Framing]:
    """Return the framings beside a checkpoint, or in the model folder that its weights lie in; empty if there are none.

    Raises:
        CheckpointError: if the folder is damaged or of a later version.
    """
    if is_in_model_folder(path):
        return framings_in(read_values(path.parent).get("framing"))
    run = run_folder_of(path)
    return {} if run is None else read_framing(run)


def add_card(model: Model, folder: Path) -> Path:
    """Write the card of a model into its folder, and what it is made of into ``config.json``; return the card's file.

    Raises:
        CheckpointError: if the folder is damaged or of a later version.
        OSError: if it cannot be written.
    """
    write_atomically(folder / CONFIG, values_text({**read_values(folder), **asdict(model.card)}, folder))
    return write_atomically(folder / CARD, card_text(model))


def model_of_folder(folder: Path) -> Model:
    """Read a model from a folder. No code in it is run.

    Raises:
        CheckpointError: if a file is missing, damaged, changed since it was written, or of a later version.
        ConfigError: if its network cannot be built here.
    """
    values, weights = read_model_folder(folder)
    preprocessing = check_preprocessing(values["preprocessing"])
    classifier = described(values["architecture"], len(values["class_names"]), preprocessing)
    _load(classifier, weights, folder / WEIGHTS)
    return Model(
        TorchBackend(classifier, preprocessing),
        tuple(values["class_names"]),
        preprocessing,
        Card(**{name: values[name] for name in Card.__annotations__ if name in values}),
        values["architecture"],
        framings_in(values.get("framing")),
        calibration_in(values.get("calibration"), len(values["class_names"]), folder / CONFIG),
        read_trained_on(folder / WEIGHTS),
    )


def model_of_checkpoint(path: Path, name: str) -> Model:
    """Return the model in a checkpoint of ours; its framing is in the run folder. The user's own modules are imported.

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
    _load(
        classifier,
        {key.removeprefix(NETWORK_PREFIX): state[key] for key in state if key.startswith(NETWORK_PREFIX)},
        path,
    )
    training = {"data": config.get("data", {}).get("class_path", ""), **content.get(LINEAGE_KEY, {}).get("data", {})}
    run = run_folder_of(path)
    training |= {"seed": config.get("seed_everything"), "code": _code(run)}
    card = Card(name, training, version=__version__)
    return Model(
        TorchBackend(classifier, preprocessing),
        tuple(task["class_names"]),
        preprocessing,
        card,
        architecture,
        framings_of(path),
        calibration_of(path, content),
        trained_on_in(content, path),
    )


def _code(folder: Path | None) -> dict[str, Any]:
    """Return version and commit of the code that trained a run, empty where its lineage does not tell."""
    try:
        nodes = [] if folder is None else Run(folder).lineage
    except FERError:
        return {}
    return dict(nodes[-1].code) if nodes else {}


def _load(classifier: EmotionClassifier, weights: Mapping[str, Tensor], path: Path) -> None:
    try:
        classifier.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit the network that it names: {first_line(error)}") from error
