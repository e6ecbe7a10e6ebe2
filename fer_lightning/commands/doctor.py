"""``fer doctor``: checks an installation and says how to repair what is wrong."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, requires, version
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
    """Check Python, packages, OpenCV, bfloat16, disk and folders; exit with 1 if something is wrong."""
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
    check_imports,
    check_opencv,
    check_compute,
    check_folders,
)
