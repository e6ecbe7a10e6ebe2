"""What the verbs on a trained model share: finding it by a word, and a copy of its network with random weights."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import ConfigError, DataError, FERError
from fer_lightning.evaluation.finding import evaluated_model
from fer_lightning.evaluation.page_parts import refresh_pages
from fer_lightning.evaluation.predictions import PREDICTIONS
from fer_lightning.inference.loading import checkpoint_of, load_model
from fer_lightning.inference.model import Model, TorchBackend
from fer_lightning.models.architecture import Architecture, described
from fer_lightning.models.classifier import EmotionClassifier
from fer_lightning.runs.checkpoint import CONFIG_KEY, read_checkpoint, run_folder_of, weights_digest
from fer_lightning.runs.looks import append_look, look_at
from fer_lightning.runs.model_folder import is_in_model_folder, released
from fer_lightning.runs.records import find_run
from fer_lightning.text import first_line

__all__ = ["Trained", "check_classes", "find_trained", "note_look", "retyped", "source_of", "steps_shown"]

_USUAL_ROOT = ("root", Path("runs"))


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

    @property
    def run(self) -> Path | None:
        """The folder of the run that it is of; ``None`` for a model folder or one of the hub."""
        if self.checkpoint is None or is_in_model_folder(self.checkpoint):
            return None
        return run_folder_of(self.checkpoint)

    @property
    def weights(self) -> str:
        """Digest of the weights, the same in whatever file they are."""
        return weights_digest(self.network.state_dict())

    def origin(self, given: str, data_name: str, **more: str) -> dict[str, Any]:
        """Return what findings say of where they come from: the model as it was named, the data, and the weights."""
        made = {"model": f"{self.model.card.name} ({self.checkpoint or given})", "data": data_name}
        return {"made": made | more, "weights": self.weights}

    def tell(self, page: Path) -> None:
        """Name the page of findings on the model that was written, and let the pages of its run show them."""
        print(f"\nreport       {page}")
        if self.run is not None:
            refresh_pages(self.run)

    def untrained(self, seed: int) -> EmotionClassifier:
        """Return the same network with random weights, in eval mode, on the same device."""
        assert self.model.architecture is not None  # as there is a network
        return self._built(self.model.architecture, seed)

    def _built(self, architecture: Architecture, seed: int) -> EmotionClassifier:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            # classes that are not ours were imported when the model was loaded, or it was not loaded
            fresh = described(architecture, len(self.model.class_names), self.model.preprocessing, foreign=True)
        return fresh.to(next(self.network.parameters()).device)

    def start(self, seed: int) -> tuple[EmotionClassifier, str]:
        """Return the network as it was before training, and what that is.

        Pretrained weights are looked for where the run took them from; where they are not there any more, and for all
        other networks, the weights are random.
        """
        begun = self._stored_model()
        given = {name: begun[name] for name in ("pretrained", "weights") if begun.get(name)}
        architecture = self.model.architecture
        assert architecture is not None  # as there is a network
        if not given:
            return self.untrained(seed), "random weights"
        what = f"the weights in {given['weights']}" if "weights" in given else "pretrained weights"
        with_weights: Any = {**architecture, "backbone_args": {**architecture["backbone_args"], **given}}
        try:
            return self._built(with_weights, seed), what
        except FERError as error:
            return self.untrained(seed), f"random weights, because {what} cannot be had ({first_line(error)})"

    def _stored_model(self) -> dict[str, Any]:
        """Return the ``model`` part of the configuration that the run began with, empty if it is not known."""
        if self.checkpoint is None:
            return {}
        config = read_checkpoint(self.checkpoint, mapped=True).get(CONFIG_KEY)
        return dict(config.get("model") or {}) if isinstance(config, dict) else {}


def source_of(wanted: str, root: Path) -> str:
    """Return what a model can be loaded from: the folder of a run that is given by its name in ``root``, else as given.

    The folder of an evaluation stands for the model that was evaluated: its run, if it is of the best checkpoint.

    Raises:
        ConfigError: if there is a folder of this name, but no run in it.
    """
    path = Path(wanted).expanduser()
    if not path.exists() and wanted not in released() and (root / wanted).exists():
        path = find_run(wanted, root)
    if (path / PREDICTIONS).is_file():
        path = evaluated_model(path) or path
    return str(path) if path.exists() else wanted


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
    source = source_of(wanted, root)
    model = load_model(source, root)
    if not isinstance(model.backend, TorchBackend) or model.architecture is None:
        raise ConfigError(f"{verb}: {wanted} has no network of PyTorch: give the run or model folder it comes from")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Trained(model, model.backend.network.to(device), checkpoint_of(source, root))


def retyped(verb: str, *words: str | None, **options: object) -> str:
    """Return the command that does the same again, without words that are not given and options that are as usual."""
    given = [
        f"--{name}={value}"
        for name, value in options.items()
        if value not in ("", None) and (name, value) != _USUAL_ROOT
    ]
    return shlex.join(["fer", verb, *(word for word in words if word), *given])


@contextmanager
def steps_shown(total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar while the block runs, and give what is called with the name of each of so many steps."""
    with tqdm(total=total, disable=None, leave=False, unit="step") as bar:

        def step(what: str) -> None:
            bar.update()
            bar.set_description(what)

        yield step


def check_classes(model: Model, table: SamplesTable) -> None:
    """See that a data set has the classes of a model, in the same order; raise ``DataError`` if it has not."""
    if tuple(table.class_names) != model.class_names:
        raise DataError(f"the model knows {', '.join(model.class_names)}; the data has {', '.join(table.class_names)}")


def note_look(verb: str, checkpoint: Path | None, table: SamplesTable, split: str, root: Path) -> None:
    """Note in the log of looks that a verb looks at the test split; nothing is noted of other splits or without runs.

    Args:
        verb: such as ``explain``.
        checkpoint: the file of the model, ``None`` for one of the hub, of which nothing is noted.
        table: of the data set.
        split: whose images are looked at.
        root: the folder of all runs.

    Raises:
        ConfigError: if the log cannot be written.
    """
    if split != "test" or checkpoint is None or checkpoint.suffix == ".onnx":
        return
    place, look = look_at(checkpoint, verb, (split, table.fingerprint(split), len(table.rows(split))), root)
    if place.is_dir():
        append_look(place, look)
