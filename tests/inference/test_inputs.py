from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer_lightning.errors import DataError
from fer_lightning.inference.inputs import is_video, named_inputs


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    return path


def test_what_a_command_line_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/z.png", "a/deep/B.JPG", "a/.hidden/c.png", "b.png"):
        picture(Path(name))
    Path("a/notes.txt").write_text("")
    Path("a/talk.MP4").write_text("")
    found = named_inputs(["b.png", "a", "a/*.png", "b.png"])
    assert list(found.values()) == ["b.png", "a/deep/B.JPG", "a/talk.MP4", "a/z.png"]
    assert [str(path) for path in found] == list(found.values())
    assert [is_video(path) for path in found] == [False, False, True, False]
    assert list(named_inputs(["**/*.png"]).values()) == ["a/z.png", "b.png"]


def test_pictures_in_an_archive_are_called_by_their_place_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("album.zip", "w") as archive:
        for name in ("a/x.png", "b/y.png"):
            archive.write(picture(tmp_path / "source" / name), name)
    found = named_inputs(["album.zip"])
    assert list(found.values()) == ["album.zip/a/x.png", "album.zip/b/y.png"]
    assert all(path.is_file() for path in found)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"there is no file or folder .*nothing\.png"):
        named_inputs([str(tmp_path / "nothing.png")])
    with pytest.raises(DataError, match=r"empty holds no picture or video \(known: \.apng, "):
        named_inputs([str(tmp_path / "empty")])
