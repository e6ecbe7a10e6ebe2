"""Transforms of single pictures on the CPU, by albumentations, which is known to this file alone.

albumentations draws its random numbers from generators inside the pipeline: loader processes repeat each other's,
epochs repeat each other, and ``seed_everything`` does not reach them. Here every picture comes with its draw's key
(see ``randomness``), and all generators of the pipeline start anew from that key alone.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import inspect
import os
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from jsonargparse import ArgumentError, ArgumentParser
from numpy.typing import NDArray

from fer_lightning.errors import ConfigError

__all__ = ["PRESETS", "SampleTransform", "named_transform", "quiet_threads"]

# Or albumentations asks a server for its newest version when imported, which unpickling does too.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

_REFUSED = dict.fromkeys(
    ("Normalize", "ToFloat", "FromFloat", "ToTensorV2", "ToTensor3D"),
    "pictures stay uint8 here; scaling, normalisation and tensors are made on the device, from data.mean and data.std",
) | {"ReplayCompose": "a draw is repeated by its key; take Compose"}
_ABSTRACT = {"BasicTransform", "DualTransform", "ImageOnlyTransform", "Transform3D", "BaseCompose"}
_REPLICATE = cv2.BORDER_REPLICATE  # what lies outside is the edge's colour, as in BatchAugment: no black wedges


def _spec(name: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": name, "init_args": init_args}


# The pictures arrive in the size that the data module asks for, so no preset resizes. Coarse dropout of the thesis
# presets and what else its report leaves open (black outside a rotated picture, 1 or 2 holes of a tenth to a fifth of
# the side, blur's sigma) are the defaults of albumentations 2.0.8.
_THESIS_INITIAL = (
    _spec("Rotate", limit=45, p=0.6),
    _spec("HorizontalFlip", p=0.6),
    _spec("CoarseDropout", p=0.3),
    _spec("RandomBrightnessContrast"),
)
_THESIS_ENHANCED = (
    _spec("Rotate", limit=20, p=0.5),
    _spec("HorizontalFlip", p=0.5),
    # Ranges are written out: a single number is a fixed angle or shift in albumentations 2, not a range around 0.
    _spec("Affine", scale=(0.95, 1.05), translate_percent=(-0.05, 0.05), rotate=(-10, 10), p=0.3),
    _spec("ColorJitter", brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1, p=0.3),
    _spec("CoarseDropout", p=0.2),
    _spec("RandomBrightnessContrast", p=0.3),
    _spec("GaussianBlur", blur_limit=(3, 7), p=0.1),
)
_LIGHT = (
    _spec("HorizontalFlip", p=0.5),
    _spec("Rotate", limit=10, border_mode=_REPLICATE, p=0.5),  # heads in photographs are rarely tilted further
    _spec("RandomBrightnessContrast", brightness_limit=0.2, contrast_limit=0.2, p=0.3),
)
_STRONG = (
    _spec("HorizontalFlip", p=0.5),
    _spec(
        "Affine",
        rotate=(-20, 20),  # beyond 20 degrees a face crop loses the mouth or the brows
        scale=(0.85, 1.15),  # how much face detectors differ in the margin they leave
        keep_ratio=True,  # one factor for both axes: a stretched face is another face
        translate_percent=(-0.1, 0.1),  # a tenth of the side, the usual error of a detector's box
        border_mode=_REPLICATE,
        p=0.8,
    ),
    _spec("RandomBrightnessContrast", brightness_limit=0.2, contrast_limit=0.2, p=0.5),
    _spec(
        "OneOf",
        transforms=[
            _spec("RandomGamma", gamma_limit=(70, 140), p=1.0),  # exponent .7 to 1.4: under- and overexposed
            _spec("CLAHE", clip_limit=(1.0, 3.0), tile_grid_size=(4, 4), p=1.0),  # tiles of 12 pixels at 48x48
        ],
        p=0.3,
    ),
    _spec(
        "OneOf",
        transforms=[
            _spec(
                "GaussianBlur", blur_limit=(3, 5), sigma_limit=(0.3, 1.2), p=1.0
            ),  # soft focus, features stay visible
            _spec("GaussNoise", std_range=(0.02, 0.08), p=1.0),  # 5 to 20 of 255: a camera in poor light
        ],
        p=0.3,
    ),
    # Up to three patches of a tenth to a quarter of the side: a hand, a lock of hair, glasses (DeVries and Taylor 2017,
    # arXiv:1708.04552, use one of half the side on CIFAR-10; that would hide a whole mouth).
    _spec("CoarseDropout", num_holes_range=(1, 3), hole_height_range=(0.1, 0.25), hole_width_range=(0.1, 0.25), p=0.3),
)

PRESETS: Mapping[str, tuple[dict[str, Any], ...] | None] = MappingProxyType(
    {"none": None, "light": _LIGHT, "strong": _STRONG}
    | {"thesis_initial": _THESIS_INITIAL, "thesis_enhanced": _THESIS_ENHANCED}
)
"""The pipelines that have a name: the transforms of each, in their order; ``None`` leaves pictures alone."""


class SampleTransform:
    """Random change of one picture at a time, a pure function of the picture and of a key.

    The result of a key does not depend on earlier pictures, on the process or on how it was started. Size, channels and
    uint8 are kept.

    Args:
        transforms: what is done, in this order. Each is ``{class_path: ..., init_args: {...}}``, where ``class_path``
            is a name in albumentations (``HorizontalFlip``, also ``OneOf``, ``SomeOf``, ``Sequential`` with
            ``transforms`` of their own) or the path of an own class, or an object of such a class, which is copied.

    Attributes:
        pipeline: the ``albumentations.Compose`` that is run.

    Raises:
        ConfigError: if a class is unknown, an argument is unknown or wrong, or a transform has no place here.
    """

    # A bare dict: jsonargparse would itself build what a dict[str, Any] holds, with warnings for unknown arguments.
    def __init__(self, transforms: list[dict]) -> None:  # type: ignore[type-arg]
        quiet_threads()
        if not isinstance(transforms, Sequence) or isinstance(transforms, str) or not transforms:
            raise ConfigError(
                "transforms must be a list of {class_path: ..., init_args: ...} that is not empty, "
                f"not {transforms!r}; the preset 'none' changes nothing"
            )
        built = [_build(item, f"transforms[{place}]") for place, item in enumerate(transforms)]
        self.pipeline = _library().Compose(built)
        self._numpy = np.random.Generator(np.random.PCG64(0))
        self._python = random.Random(0)
        self._state: Any = self._numpy.bit_generator.state
        self.pipeline.set_random_state(self._numpy, self._python)  # one pair of generators for all, nested ones too

    def __call__(self, picture: NDArray[np.uint8], key: int) -> NDArray[np.uint8]:
        """Return the changed picture, uint8 ``(H, W, C)``; it may be the one given, which is never written to.

        The picture has 1 or 3 channels and is C-contiguous; all random numbers come from the key, int64 of any sign.

        Raises:
            ConfigError: if the pipeline has changed size, channels or type, which ``check`` finds beforehand.
        """
        self._restart(key)
        changed: NDArray[np.uint8] = self.pipeline(image=picture)["image"]
        if changed.shape != picture.shape or changed.dtype != np.uint8:
            raise ConfigError(
                f"transforms made {changed.dtype} {changed.shape} of a picture uint8 {picture.shape} (key {key}); "
                "size, channels and type must stay: let a crop end in its input's size, or resize with p=1"
            )
        return changed

    def __repr__(self) -> str:
        return f"SampleTransform({list(self.pipeline.transforms)!r})"

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        quiet_threads()  # in a loader process that was spawned

    def check(self, channels: int, size: int) -> None:
        """Try every transform on a made-up picture of some channels and side, whatever its probability.

        Raises:
            ConfigError: naming the transform that cannot do such pictures or changes their size, channels or type.
        """
        ramp = np.add.outer(np.arange(size), 2 * np.arange(size))[:, :, None] + 40 * np.arange(channels)
        picture = np.ascontiguousarray(ramp % 256, np.uint8)
        resizing: list[str] = []
        self._restart(0)
        last = picture
        for place, transform in enumerate(self.pipeline.transforms):
            last = _probe(transform, last, f"transforms[{place}]", resizing)
        if last.shape != picture.shape:
            raise ConfigError(
                f"{resizing[-1]} makes pictures of {last.shape[1]}x{last.shape[0]}, not {size}x{size}; "
                f"size must stay: end with Resize(height={size}, width={size})"
            )
        for key in range(32 if resizing else 0):  # a resize that is left to chance
            self._restart(key)
            shape = self.pipeline(image=picture)["image"].shape
            if shape != picture.shape:
                raise ConfigError(
                    f"{', '.join(dict.fromkeys(resizing))} make pictures of {shape[1]}x{shape[0]}, not {size}x{size}, "
                    "when chance leaves one out; size must stay: give each p=1"
                )

    def _restart(self, key: int) -> None:
        """Start all generators from the key: the Python one by seeding it, numpy's from that one's first 128 bits."""
        self._python.seed(key % 2**64)  # seeding takes absolute values, so -1 and 1 would be the same
        self._state["state"]["state"] = self._python.getrandbits(128)
        self._numpy.bit_generator.state = self._state
        cv2.setRNGSeed(self._python.getrandbits(31))  # OpenCV's own, for transforms that fall back on it


def named_transform(name: str) -> SampleTransform | None:
    """Return the preset of a name, ``None`` for ``none``; raise a ConfigError if there is no such preset."""
    if name not in PRESETS:
        near = _nearest(name, PRESETS)
        raise ConfigError(f"there is no transform preset '{name}'{near}; there are {', '.join(PRESETS)}")
    transforms = PRESETS[name]
    return None if transforms is None else SampleTransform(list(transforms))


def quiet_threads(worker: int = 0) -> None:
    """Keep OpenCV in one thread and off the graphics card: loader processes are the parallelism."""
    cv2.setNumThreads(0)
    cv2.ocl.setUseOpenCL(False)


@cache
def _library() -> Any:
    """Import albumentations when the first pipeline is built: it takes seconds, and most runs need none."""
    return importlib.import_module("albumentations")


@cache
def _known_names() -> tuple[str, ...]:
    library = _library()
    return tuple(name for name in dir(library) if name not in _ABSTRACT and _is_transform_class(getattr(library, name)))


def _is_transform_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, (_library().BasicTransform, _library().BaseCompose))


def _build(item: Any, where: str) -> Any:
    """Turn a specification, or an object that is one already, into a transform of albumentations."""
    if isinstance(item, (_library().BasicTransform, _library().BaseCompose)):
        for transform, place in _walk(item, where):
            _refuse(type(transform), place)
            unknown = list(getattr(transform, "invalid_args", ()))
            _refuse_unknown(type(transform), unknown, f"{place} ({type(transform).__name__})")
        return copy.deepcopy(item)  # its generators are replaced, and another pipeline may hold it too
    if not isinstance(item, Mapping) or not isinstance(item.get("class_path"), str):
        raise ConfigError(f"{where} must be {{class_path: ..., init_args: {{...}}}}, not {item!r}")
    if set(item) - {"class_path", "init_args"}:
        others = ", ".join(sorted(set(item) - {"class_path", "init_args"}))
        raise ConfigError(f"{where} takes class_path and init_args, not {others}; arguments stand in init_args")
    kind = _transform_class(item["class_path"], where)
    _refuse(kind, where)
    where = f"{where} ({kind.__name__})"
    given = item.get("init_args")
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"{where}: init_args must be names and values, not {given!r}")
    arguments = {} if given is None else {name: _nested(name, value, where) for name, value in given.items()}
    known = inspect.signature(kind).parameters
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values()):
        _refuse_unknown(kind, [name for name in arguments if name not in known], where)
    return _construct(kind, arguments, where)


def _nested(name: str, value: Any, where: str) -> Any:
    """Build the transforms among the arguments of a group."""
    if name == "transforms" and isinstance(value, Sequence) and not isinstance(value, str):
        return [_build(item, f"{where}.transforms[{place}]") for place, item in enumerate(value)]
    if isinstance(value, Mapping) and "class_path" in value:
        return _build(value, f"{where}.{name}")
    return value


def _construct(kind: type, arguments: dict[str, Any], where: str) -> Any:
    try:
        with warnings.catch_warnings():
            if issubclass(kind, _library().BaseCompose):
                warnings.simplefilter("error", UserWarning)  # an ``n`` that is too large, one transform for a list
            transform = kind(**arguments, **_strictness(kind))
    except Exception as error:  # whatever a constructor of somebody else's raises
        raise ConfigError(f"{where}: {_one_line(error)}") from error
    if isinstance(transform, _library().BaseCompose):  # groups check nothing themselves
        if not len(transform):
            raise ConfigError(f"{where}: transforms is empty")
        if not isinstance(transform.p, (int, float)) or not 0 <= transform.p <= 1:
            raise ConfigError(f"{where}: p must be in 0..1, not {transform.p!r}")
    return transform


def _strictness(kind: type) -> dict[str, bool]:
    """Make albumentations raise where it would warn and take its defaults; own classes need not know the argument."""
    owner = next(base for base in kind.__mro__ if "__init__" in vars(base))
    return {"strict": True} if "InitSchema" in vars(owner) else {}


def _one_line(error: Exception) -> str:
    """Say what pydantic found wrong, or the first line of any other message."""
    found = getattr(error.__cause__, "errors", None)
    if found is None:
        lines = str(error).splitlines()
        return lines[0] if lines and not isinstance(error, KeyError) else f"{type(error).__name__} {error}"
    said = []
    for fault in found():
        argument = f"{fault['loc'][0]}: " if fault["loc"] else ""
        got = f", not {fault['input']!r}" if argument and fault["type"] != "missing" else ""
        said.append(f"{argument}{fault['msg'].removeprefix('Value error, ')}{got}")
    return "; ".join(said)


def _refuse(kind: type, where: str) -> None:
    for name, reason in _REFUSED.items():
        if issubclass(kind, getattr(_library(), name)):
            raise ConfigError(f"{where}: {name} has no place here: {reason}")


def _refuse_unknown(kind: type, unknown: list[str], where: str) -> None:
    if unknown:
        known = list(inspect.signature(kind).parameters)
        near = _nearest(unknown[0], known)
        raise ConfigError(f"{where}: there is no argument '{unknown[0]}'{near}; it takes {', '.join(known)}")


def _nearest(name: str, names: Iterator[str] | Sequence[str] | Mapping[str, Any]) -> str:
    by_lower = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f" (did you mean '{by_lower[near[0]]}'?)" if near else ""


def _transform_class(path: str, where: str) -> type:
    name = path.removeprefix("albumentations.")
    found = _imported(path, where) if "." in name else getattr(_library(), name, None)
    if found is None:
        near = _nearest(name, _known_names())
        raise ConfigError(f"{where}: albumentations has no transform '{name}'{near}; own classes need their whole path")
    if not _is_transform_class(found) or found.__name__ in _ABSTRACT:
        raise ConfigError(f"{where}: '{path}' is not a transform; derive it from albumentations.ImageOnlyTransform")
    kind: type = found
    return kind


def _imported(path: str, where: str) -> Any:
    """Import a class by its path, if the program's list of allowed imports lets it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--class_path", type=type[object])
    try:
        return parser.parse_object({"class_path": path})["class_path"]
    except (ArgumentError, ImportError, AttributeError) as error:
        near = _nearest(path.rpartition(".")[2], _known_names()) if path.startswith("albumentations.") else ""
        raise ConfigError(f"{where}: cannot import '{path}'{near}: {str(error).splitlines()[-1].strip()}") from error


def _walk(transform: Any, where: str) -> Iterator[tuple[Any, str]]:
    """Give a transform and, of a group, all that it holds, each with its place."""
    yield transform, where
    for place, child in enumerate(getattr(transform, "transforms", ())):
        yield from _walk(child, f"{where}.transforms[{place}]")


def _probe(transform: Any, picture: NDArray[np.uint8], where: str, resizing: list[str]) -> NDArray[np.uint8]:
    """Run a transform for certain, each part of a group on its own, and return the picture ``(H, W, C)`` that it makes.

    ``where`` is its place in the pipeline; ``resizing`` gathers the names of those that change the size.
    """
    library = _library()
    if isinstance(transform, (library.Compose, library.Sequential)):
        for place, child in enumerate(transform.transforms):
            picture = _probe(child, picture, f"{where}.transforms[{place}]", resizing)
        return picture
    if isinstance(transform, (library.OneOf, library.SomeOf, library.OneOrOther)):
        parts = enumerate(transform.transforms)
        made = [_probe(child, picture, f"{where}.transforms[{place}]", resizing) for place, child in parts]
        return next((one for one in made if one.shape != picture.shape), picture)
    name = f"{where} ({type(transform).__name__})"
    kind = f"uint8 pictures of {picture.shape[1]}x{picture.shape[0]} with {picture.shape[2]} channel(s)"
    try:
        changed: NDArray[np.uint8] = transform(image=picture, force_apply=True)["image"]
    except Exception as error:  # whatever a transform of somebody else's raises
        raise ConfigError(f"{name} cannot do {kind}: {_one_line(error)}") from error
    if not isinstance(changed, np.ndarray) or changed.dtype != np.uint8 or changed.shape[2:] != picture.shape[2:]:
        got = f"{getattr(changed, 'dtype', type(changed).__name__)} {tuple(getattr(changed, 'shape', ()))}"
        raise ConfigError(f"{name} makes {got} of {kind}; channels and type must stay")
    if changed.shape != picture.shape:
        resizing.append(name)
    return changed
