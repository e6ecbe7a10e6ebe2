"""Finding and loading a trained model: of a run, a folder, a file, one that comes with the package, or of the hub."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fer_lightning.errors import CheckpointError
from fer_lightning.inference.export.onnx_file import read_onnx
from fer_lightning.inference.model import Model
from fer_lightning.inference.model_folder import framings_of, model_of_checkpoint, model_of_folder
from fer_lightning.models.ensemble import ENSEMBLE, write_ensemble
from fer_lightning.runs.checkpoint import (
    BEST,
    MEMBERS_KEY,
    find_checkpoint,
    named_models,
    read_checkpoint,
    run_folder_of,
)
from fer_lightning.runs.model_folder import CARD, CONFIG, TRAINED_ON, WEIGHTS, is_model_folder, released
from fer_lightning.runs.records import find_run
from fer_lightning.text import first_line

__all__ = ["DEFAULT_MODEL", "checkpoint_of", "load_model"]

DEFAULT_MODEL = "fer2013-a"
"""The released model that is used where none is named."""

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def load_model(
    source: str | Path | Sequence[str | Path] | None = None,
    root: Path = Path("runs"),
    name: str | None = None,
    offline: bool = False,
) -> Model:
    """Load a trained model, or several as one that averages their probabilities.

    Args:
        source: a model folder, a run folder, a checkpoint file, an ONNX file of ours; else the name of a run, ``best``
            or ``last`` of the newest run, the name of a released model (see ``released``), or ``OWNER/NAME`` on the
            Hugging Face hub, perhaps with ``@REVISION``; ``None`` for ``DEFAULT_MODEL``. Several are a list, or a
            text, see ``named_models``; faces are cut and scaled as the first one wants them.
        root: the folder of all runs.
        name: of the experiment, for ``best`` and ``last``; ``None`` for all.
        offline: of the hub, take only what was fetched before.

    Raises:
        CheckpointError: if there is no such model or it is damaged, or several have other classes than the first.
        ConfigError: if its network cannot be built here, or a folder of this name holds no run.
    """
    ours = released()
    if source is None:
        if DEFAULT_MODEL not in ours:
            raise CheckpointError(
                "no released model comes with this installation: name one, such as --model RUN_FOLDER"
            )
        source = DEFAULT_MODEL
    paths = [_place(each, root, name, offline) for each in named_models(source)]
    if len(paths) > 1:
        return _ensemble(paths)
    path = paths[0]
    if is_model_folder(path):
        return model_of_folder(path)
    if path.suffix == ".onnx":
        return read_onnx(path)
    run = run_folder_of(path)
    return model_of_checkpoint(path, path.stem if run is None else f"{run.parent.name}/{run.name}")


def _place(source: str, root: Path, name: str | None, offline: bool) -> Path:
    """Return the folder of a model, its checkpoint or its ONNX file; the arguments are as in load_model."""
    source = _run_of_name(source, root)
    ours, path = released(), Path(source).expanduser()
    if not path.exists() and source in ours:
        path = ours[source]
    elif not path.exists() and _HUB_NAME.fullmatch(source) and not path.parent.exists():
        path = _of_hub(source, offline)
    if is_model_folder(path) or (path.is_file() and path.suffix == ".onnx"):
        return path
    if path.is_file() and path.suffix in (".safetensors", ".pth", ".pt"):
        raise CheckpointError(f"{path} is a file of weights alone: give a model folder, a run folder or a .ckpt file")
    try:
        return find_checkpoint(source, root, name, BEST)
    except CheckpointError as error:
        if path.exists() or not ours:
            raise
        raise CheckpointError(f"{error}; models that come with the package: {', '.join(ours)}") from error


def _run_of_name(source: str, root: Path) -> str:
    """Return the folder of the newest run where its name is given, else a model as it was given."""
    if Path(source).expanduser().exists() or source in released() or not (root / source).is_dir():
        return source
    return str(find_run(source, root))


def _ensemble(paths: Sequence[Path]) -> Model:
    """Return the model that averages the probabilities of several; how it cuts faces is known if one of them tells."""
    files = [path / WEIGHTS if is_model_folder(path) else path for path in paths]
    if onnx := [file for file in files if file.suffix == ".onnx"]:
        raise CheckpointError(f"{onnx[0]} cannot be averaged with others: give the model folder that it lies in")
    with tempfile.TemporaryDirectory(prefix="fer_ensemble_") as folder:
        file = write_ensemble(files, Path(folder) / f"{ENSEMBLE}.ckpt")
        model = model_of_checkpoint(file, f"{ENSEMBLE} of {len(files)}")
        training = {**model.card.training, "members": read_checkpoint(file)[MEMBERS_KEY]}
    model.card = replace(model.card, training=training)
    model.framings = next((found for each in files if (found := framings_of(each))), {})
    return model


def checkpoint_of(source: str | Path, root: Path = Path("runs")) -> Path | None:
    """Return the file with the weights of a model, ``None`` of one of the hub; the arguments are as in ``load_model``.

    Raises:
        ConfigError: if a folder of this name holds no run.
    """
    try:
        return find_checkpoint(_run_of_name(str(source), root), root, None, BEST)
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
