"""Which checkpoint a command line names, read before it is parsed, and the configuration that lies in it."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_only

from fer_lightning.cli.known_options import DEFAULT_ROOT, EXAMPLES, OPTIMIZER
from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.runs.checkpoint import CONFIG_KEY, SAVED_KEY, TASK_KEY, read_checkpoint
from fer_lightning.runs.model_folder import is_in_model_folder
from fer_lightning.types import Preprocessing

__all__ = [
    "REPLACED",
    "as_file",
    "check_class_arguments",
    "newest_exact",
    "peek",
    "preprocessing_changes",
    "stored_config",
]

REPLACED: dict[str, Any] = {"pretrained": False, "weights": None}
"""Options of the model that a checkpoint takes the place of: it has all weights."""
_ROOT = "trainer.default_root_dir"
_EVALUATION_SECTIONS = ("model", "data", "seed_everything", "name")


def peek(args: Sequence[str]) -> tuple[str | list[str] | None, str, str]:
    """Read checkpoint, name and root folder off a command line and its config files, before it is parsed.

    The trainer's part may be a file of its own, as in ``--trainer FILE`` or ``trainer: FILE`` in a config file.

    Returns:
        ``ckpt_path`` or ``None``, ``name``, and ``trainer.default_root_dir`` with their defaults.
    """
    found: dict[str, Any] = {"ckpt_path": None, "name": "default", _ROOT: DEFAULT_ROOT}
    pairs = iter(args)
    for argument in pairs:
        flag, equals, value = argument.partition("=")
        key = "config" if flag == "-c" else flag.removeprefix("--")
        if key not in (*found, "config", "trainer"):
            continue
        value = value if equals else next(pairs, "")
        if key == "config":
            found |= _peek_file(Path(value))
        elif key == "trainer":
            found |= _peek_trainer(value, Path())
        else:
            found[key] = value
    return found["ckpt_path"], found["name"], found[_ROOT]


def _values_in(path: Path) -> dict[str, Any]:
    """Return what a YAML file holds, nothing if it is not there or wrong: the parser will say so."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        return {}
    return values if isinstance(values, dict) else {}


def _peek_trainer(given: object, folder: Path) -> dict[str, Any]:
    """Read the root folder off the trainer's part: its values, or the file that holds them, beside the config file."""
    values = _values_in(folder / given) if isinstance(given, str) else given
    root = values.get("default_root_dir") if isinstance(values, dict) else None
    return {} if root is None else {_ROOT: root}


def _peek_file(path: Path) -> dict[str, Any]:
    values = _values_in(path)
    if "config" in values:
        raise ConfigError(f"{path}: a config file cannot name others with 'config'; pass several --config instead")
    for key in map(str, values):
        part = key.partition(".")[0]
        if key != part and part in values:  # the parser would take the dotted key for the whole part
            raise ConfigError(
                f"{path}: '{key}' beside '{part}' would drop all else of it; write it below '{part}', or pass --{key}"
            )
    found = {key: values[key] for key in ("ckpt_path", "name", _ROOT) if values.get(key) is not None}
    return {**found, **_peek_trainer(values.get("trainer"), path.parent)}


def stored_config(checkpoint: Path, verb: str) -> dict[str, Any]:
    """Return the configuration in a checkpoint, as far as it applies to a verb; empty if it has none.

    An evaluation gets the size, channels, mean, std and interpolation that the network was trained with, by value: they
    stay while other data are named. It computes in float32, whatever the training did. Training goes on with the
    interpolation of older versions where it began with it.

    Raises:
        CheckpointError: if the file is damaged, holds more than plain data and tensors, or is of another program; for
            training, if it is a model folder.
    """
    if verb == "fit" and is_in_model_folder(checkpoint):
        folder = checkpoint.parent
        raise CheckpointError(f"{folder} is a model without the state of its training: --model.weights {folder}")
    loaded = read_checkpoint(checkpoint)
    if not {TASK_KEY, CONFIG_KEY} & loaded.keys():
        raise CheckpointError(
            f"{checkpoint} is no checkpoint of fer, so that its classes and images are not known; a training starts "
            f"from its weights with --model.weights {checkpoint}"
        )
    config = loaded.get(CONFIG_KEY)
    if not isinstance(config, dict):
        return {}
    given = config.get("data", {}).get("init_args") or {}
    for key, value in loaded.get(TASK_KEY, {}).get("preprocessing", {}).items():
        if (verb != "fit" and key in given) or (key == "interpolation" and "image_size" in given):
            given[key] = value
    config = {**config, "model": {**config["model"], **REPLACED}}
    if verb == "fit":
        config.pop("allow_changed_data", None)  # it applies to one start only
        return config
    kept = {key: config[key] for key in _EVALUATION_SECTIONS if key in config}
    return {**kept, "trainer": {"precision": "32-true"}}


def check_class_arguments(args: Sequence[str], stored: dict[str, Any]) -> None:
    """Refuse arguments of an optimizer or schedule that neither the command line nor the checkpoint names.

    Args:
        args: a command line that goes on from a checkpoint.
        stored: the checkpoint's configuration.

    Raises:
        ConfigError: with the options that name a class and do what was meant.
    """
    flags = [argument.partition("=")[0].removeprefix("--") for argument in args]
    for option, name in EXAMPLES.items():
        held = stored.get("model", {}).get(option.partition(".")[2])
        start = f"{option}."
        given = {
            flag.removeprefix(start).removeprefix("init_args."): argument.partition("=")[2] or following
            for flag, argument, following in zip(flags, args, [*args[1:], ""], strict=True)
            if flag.startswith(start)
        }
        if isinstance(held, dict) or not given or {option, "model", "config", "-c"} & set(flags):
            continue
        options = {**(OPTIMIZER if option == "model.optimizer" else {}), **given}
        pasted = " ".join(f"--{option}.{each} {shlex.quote(value)}" for each, value in options.items())
        raise ConfigError(
            f"--{start}{next(iter(given))} is an argument of a class, and the run has none there that takes it; did "
            f"you mean --{option} {name} {pasted}?"
        )


def preprocessing_changes(stored: dict[str, Any], used: dict[str, Any]) -> list[str]:
    """Return what to print of images that are prepared otherwise than those that the network was trained with.

    Args:
        stored: from ``stored_config``, for an evaluation.
        used: the configuration of the run.
    """
    before, now = (config.get("data", {}).get("init_args") or {} for config in (stored, used))
    names = [name for name in Preprocessing.__annotations__ if name in before and name in now]
    return [
        f"data.{name} {_own(now[name])}, the model was trained at {_own(before[name])}"
        for name in names
        if now[name] != before[name]
    ]


def _own(value: Any) -> str:
    return "of the data set itself" if value is None else str(value)


def newest_exact(damaged: Path, why: Exception) -> Path:
    """Return the newest whole checkpoint beside a damaged one from which a run goes on exactly, and say so.

    Raises:
        CheckpointError: if there is none.
    """
    found: list[tuple[float, int, Path]] = []
    for path in sorted(damaged.parent.glob("*.ckpt")):
        if path == damaged:
            continue
        try:
            checkpoint = read_checkpoint(path)
        except CheckpointError:
            continue
        worth = checkpoint.get(SAVED_KEY, {})
        if worth.get("exact", False) is True:
            found.append((worth.get("written", 0.0), checkpoint.get("global_step", 0), path))
    if not found:
        raise CheckpointError(f"{why}; there is no other whole and exact checkpoint in {damaged.parent}") from why
    _, step, path = max(found)
    message = f"fer: {why}; going on from {path}: what was trained after its {step} steps is lost and done again"
    rank_zero_only(print)(message, file=sys.stderr)
    return path


@contextmanager
def as_file(values: dict[str, Any]) -> Iterator[str]:
    """Write values into a temporary config file and give its path."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(values, file)
        file.flush()
        yield file.name
