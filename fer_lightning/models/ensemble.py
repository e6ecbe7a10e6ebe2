"""Several trained networks as one: the mean of their probabilities, in the form of a network and of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.files import file_digest
from fer_lightning.models.architecture import architecture_of, described
from fer_lightning.models.distillation import change_preprocessing
from fer_lightning.models.views import mean_logits
from fer_lightning.preprocessing import check_preprocessing
from fer_lightning.runs.checkpoint import (
    CONFIG_KEY,
    LINEAGE_KEY,
    MEMBERS_KEY,
    NETWORK_PREFIX,
    TASK_KEY,
    read_checkpoint,
    weights_digest,
)
from fer_lightning.runs.trained_on import TRAINED_ON_KEY, TrainedOn, joined, read_trained_on

__all__ = ["ENSEMBLE", "Ensemble", "NoHead", "ensemble_checkpoint", "write_ensemble"]

ENSEMBLE = "ensemble"
"""What evaluations of several models are called where no ``--name`` is given."""

_PLACE = "backbone.members"  # of the members' weights


class Ensemble(nn.Module):
    """Trained networks whose probabilities are averaged, as a backbone in front of ``NoHead``.

    Args:
        members: of each a JSON text, so that no parser takes it for classes to make: ``architecture`` (see
            ``Architecture``), ``class_names`` in its label order and ``preprocessing`` of its input. Weights come
            from a ``state_dict``.
        class_names: in the order of what is returned.
        preprocessing: of the images that are given. A member with another one gets them resized and normalised anew.

    Raises:
        ConfigError: if a network cannot be built, or is not made of classes of this package, torch or timm.
    """

    def __init__(self, members: list[str], class_names: list[str], preprocessing: dict[str, Any]) -> None:
        super().__init__()
        said = [json.loads(member) for member in members]
        self.given = check_preprocessing(preprocessing)
        self.wanted = [check_preprocessing(member["preprocessing"]) for member in said]
        self.orders = [[member["class_names"].index(name) for name in class_names] for member in said]
        self.members = nn.ModuleList(
            described(member["architecture"], len(class_names), wanted)
            for member, wanted in zip(said, self.wanted, strict=True)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to the logarithms of the mean probabilities, float32 ``(N, K)``."""
        return mean_logits(
            network(change_preprocessing(images, self.given, wanted))[:, order]
            for network, wanted, order in zip(self.members, self.wanted, self.orders, strict=True)
        )


class NoHead(nn.Identity):
    """Takes the place of a head behind a backbone that returns logits ``(N, K)`` itself.

    Args:
        in_features: width of what the backbone returns.
        num_classes: number of logits, the same.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()


def write_ensemble(paths: Sequence[Path], file: Path) -> Path:
    """Write checkpoints as one that averages their probabilities, and return its file; see ``ensemble_checkpoint``.

    Raises:
        CheckpointError: as ``ensemble_checkpoint``.
    """
    torch.save(ensemble_checkpoint(paths), file)
    return file


def ensemble_checkpoint(paths: Sequence[Path]) -> dict[str, Any]:
    """Return the content of a checkpoint that averages the probabilities of several ones.

    Its data, classes and preprocessing are those of the first, its weights those of all, in an order that does not
    depend on how they are named. Calibrations are left out, because they are of one network each. It knows which images
    any of them has seen.

    Args:
        paths: checkpoints, or the weights in model folders.

    Raises:
        CheckpointError: if one cannot be read, has other classes than the first, is the same as another, or is of a
            network that cannot be built without files or classes of its user.
    """
    contents = [_content(path) for path in paths]
    digests = [weights_digest(content["state_dict"]) for content in contents]
    first = contents[0][TASK_KEY]
    for place, (path, content, digest) in enumerate(zip(paths, contents, digests, strict=True)):
        names = content[TASK_KEY]["class_names"]
        if set(names) != set(first["class_names"]):
            raise CheckpointError(
                f"an ensemble needs the same classes: {path} has {', '.join(names)}; {paths[0]} has "
                f"{', '.join(first['class_names'])}"
            )
        if digest in digests[:place]:
            raise CheckpointError(f"{path} has the same weights as {paths[digests.index(digest)]}: name it once")
    # Those that take the images as they are first; else by their weights.
    like_first = [content[TASK_KEY]["preprocessing"] != first["preprocessing"] for content in contents]
    order = sorted(range(len(paths)), key=lambda place: (like_first[place], digests[place]))
    ordered = [contents[place] for place in order]
    config = {**contents[0][CONFIG_KEY], "name": ENSEMBLE}
    config["model"] = _model(ordered, [paths[place] for place in order], first)
    counts = [content[TASK_KEY].get("class_counts") for content in contents]
    return {
        "state_dict": _weights(ordered),
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": contents[0]["pytorch-lightning_version"],
        CONFIG_KEY: config,
        TASK_KEY: {
            "class_names": first["class_names"],
            "preprocessing": first["preprocessing"],
            "class_counts": counts[0] if counts.count(counts[0]) == len(counts) else None,
            "plateau": contents[0][TASK_KEY].get("plateau"),
        },
        LINEAGE_KEY: _common([content.get(LINEAGE_KEY, {}) for content in contents]),
        TRAINED_ON_KEY: _trained_on(paths).state(),
        MEMBERS_KEY: [
            {"checkpoint": str(paths[place].absolute()), "sha256": file_digest(paths[place], "sha256")}
            for place in order
        ],
    }


def _content(path: Path) -> dict[str, Any]:
    content = read_checkpoint(path)
    if not isinstance(content.get(TASK_KEY), dict) or not isinstance(content.get(CONFIG_KEY), dict):
        raise CheckpointError(f"{path} was not written by fer fit: it cannot be a member of an ensemble")
    return content


def _model(contents: Sequence[Mapping[str, Any]], paths: Sequence[Path], first: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``model`` part of the configuration: views that all members share are those of the ensemble."""
    members: list[dict[str, Any]] = []
    for path, content in zip(paths, contents, strict=True):
        task = content[TASK_KEY]
        try:
            architecture = architecture_of(content[CONFIG_KEY]["model"])
            preprocessing = check_preprocessing(task["preprocessing"])
            described(architecture, len(task["class_names"]), preprocessing)
        except ConfigError as error:
            raise CheckpointError(f"{path} cannot be a member of an ensemble: {error}") from error
        named = {"class_names": list(task["class_names"]), "preprocessing": dict(preprocessing)}
        members.append({"architecture": dict(architecture), **named})
    views = {member["architecture"].get("views", "none") for member in members}
    if len(views) == 1:
        for member in members:
            member["architecture"].pop("views", None)
    options = {"members": [json.dumps(member) for member in members], "class_names": list(first["class_names"])}
    return {
        "backbone": {
            "class_path": f"{Ensemble.__module__}.{Ensemble.__name__}",
            "init_args": {**options, "preprocessing": dict(first["preprocessing"])},
        },
        "head": {"class_path": f"{NoHead.__module__}.{NoHead.__name__}"},
        "views": views.pop() if len(views) == 1 else "none",
    }


def _weights(contents: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    found = {
        f"{NETWORK_PREFIX}{_PLACE}.{place}.{name.removeprefix(NETWORK_PREFIX)}": value
        for place, content in enumerate(contents)
        for name, value in content["state_dict"].items()
        if name.startswith(NETWORK_PREFIX)
    }
    classes = len(contents[0][TASK_KEY]["class_names"])
    return {**found, f"{NETWORK_PREFIX}shift": torch.zeros(classes)}


def _common(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values that are the same in all of several mappings."""
    return {key: value for key, value in values[0].items() if all(each.get(key) == value for each in values)}


def _trained_on(paths: Sequence[Path]) -> TrainedOn:
    records = [read_trained_on(path) for path in paths]
    silent = records.count(None)
    unknown = (f"{silent} of its {len(paths)} models do not tell",) if silent else ()
    return joined([*(each for each in records if each is not None), TrainedOn(unknown=unknown)])
