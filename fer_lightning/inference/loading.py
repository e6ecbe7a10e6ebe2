"""Finding and loading a trained model: of a run, a folder, a file, one that comes with the package, or of the hub."""

from __future__ import annotations

import re
from pathlib import Path

from fer_lightning.errors import CheckpointError
from fer_lightning.inference.export.onnx_file import read_onnx
from fer_lightning.inference.model import Model
from fer_lightning.inference.model_folder import model_of_checkpoint, model_of_folder
from fer_lightning.runs.checkpoint import BEST, find_checkpoint, run_folder_of
from fer_lightning.runs.model_folder import CARD, CONFIG, TRAINED_ON, WEIGHTS, is_model_folder, released
from fer_lightning.text import first_line

__all__ = ["DEFAULT_MODEL", "checkpoint_of", "load_model"]

DEFAULT_MODEL = "fer2013-a"
"""The released model that is used where none is named."""

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def load_model(
    source: str | Path | None = None, root: Path = Path("runs"), name: str = "default", offline: bool = False
) -> Model:
    """Load a trained model.

    Args:
        source: a model folder, a run folder, a checkpoint file, an ONNX file of ours; else ``best`` or ``last`` of the
            newest run of ``name``, the name of a released model (see :func:`.released`), or ``OWNER/NAME`` on the
            Hugging Face hub, perhaps with ``@REVISION``; ``None`` for :data:`DEFAULT_MODEL`.
        root: the folder of all runs.
        name: of the experiment.
        offline: of the hub, take only what was fetched before.

    Raises:
        CheckpointError: if there is no such model or it is damaged.
        ConfigError: if its network cannot be built here.
    """
    ours = released()
    if source is None:
        if DEFAULT_MODEL not in ours:
            raise CheckpointError(
                "no released model comes with this installation: name one, such as --model RUN_FOLDER"
            )
        source = DEFAULT_MODEL
    path = Path(source).expanduser()
    if not path.exists() and str(source) in ours:
        path = ours[str(source)]
    elif not path.exists() and _HUB_NAME.fullmatch(str(source)) and not path.parent.exists():
        path = _of_hub(str(source), offline)
    if is_model_folder(path):
        return model_of_folder(path)
    if path.is_file() and path.suffix == ".onnx":
        return read_onnx(path)
    if path.is_file() and path.suffix in (".safetensors", ".pth", ".pt"):
        raise CheckpointError(f"{path} is a file of weights alone: give a model folder, a run folder or a .ckpt file")
    try:
        checkpoint = find_checkpoint(str(source), root, name, BEST)
    except CheckpointError as error:
        if path.exists() or not ours:
            raise
        raise CheckpointError(f"{error}; models that come with the package: {', '.join(ours)}") from error
    run = run_folder_of(checkpoint)
    return model_of_checkpoint(checkpoint, checkpoint.stem if run is None else f"{run.parent.name}/{run.name}")


def checkpoint_of(source: str | Path, root: Path = Path("runs")) -> Path | None:
    """Return the file with the weights of a model, ``None`` of one of the hub; the arguments are as in load_model."""
    try:
        return find_checkpoint(str(source), root, "default", BEST)
    except CheckpointError:
        return None


def _of_hub(name: str, offline: bool) -> Path:
    """Return the folder of a model of the hub, fetched unless it was before."""
    from huggingface_hub import snapshot_download  # takes a while to import

    repository, _, revision = name.partition("@")
    wanted = [WEIGHTS, CONFIG, CARD, TRAINED_ON]
    try:
        return Path(
            snapshot_download(repository, revision=revision or None, allow_patterns=wanted, local_files_only=offline)
        )
    except Exception as error:  # the hub's client and HTTP each have their own
        where = "among the models fetched before" if offline else "on the hub, or it cannot be reached"
        raise CheckpointError(f"there is no folder {name}, and no model {name} {where}: {first_line(error)}") from error
