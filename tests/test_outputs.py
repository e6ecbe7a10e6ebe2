"""Where may be written is known before anything is computed, and what a verb wrote before goes with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fer_lightning.errors import ConfigError
from fer_lightning.outputs import Findings, folder_to_write, place_to_write


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("/proc/x", "/proc takes no files"),
        ("/proc/x/deep", "/proc takes no files"),
        ("a" * 300, "file name too long"),
        ("~nobody-of-this-name/x", "home directory"),
        ("file/x", "file is a file"),
    ],
)
def test_hopeless_places_are_refused_and_nothing_is_made(
    place: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written, ") as caught:
        place_to_write(place)
    assert why in str(caught.value)
    assert str(caught.value).count("\n") == 0
    assert folder_to_write("new/deep") == Path("new/deep")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_was_written_before_goes_and_what_is_somebody_elses_stays(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for names in (("a.png", "b.png"), ("b.png", "c.png")):
        output = Findings(folder, "numbers.json")
        for name in names:
            output.write(name, "".join(names))
        if names[0] == "a.png":
            (folder / "mine.png").touch()
        assert output.finish({"value": 1}, "<html>") == folder / "index.html"
    assert sorted(path.name for path in folder.iterdir()) == [
        "b.png", "c.png", "index.html", "mine.png", "numbers.json"
    ]  # fmt: skip
    assert json.loads((folder / "numbers.json").read_text()) == {"value": 1, "files": ["b.png", "c.png"]}
    (tmp_path / "outside.png").touch()
    (folder / "numbers.json").write_text('{"files": ["../outside.png"]}')
    Findings(folder, "numbers.json").finish({}, "")
    assert (tmp_path / "outside.png").exists()
    (folder / "numbers.json").write_text("{")
    Findings(folder, "numbers.json").finish({}, "")
    assert (folder / "mine.png").exists()
