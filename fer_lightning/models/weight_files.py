"""Reads files of weights, also those of other programs, without running anything that is pickled in them."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fer_lightning.errors import CheckpointError
from fer_lightning.runs.checkpoint import BEST, CHECKPOINTS, CONFIG_KEY, check_checkpoint, other_file

__all__ = ["read_weight_file", "recorded_backbone", "tensor_groups", "weight_file"]

_HF_FILES = ("model.safetensors", "pytorch_model.bin")
"""The file of weights in a folder of transformers or timm."""

_OLD_FORM = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of ``torch.save`` before torch 1.6 begin."""

_AGAIN = "copy or download it again"
_DEPTH = 3  # of dictionaries in each other that are searched for tensors
_MOST_CLASSES = 200  # classes in a file that are replaced by placeholders


class _Placeholder:
    """Stands for an object whose class is not plain data; it keeps the state and runs nothing of that class."""

    origin = ""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {})


class _EmptyDict:
    """Stands for a class derived from ``dict``: the unpickler fills exact dictionaries only."""

    def __new__(cls, *_: Any) -> Any:  # a dictionary on purpose
        return {}


def weight_file(path: Path) -> Path:
    """Return a file of weights, or the one in a folder of transformers or timm.

    Raises:
        CheckpointError: if there is none; the message says what to pass instead.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"weights: '{path}' is missing")
    for name in _HF_FILES:
        if (path / name).is_file():
            return path / name
        if (path / f"{name}.index.json").is_file():
            raise CheckpointError(
                f"weights: '{path}' has its weights in several files: use the network of that folder, --model.backbone "
                f"hf:{path}, or save them as one file: model.save_pretrained('{path}', max_shard_size='100GB')"
            )
    best = path / CHECKPOINTS / BEST
    inside = sorted(each for each in path.glob("*") if each.suffix in {".safetensors", ".pth", ".pt", ".ckpt", ".bin"})
    found = best if best.is_file() else inside[0] if inside else None
    cure = "give a file" if found is None else f"give a file in it: --model.weights {found}"
    raise CheckpointError(f"weights: '{path}' is a folder without {' or '.join(_HF_FILES)}; {cure}")


def read_weight_file(path: Path) -> Mapping[str, Any]:
    """Return what a file of weights holds: tensors by name, perhaps in further mappings, and other plain data.

    The content decides what the file is, not its suffix: safetensors, or the present or the old form of
    ``torch.save``, which is read with ``weights_only=True``. Objects in it that are no plain data, such as the options
    of the program that wrote it, become placeholders: their classes are not imported, and none of their code runs.

    Raises:
        CheckpointError: if it is damaged, something else, or a whole pickled network.
    """
    if reason := other_file(path):
        raise CheckpointError(f"weights: '{path}' {reason}")
    with path.open("rb") as file:
        head = file.read(16)
    if head[8:9] == b"{":
        content: Any = _safetensors(path)
    elif head[:2] == b"PK" or head.startswith(_OLD_FORM):
        content = _unpickled(path, zipped=head[:2] == b"PK")
    elif head[:1] == b"\x80":
        raise CheckpointError(
            f"weights: '{path}' is a pickle file and not one of torch.save; it is refused, because reading it may run "
            "code: save model.state_dict() with torch.save"
        )
    else:
        raise CheckpointError(
            f"weights: '{path}' is neither a safetensors file nor one of torch.save; files of ONNX, Keras or "
            "TensorFlow have to be converted first"
        )
    if isinstance(content, _Placeholder):
        raise CheckpointError(_refusal(path, content))
    if not isinstance(content, dict):
        raise CheckpointError(f"weights: '{path}' holds a {type(content).__name__} and no tensors by name")
    if not any(tensor_groups(content)):
        for key, value in content.items():
            if isinstance(value, _Placeholder) and "_modules" in vars(value):
                raise CheckpointError(_refusal(path, value, f"[{key!r}]"))
        raise CheckpointError(f"weights: '{path}' holds no tensors by name")
    return content


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"weights: '{path}' is a damaged or cut off safetensors file: {_AGAIN}") from error


def _unpickled(path: Path, zipped: bool) -> Any:
    """Return what ``torch.save`` has written."""
    if zipped:
        _check_zip(path)
    stand_ins = {name: _stand_in(name) for name in _classes_in(path)}
    while len(stand_ins) < _MOST_CLASSES:
        try:
            allowed: list[Any] = [(made, name) for name, made in stand_ins.items()]
            with torch.serialization.safe_globals(allowed), path.open("rb") as file:  # by its name torch would guess
                return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL (\S+) was not an allowed", str(error))
            name = "" if found is None else found[1] if "." in found[1] else f"builtins.{found[1]}"
            if not name or name in stand_ins:
                break
            stand_ins[name] = _stand_in(name)
        except Exception as error:  # torch, pickle and zip each have their own; all are about this file
            raise CheckpointError(f"weights: '{path}' is damaged or cut off: {_AGAIN}") from error
    raise CheckpointError(
        f"weights: '{path}' is damaged, or holds objects that may run code when they are read, beside or instead of "
        f"tensors: {_AGAIN}, or save model.state_dict() alone"
    )


def _check_zip(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"weights: '{path}' is cut off, its end is missing: {_AGAIN}")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if not any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(f"weights: '{path}' is a zip archive: unpack it, and give the file of weights in it")
    if any(name.endswith("constants.pkl") for name in names):
        raise CheckpointError(
            f"weights: '{path}' is a TorchScript program; save its weights alone: "
            f"python -c \"import torch; torch.save(torch.jit.load('{path}').state_dict(), 'weights.pth')\""
        )
    try:
        check_checkpoint(path)
    except CheckpointError as error:
        raise CheckpointError(f"weights: {error}") from error


def _classes_in(path: Path) -> list[str]:
    """Return the classes and functions that a file names beyond plain data, as far as that is known beforehand."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # the old form, or damaged: reading it will tell
        return []


def _stand_in(name: str) -> type:
    is_mapping = name.lower().endswith("dict")
    return type(name.rpartition(".")[2], (_EmptyDict if is_mapping else _Placeholder,), {"origin": name})


def _refusal(path: Path, found: _Placeholder, key: str = "") -> str:
    """Return why an object in place of weights is refused; it lies under a key, in brackets, or is the whole file."""
    if "_modules" in vars(found):
        return (
            f"weights: '{path}' is a whole pickled network ({found.origin}) and not its weights alone; it is refused, "
            "because reading it may run code. In the program that made it: "
            f"torch.save(torch.load('{path}', weights_only=False){key}.state_dict(), 'weights.pth')"
        )
    return (
        f"weights: '{path}' holds an object of {found.origin} and no tensors by name; it is refused, because reading "
        "it may run code: save model.state_dict() instead"
    )


def tensor_groups(
    content: Mapping[Any, Any], inside: str = "", depth: int = 0
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the mappings of names to tensors in a file: (keys that lead to it, joined by dots; its tensors by name)."""
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield inside, tensors
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, dict) and depth < _DEPTH:
            yield from tensor_groups(value, f"{inside}.{name}".lstrip("."), depth + 1)


def recorded_backbone(path: Path, content: Mapping[str, Any]) -> str:
    """Return the value of ``--model.backbone`` that belongs to a file, empty if nothing says it.

    Our checkpoints and those of timm's training script hold it; a folder of transformers has a ``config.json`` beside
    its ``model.safetensors``.
    """
    config = content.get(CONFIG_KEY)
    ours = config.get("model", {}).get("backbone") if isinstance(config, dict) else None
    for name in (ours, content.get("arch")):
        if isinstance(name, str):
            return name
    try:
        described = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    is_theirs = path.name == _HF_FILES[0] and isinstance(described, dict) and "model_type" in described
    return f"hf:{path.parent}" if is_theirs else ""
