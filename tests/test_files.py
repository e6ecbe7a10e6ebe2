from __future__ import annotations

import os
from pathlib import Path

import pytest

from fer_lightning.files import write_atomically


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_atomically(tmp_path / "deep" / "file.txt", "alt → neu")
    assert path.read_text(encoding="utf-8") == "alt → neu"

    def fail(descriptor: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"other")
    assert path.read_text(encoding="utf-8") == "alt → neu"
    assert list(path.parent.iterdir()) == [path]
