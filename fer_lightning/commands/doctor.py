"""``fer doctor``: checks an installation and says how to repair what is wrong."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement

__all__ = ["Finding", "doctor"]

LOW_DISK = 2 * 1024**3


@dataclass(frozen=True)
class Finding:
    """Result of a check: what was found and, if it is not ``ok``, what to do; ``None`` marks plain information."""

    ok: bool | None
    text: str


def doctor() -> int:
    """Say what is installed, what is wrong with it, and what this machine is good for.

    Looks at Python, packages and extras, OpenCV, the default model and face detector, processors, the time of a
    training step, the disk and folders.

    Returns:
        0 if all is well, 1 if something is wrong.
    """
    findings = [finding for check in CHECKS for finding in check()]
    marks = {True: "ok   ", False: "WRONG", None: "     "}
    for finding in findings:
        print(f"{marks[finding.ok]} {finding.text}")
    wrong = sum(finding.ok is False for finding in findings)
    print("nothing is wrong" if not wrong else f"{wrong} thing{'s are' if wrong > 1 else ' is'} wrong")
    return int(wrong > 0)


def check_python() -> Iterator[Finding]:
    """Check the version of Python."""
    supported = (3, 10) <= sys.version_info[:2] <= (3, 13)
    hint = "" if supported else "; fer_lightning supports 3.10 to 3.13"
    yield Finding(supported, f"Python {platform.python_version()} on {platform.platform()}{hint}")


def check_packages() -> Iterator[Finding]:
    """Check that every declared dependency is installed in a version within its bounds."""
    try:
        declared = requires("fer_lightning") or []
    except PackageNotFoundError:
        yield Finding(False, "fer_lightning itself is not installed: run `make install` or `pip install -e .`")
        return
    for line in declared:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield Finding(False, f"{requirement.name} is missing: pip install '{requirement}'")
            continue
        if found in requirement.specifier:
            yield Finding(True, f"{requirement.name} {found}")
        else:
            yield Finding(
                False, f"{requirement.name} {found} is outside {requirement.specifier}: pip install '{requirement}'"
            )


def check_extras() -> Iterator[Finding]:
    """Report which extras are installed, and how to install the others."""
    try:
        found, declared = metadata("fer_lightning"), requires("fer_lightning") or []
    except PackageNotFoundError:
        return  # check_packages reports it
    lacking: dict[str, list[str]] = {extra: [] for extra in found.get_all("Provides-Extra") or [] if extra != "all"}
    for line in declared:
        requirement = Requirement(line)
        for extra, missing in lacking.items():
            if requirement.marker is not None and requirement.marker.evaluate({"extra": extra}):
                missing += [] if _is_installed(requirement) else [requirement.name]
    there = [extra for extra, missing in lacking.items() if not missing]
    yield Finding(None, f"extras that are installed: {', '.join(there) or 'none'}")
    for extra, missing in lacking.items():
        if missing:
            yield Finding(
                None, f"extra {extra} lacks {', '.join(dict.fromkeys(missing))}: pip install 'fer_lightning[{extra}]'"
            )


def _is_installed(requirement: Requirement) -> bool:
    try:
        return version(requirement.name) in requirement.specifier
    except PackageNotFoundError:
        return False


def check_imports() -> Iterator[Finding]:
    """Check that the packages that often break each other can be imported."""
    for name in ("torch", "torchvision", "cv2", "albumentations", "timm", "lightning"):
        try:
            importlib.import_module(name)
        except Exception as error:  # any error of theirs is a finding
            pair = "; torch and torchvision must be a pair" if name == "torchvision" else ""
            yield Finding(False, f"import {name} fails: {type(error).__name__}: {error}{pair}")


def check_opencv() -> Iterator[Finding]:
    """Check that exactly one OpenCV distribution is installed: all of them write into the same folder."""
    names = {str(found.metadata["Name"]).lower(): found.version for found in distributions() if found.metadata["Name"]}
    opencv = {name: number for name, number in names.items() if name.startswith("opencv-")}
    listed = ", ".join(f"{name} {number}" for name, number in sorted(opencv.items())) or "none"
    one = len(opencv) == 1
    yield Finding(
        one,
        f"OpenCV distributions: {listed}"
        + ("" if one else "; uninstall all of them, then pip install 'opencv-python-headless<5'"),
    )
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError:
        return  # check_imports reports it
    haar = Path(getattr(getattr(cv2, "data", None), "haarcascades", "")) / "haarcascade_frontalface_default.xml"
    yield Finding(
        haar.is_file() and hasattr(cv2, "CascadeClassifier"),
        "OpenCV has the Haar cascades"
        if haar.is_file()
        else "OpenCV has no Haar cascades: pip install --force-reinstall 'opencv-python-headless<5'",
    )
    if "albumentationsx" in names:
        yield Finding(False, "albumentationsx overwrites albumentations: pip uninstall albumentationsx, then reinstall")


def check_compute() -> Iterator[Finding]:
    """Report the processors, and whether the CPU has bfloat16 arithmetic."""
    try:
        torch = importlib.import_module("torch")
        precision = importlib.import_module("fer_lightning.models.precision")
    except ImportError:
        return
    cpu = precision.has_bfloat16(torch.device("cpu"))
    yield Finding(None, f"CPU: {os.cpu_count()} cores, bfloat16 arithmetic: {'yes' if cpu else 'no'}")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            yield Finding(None, f"GPU {number}: {torch.cuda.get_device_name(number)}")
    else:
        yield Finding(None, "GPU: none that torch can use")


def check_models() -> Iterator[Finding]:
    """Report the model and the face detector that are used where none is named."""
    models = importlib.import_module("fer_lightning.runs.model_folder").released()
    default = importlib.import_module("fer_lightning.inference.loading").DEFAULT_MODEL
    files = importlib.import_module("fer_lightning.inference.faces.model_files")
    hint = "" if default in models else " is not here: name one, such as fer recognize photo.jpg --model RUN"
    yield Finding(None, f"model where none is named: {default}{hint}")
    has_file = files.blazeface_file("full") is not None
    missing = f"the Haar cascade, which misses about a quarter of the faces; a better one: {files.FETCH}"
    yield Finding(None, f"face detector where none is named: {'BlazeFace' if has_file else missing}")


def check_speed() -> Iterator[Finding]:
    """Measure training steps of a small network, and say how long an epoch of FER2013 takes here."""
    try:
        torch = importlib.import_module("torch")
        classifier = importlib.import_module("fer_lightning.models.classifier")
        heads = importlib.import_module("fer_lightning.models.heads")
        wait_for = importlib.import_module("fer_lightning.models.precision").wait_for
    except ImportError:
        return  # check_imports reports it
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = classifier.build_classifier(_MEASURED, heads.LinearHead, 7, 1, 48).to(device).train()
    images, labels = torch.rand(_BATCH, 1, 48, 48, device=device), torch.zeros(_BATCH, dtype=torch.int64, device=device)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        network.zero_grad()
        wait_for(device)
        times.append(time.perf_counter() - start)
    seconds = min(times[1:]) / _BATCH * _IMAGES
    good = next(words for most, words in _GOOD_FOR if seconds < most)
    yield Finding(
        None, f"an epoch of FER2013 ({_IMAGES:,} images) with {_MEASURED} takes about {seconds:,.0f} s: {good}"
    )


_MEASURED, _BATCH, _IMAGES = "fer_b_fast", 64, 28709
_GOOD_FOR = (
    (30.0, "good for networks as large as ViT-B at 224x224 pixels, and for searches with fer tune"),
    (
        300.0,
        "good for videos and for small networks at 48x48 pixels (fer_a, fer_b); take a GPU for larger ones",
    ),
    (float("inf"), "good for recognizing pictures and for fer fit --config quickstart; train on a faster machine"),
)


def check_folders() -> Iterator[Finding]:
    """Check the free disk space, and that the cache folder can be written."""
    cache = importlib.import_module("fer_lightning.data.table.cache")
    free = shutil.disk_usage(Path.cwd()).free
    yield Finding(free > LOW_DISK, f"{free / 1024**3:.1f} GiB free in the working directory")
    folder = cache.default_cache_dir()
    if folder is None:
        yield Finding(False, "there is no home folder for the cache: set FER_CACHE_DIR")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Finding(False, f"the cache folder {folder} cannot be written ({error.strerror}): set FER_CACHE_DIR")
    else:
        yield Finding(True, f"cache folder {folder}")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_packages,
    check_extras,
    check_imports,
    check_opencv,
    check_models,
    check_compute,
    check_speed,
    check_folders,
)
