from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace
from typing import Any

import pytest

from fer_lightning.commands import doctor as module
from fer_lightning.commands.doctor import (
    CHECKS,
    Finding,
    check_compute,
    check_extras,
    check_folders,
    check_imports,
    check_models,
    check_opencv,
    check_packages,
    check_python,
    check_speed,
    doctor,
)
from fer_lightning.inference.loading import DEFAULT_MODEL


def test_this_installation_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor() == 0
    out = capsys.readouterr().out
    assert "nothing is wrong" in out
    assert "ok    torch " in out


def test_what_is_wrong_is_named_and_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sick() -> Iterator[Finding]:
        yield Finding(False, "no bed: buy one")

    monkeypatch.setattr(module, "CHECKS", (sick, *CHECKS[:1]))
    assert doctor() == 1
    out = capsys.readouterr().out
    assert "WRONG no bed: buy one" in out
    assert "1 thing is wrong" in out


def test_two_opencvs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        def __init__(self, name: str) -> None:
            self.metadata, self.version = {"Name": name}, "5.0"

    both = [Found("opencv-python"), Found("opencv-python-headless"), Found("albumentationsx")]
    monkeypatch.setattr(module, "distributions", lambda: both)
    wrong = [finding.text for finding in check_opencv() if finding.ok is False]
    assert "uninstall all of them" in wrong[0]
    assert "albumentationsx overwrites" in wrong[-1]


def test_a_missing_and_an_old_package_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "requires", lambda name: ["nowhere_to_be>=1", "numpy<1", "ruff; extra == 'dev'"])
    findings = list(check_packages())
    assert [finding.ok for finding in findings] == [False, False]
    assert "pip install 'nowhere_to_be>=1'" in findings[0].text
    assert "is outside <1" in findings[1].text


def test_a_cache_folder_that_cannot_be_written_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("FER_CACHE_DIR", str(blocked / "cache"))
    assert any(finding.ok is False and "FER_CACHE_DIR" in finding.text for finding in check_folders())


@pytest.mark.parametrize(
    ("version", "supported"),
    [((3, 9, 20), False), ((3, 10, 0), True), ((3, 12, 1), True), ((3, 13, 9), True), ((3, 14, 0), False)],
)
def test_versions_of_python_beyond_ours_are_wrong(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], supported: bool
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    (finding,) = check_python()
    assert finding.ok is supported
    assert ("fer_lightning supports 3.10 to 3.13" in finding.text) is not supported


@pytest.mark.parametrize(("free", "enough"), [(2 * 1024**3, False), (2 * 1024**3 + 1, True), (10**12, True)])
def test_less_than_two_gibibytes_of_disk_are_too_few(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, free: int, enough: bool
) -> None:
    monkeypatch.setenv("FER_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    disk, cache = check_folders()
    assert disk.ok is enough
    assert disk.text == f"{free / 2**30:.1f} GiB free in the working directory"
    assert cache == Finding(True, f"cache folder {tmp_path}")


@pytest.mark.parametrize("has", [True, False])
def test_what_computes_is_told_and_is_never_wrong(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    monkeypatch.setattr("fer_lightning.models.precision.has_bfloat16", lambda device: has)
    findings = list(check_compute())
    assert findings[0].text.endswith(f"cores, bfloat16 arithmetic: {'yes' if has else 'no'}")
    assert {finding.ok for finding in findings} == {None}


def test_one_opencv_with_its_cascades_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [SimpleNamespace(metadata={"Name": "OpenCV-Python-Headless"}, version="4.9")]
    monkeypatch.setattr(module, "distributions", lambda: found)
    assert [(finding.ok, finding.text) for finding in check_opencv()] == [
        (True, "OpenCV distributions: opencv-python-headless 4.9"),
        (True, "OpenCV has the Haar cascades"),
    ]
    monkeypatch.setattr(module, "distributions", lambda: [])
    assert next(iter(check_opencv())).ok is False


def test_several_things_are_counted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "CHECKS", (lambda: [Finding(False, "a"), Finding(None, "b"), Finding(False, "c")],))
    assert doctor() == 1
    assert capsys.readouterr().out == "WRONG a\n      b\nWRONG c\n2 things are wrong\n"


def test_extras_models_and_speed_are_told() -> None:
    told = "\n".join(finding.text for check in (check_extras, check_models, check_speed) for finding in check())
    assert "extras that are installed: " in told
    assert f"model where none is named: {DEFAULT_MODEL}" in told
    assert "face detector where none is named: " in told
    assert "an epoch of FER2013 (28,709 images) with fer_b_fast takes about " in told


def test_the_speed_is_that_of_the_fastest_batch_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.1, 1.0, 5.0, 6.0, 7.0])  # batches of 64 images in 0.1, 4 and 1 s
    monkeypatch.setattr("fer_lightning.commands.doctor.time.perf_counter", lambda: next(clock))
    [found] = check_speed()
    assert "takes about 449 s: " in found.text


def test_a_missing_package_of_an_extra_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_is_installed", lambda requirement: requirement.name != "optuna")
    told = [finding.text for finding in check_extras()]
    assert "extra tune lacks optuna: pip install 'fer_lightning[tune]'" in told


def test_without_our_own_package_nothing_more_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "requires", missing)
    assert list(check_packages()) == [
        Finding(False, "fer_lightning itself is not installed: run `make install` or `pip install -e .`")
    ]


def test_a_package_that_cannot_be_imported_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(name: str) -> None:
        if name in ("torchvision", "cv2"):
            raise OSError(f"no lib{name}.so")

    monkeypatch.setattr(importlib, "import_module", failing)
    assert [finding.text for finding in check_imports()] == [
        "import torchvision fails: OSError: no libtorchvision.so; torch and torchvision must be a pair",
        "import cv2 fails: OSError: no libcv2.so",
    ]


def test_an_opencv_without_its_cascades_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    found = [SimpleNamespace(metadata={"Name": "opencv-python"}, version="4.9")]
    monkeypatch.setattr(module, "distributions", lambda: found)
    monkeypatch.setattr("cv2.data.haarcascades", f"{tmp_path}/")
    assert [(finding.ok, finding.text) for finding in check_opencv()] == [
        (True, "OpenCV distributions: opencv-python 4.9"),
        (False, "OpenCV has no Haar cascades: pip install --force-reinstall 'opencv-python-headless<5'"),
    ]


def test_each_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda number: f"H{number}00")
    assert [finding.text for finding in check_compute()][1:] == ["GPU 0: H000", "GPU 1: H100"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert [finding.text for finding in check_compute()][1:] == ["GPU: none that torch can use"]


def test_a_cache_folder_is_made_or_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("FER_CACHE_DIR", str(tmp_path / "new/deep"))
    assert list(check_folders())[1] == Finding(True, f"cache folder {tmp_path / 'new/deep'}")
    assert (tmp_path / "new/deep").is_dir()
    monkeypatch.setattr("fer_lightning.data.table.cache.default_cache_dir", lambda: None)
    assert [finding.text for finding in check_folders()][1:] == [
        "there is no home folder for the cache: set FER_CACHE_DIR"
    ]
