"""Choosing a detector by name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from fer_lightning.errors import ConfigError
from fer_lightning.inference.faces.blazeface import BlazeFace, Kind
from fer_lightning.inference.faces.found import Detector
from fer_lightning.inference.faces.haar import HaarCascade
from fer_lightning.inference.faces.model_files import FETCH, blazeface_file
from fer_lightning.inference.faces.views import Views
from fer_lightning.inference.faces.yunet import YuNet

__all__ = ["DETECTORS", "detector_name", "detectors_named", "make_detector"]

DETECTORS = ("auto", "blazeface", "blazeface_short", "haar")
"""Names of detectors: ``auto`` is BlazeFace full range where its file is, else the Haar cascade."""

_KINDS: dict[str, Kind] = {"blazeface": "full", "blazeface_short": "short"}


def make_detector(name: str = "auto", views: Views = "none", **options: Any) -> Detector:
    """Make a detector.

    Args:
        name: one of ``DETECTORS``, the ``.onnx`` file of YuNet, or the class path of a callable that takes
            ``options`` and makes a detector.
        views: where small faces are looked for, by BlazeFace.
        **options: of the detector, such as ``min_score`` and ``min_size``.

    Raises:
        ConfigError: for a name that is not known, or a detector whose file is not there.
    """
    if name.endswith(".onnx"):
        return YuNet(Path(name).expanduser(), **options)
    if "." in name:
        return _from_class_path(name, options)
    if name not in DETECTORS:
        raise ConfigError(
            f"unknown detector '{name}' (known: {', '.join(DETECTORS)}; the .onnx file of YuNet; a class path)"
        )
    kind = _KINDS.get("blazeface" if name == "auto" else name)
    model = blazeface_file(kind) if kind else None
    if kind and model:
        return BlazeFace(model, kind, views=views, **options)
    if kind and name != "auto":
        raise ConfigError(f"the detector '{name}' needs its file: {FETCH}")
    if name == "auto":
        _say_what_is_missing()
    return HaarCascade(**options)


def detectors_named(names: Sequence[str] = (), views: Views = "none") -> dict[str, Detector]:
    """Make several detectors, by name; all whose files are there where none is named.

    Args:
        names: as for ``make_detector``.
        views: likewise.

    Raises:
        ConfigError: as ``make_detector`` does.
    """
    if not names:
        found = [name for name, kind in _KINDS.items() if blazeface_file(kind) is not None]
        names = [*found, "haar"]
    made = [make_detector(name, views) for name in names]
    return {detector_name(each): each for each in made}


def detector_name(detector: Detector) -> str:
    """Return the name by which framings know a detector: its ``name``, or that of its class."""
    return str(getattr(detector, "name", type(detector).__name__))


@lru_cache(maxsize=1)
def _say_what_is_missing() -> None:
    print(
        f"faces are found by OpenCV's Haar cascade, which misses about a quarter of them; get a better one: {FETCH}",
        file=sys.stderr,
    )


def _from_class_path(path: str, options: dict[str, Any]) -> Detector:
    module, _, name = path.rpartition(".")
    sys.path.append(str(Path.cwd()))
    try:
        made: Detector = getattr(importlib.import_module(module), name)(**options)
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigError(f"the detector {path} cannot be made: {error}") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    return made
