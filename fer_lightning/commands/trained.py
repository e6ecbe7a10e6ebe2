"""What the verbs on a trained model share: finding it by a word, and a copy of its network with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.inference.loading import load_model
from fer_lightning.inference.model import Model, TorchBackend
from fer_lightning.models.architecture import described
from fer_lightning.models.classifier import EmotionClassifier
from fer_lightning.runs.checkpoint import BEST, find_checkpoint
from fer_lightning.runs.model_folder import released
from fer_lightning.runs.records import find_run

__all__ = ["Trained", "find_trained"]


@dataclass(frozen=True)
class Trained:
    """A trained model with its network.

    Attributes:
        model: with its classes and preprocessing.
        network: in eval mode, on a GPU where there is one.
        checkpoint: the file it was read from, ``None`` for one of the hub.
    """

    model: Model
    network: EmotionClassifier
    checkpoint: Path | None

    def untrained(self, seed: int) -> EmotionClassifier:
        """Return the same network with random weights, in eval mode, on the same device."""
        architecture = self.model.architecture
        assert architecture is not None  # as there is a network
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            # classes that are not ours were imported when the model was loaded, or it was not loaded
            fresh = described(architecture, len(self.model.class_names), self.model.preprocessing, foreign=True)
        return fresh.to(next(self.network.parameters()).device)


def find_trained(verb: str, wanted: str, root: Path) -> Trained:
    """Load a trained model with its network.

    Args:
        verb: what was called, such as ``fer explain``, for messages.
        wanted: a run (its folder, a checkpoint in it, or its name in ``root``), a model folder, or the name of a model
            that comes with the package or is on the hub.
        root: the folder of all runs.

    Raises:
        CheckpointError: if there is no such model or it is damaged.
        ConfigError: if there is no such run, or it is no network of PyTorch.
    """
    path = Path(wanted).expanduser()
    if not path.exists() and wanted not in released() and (root / wanted).exists():
        path = find_run(wanted, root)
    source = str(path) if path.exists() else wanted
    model = load_model(source, root)
    if not isinstance(model.backend, TorchBackend) or model.architecture is None:
        raise ConfigError(f"{verb}: {wanted} has no network of PyTorch: give the run or model folder it comes from")
    try:
        checkpoint: Path | None = find_checkpoint(source, root, "default", BEST)
    except CheckpointError:  # one of the hub
        checkpoint = None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Trained(model, model.backend.network.to(device), checkpoint)
