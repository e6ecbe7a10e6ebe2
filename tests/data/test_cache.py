from __future__ import annotations

import errno
import logging
import os
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.table import cache
from fer_lightning.data.table.cache import cached_arrays, default_cache_dir
from fer_lightning.errors import DataError


class Builder:
    """Builds arrays and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, NDArray[Any]]:
        self.calls += 1
        images = np.random.default_rng(0).integers(0, 256, (50, 48, 48), dtype=np.uint8)
        return {"images": images, "files": np.array(["a", "größer"]), "count": np.array(3), "empty": np.empty(0, "<U1")}


@pytest.fixture(autouse=True)
def _warnings_anew() -> None:
    cache._warn_no_cache.cache_clear()


def assert_same(first: dict[str, NDArray[Any]], second: dict[str, NDArray[Any]]) -> None:
    assert list(first) == list(second)
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
        assert array.dtype == second[name].dtype


def test_the_second_start_reads_what_the_first_built(tmp_path: Path) -> None:
    build = Builder()
    first = cached_arrays("key", build, tmp_path / "new" / "folder")
    second = cached_arrays("key", build, tmp_path / "new" / "folder")
    assert build.calls == 1
    assert_same(first, second)
    assert second["images"].flags.writeable
    assert os.listdir(tmp_path / "new" / "folder") == ["key.npz"]


def test_another_key_is_another_file(tmp_path: Path) -> None:
    build = Builder()
    cached_arrays("one", build, tmp_path)
    cached_arrays("two", build, tmp_path)
    assert build.calls == 2


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "text", "header"])
def test_a_damaged_file_is_built_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    build = Builder()
    expected = cached_arrays("key", build, tmp_path)
    path = tmp_path / "key.npz"
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "empty":
        content = bytearray()
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
    elif damage == "text":
        content = bytearray(b"<html>not found</html>")
    else:
        content[0:4] = b"XXXX"
    path.write_bytes(content)
    assert_same(cached_arrays("key", build, tmp_path), expected)
    assert build.calls == 2
    assert "key.npz cannot be used" in caplog.text
    caplog.clear()
    cached_arrays("key", build, tmp_path)
    assert build.calls == 2
    assert caplog.text == ""


def test_a_folder_that_cannot_be_made_gives_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    build = Builder()
    for _ in range(3):
        assert_same(cached_arrays("key", build, tmp_path / "file" / "cache"), build())
    assert build.calls == 6
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "FER_CACHE_DIR" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_gives_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tmp_path.chmod(0o500)
    cached_arrays("key", Builder(), tmp_path)
    assert len(caplog.records) == 1
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # writing more fails, as on a full disk
    try:
        arrays = cached_arrays("key", Builder(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_same(arrays, Builder()())
    assert os.listdir(tmp_path) == []
    assert os.strerror(errno.EFBIG) in caplog.text


def test_an_interrupted_write_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(handle: Any, **arrays: Any) -> None:
        handle.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cached_arrays("key", Builder(), tmp_path)
    assert os.listdir(tmp_path) == []


def test_half_files_of_killed_processes_are_removed_when_old(tmp_path: Path) -> None:
    old, young = tmp_path / ".other.npz.0123456789ab.part", tmp_path / ".other.npz.ab0123456789.part"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 3 * 86400,) * 2)
    cached_arrays("key", Builder(), tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".other.npz.ab0123456789.part", "key.npz"]


def test_an_error_of_the_builder_is_not_stored(tmp_path: Path) -> None:
    def fail() -> dict[str, NDArray[Any]]:
        raise DataError("line 7")

    with pytest.raises(DataError, match="line 7"):
        cached_arrays("key", fail, tmp_path)
    assert os.listdir(tmp_path) == []


def test_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("FER_CACHE_DIR", raising=False)
    assert default_cache_dir() == tmp_path / ".cache" / "fer_lightning"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/invalid")
    assert default_cache_dir() == tmp_path / ".cache" / "fer_lightning"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_dir() == tmp_path / "xdg" / "fer_lightning"
    monkeypatch.setenv("FER_CACHE_DIR", "~/mine")
    assert default_cache_dir() == tmp_path / "mine"
    cached_arrays("key", Builder())
    assert (tmp_path / "mine" / "key.npz").exists()


def test_a_folder_may_be_named_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    cached_arrays("key", Builder(), Path("~/mine"))
    assert os.listdir(tmp_path) == ["mine"]


def test_without_a_home_folder_there_is_no_cache(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cache, "default_cache_dir", lambda: None)
    assert_same(cached_arrays("key", Builder()), Builder()())
    assert "no home folder" in caplog.text
