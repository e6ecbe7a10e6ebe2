from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fer_lightning.commands import doctor as module
from fer_lightning.commands.doctor import CHECKS, Finding, check_folders, check_opencv, check_packages, doctor


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
