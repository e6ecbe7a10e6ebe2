"""Which run ``--ckpt_path auto`` goes on with, and in which folder it begins one; the folders hold a configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from fer_lightning.cli import auto
from fer_lightning.cli.auto import StartOrGoOn
from fer_lightning.errors import ConfigError
from fer_lightning.runs.folder import Claim, claim_run_folder
from fer_lightning.runs.lock import Holder, lock_run_folder
from tests.runs.test_lock import dead_process, held_by


def settings(place: object, a: int = 1, **trainer: Any) -> dict[str, Any]:
    """Return the configuration of a run."""
    data = {"class_path": "D", "init_args": {"root": None if place is None else str(place)}}
    return {"model": {"a": a}, "data": data, "trainer": {"precision": "32-true", "max_epochs": 3, **trainer}}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder of all runs; a run has a whole checkpoint where a file of that name says so."""
    monkeypatch.setattr(auto, "_newest_whole", lambda run: run / "whole" if (run / "whole").exists() else None)
    return tmp_path / "runs"


def run(root: Path, number: int, config: dict[str, Any] | None, *, whole: bool = True) -> Path:
    """Make the folder of a run."""
    folder = root / f"tiny/version_{number}"
    folder.mkdir(parents=True)
    if config is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        if whole:
            (folder / "whole").touch()
    return folder


def chosen(root: Path, place: object, **given: Any) -> Path | None:
    return StartOrGoOn(root, "tiny", settings(place, **given)).checkpoint()


def test_the_newest_of_those_whose_data_lie_here_goes_on(runs: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    old, new = run(runs, 9, settings(here)), run(runs, 10, settings(here))
    away, other = run(runs, 11, settings(there)), run(runs, 12, settings(here, 2))
    run(runs, 13, None)
    run(runs, 14, {})
    (runs / "tiny/version_15").touch()
    assert chosen(runs, here) == new / "whole"
    assert chosen(runs, here, max_epochs=9) == new / "whole"
    (new / "whole").unlink()
    assert chosen(runs, here) == old / "whole"
    (old / "whole").unlink()
    assert chosen(runs, here) == away / "whole"
    assert chosen(runs, tmp_path / "elsewhere") == away / "whole"
    assert chosen(runs, here, a=2) == other / "whole"
    assert chosen(runs, None) == away / "whole"


def test_a_place_is_the_same_however_it_is_written(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    same = run(runs, 0, settings("here"))
    run(runs, 1, settings("there"))
    run(runs, 2, settings(None))
    assert chosen(runs, tmp_path / "there/../here") == same / "whole"


def test_only_a_run_whose_data_lie_here_is_refused_while_it_is_trained(runs: Path, tmp_path: Path) -> None:
    here = run(runs, 0, settings(tmp_path / "here"))
    away = run(runs, 1, settings(tmp_path / "there"))
    held_by(away, replace(Holder.myself(), since="before"))
    assert chosen(runs, tmp_path / "here") == here / "whole"
    held_by(here, replace(Holder.myself(), since="before"))
    with pytest.raises(ConfigError, match="another run writes into"):
        chosen(runs, tmp_path / "here")


def test_why_a_new_run_is_begun_is_told_of_the_newest_that_has_settings(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chosen(runs, tmp_path) is None
    assert capsys.readouterr().out == ""  # there is no other
    run(runs, 0, settings(tmp_path, 5))
    newest = run(runs, 1, settings(tmp_path, 2, max_epochs=9))
    run(runs, 2, None)
    assert chosen(runs, tmp_path) is None
    told = f"begins a new run: no run 'tiny' has these settings; {newest}: model.a 2 -> 1\n"
    assert capsys.readouterr().out == told
    damaged = run(runs, 3, None)
    (damaged / "config.yaml").write_text("a: [")
    assert chosen(runs, tmp_path) is None
    assert capsys.readouterr().out.endswith(f"{damaged}: its configuration is unknown\n")
    run(runs, 4, settings(tmp_path), whole=False)
    assert chosen(runs, tmp_path) is None
    assert capsys.readouterr().out == ""  # it is the same run, which has no checkpoint


def taken(root: Path, place: object) -> tuple[Path, bool]:
    """Return the folder in which a run begins, and whether it was made."""
    folder, claim, lock = StartOrGoOn(root, "tiny", settings(place)).take_folder()
    lock.release()
    return folder, claim is not None


def test_a_folder_that_a_killed_start_has_left_is_taken_again(runs: Path, tmp_path: Path) -> None:
    assert taken(runs, tmp_path) == (runs / "tiny/version_0", True)
    assert taken(runs, tmp_path) == (runs / "tiny/version_0", False)  # it holds nothing
    (runs / "tiny/version_0/.config.yaml.part").touch()
    held_by(runs / "tiny/version_0", replace(Holder.myself(), pid=dead_process()))
    assert taken(runs, tmp_path) == (runs / "tiny/version_0", False)
    (runs / "tiny/version_0/notes.txt").touch()
    assert taken(runs, tmp_path) == (runs / "tiny/version_1", True)
    (runs / "tiny/version_1/config.yaml").write_text(yaml.safe_dump(settings(tmp_path / "there")))
    assert taken(runs, tmp_path) == (runs / "tiny/version_2", True)
    (runs / "tiny/version_2/config.yaml").write_text(yaml.safe_dump(settings(tmp_path, 2)))
    (runs / "tiny/version_0/config.yaml").write_text(yaml.safe_dump(settings(tmp_path)))
    assert taken(runs, tmp_path) == (runs / "tiny/version_0", False)


def test_a_folder_that_another_start_holds_is_left_to_it(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "_START_S", 0.0)
    monkeypatch.setattr(auto, "_is_held", lambda folder: folder.name == "version_0")
    run(runs, 0, None)
    assert taken(runs, tmp_path) == (runs / "tiny/version_1", True)


def test_who_is_faster_has_the_folder(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Path] = []

    def late(folder: Path) -> Any:
        tries.append(folder)
        if len(tries) == 1:
            (folder / "config.yaml").write_text(yaml.safe_dump(settings(tmp_path, 2)))
            held_by(folder, replace(Holder.myself(), since="before"))
        return lock_run_folder(folder)

    monkeypatch.setattr(auto, "lock_run_folder", late)
    assert taken(runs, tmp_path) == (runs / "tiny/version_1", True)
    assert [folder.name for folder in tries] == ["version_0", "version_1"]

    def refused(folder: Path) -> Any:
        raise ConfigError("cannot be locked")

    monkeypatch.setattr(auto, "lock_run_folder", refused)
    with pytest.raises(ConfigError, match="cannot be locked"):
        taken(runs, tmp_path)


@pytest.mark.parametrize("same", [True, False])
def test_the_same_run_is_not_begun_twice_at_one_moment(
    same: bool, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = run(runs, 0, settings(tmp_path, 2))

    def claim(root: Path, name: str) -> Claim:
        own = claim_run_folder(root, name)
        other = run(root, 2, None)
        held_by(other, replace(Holder.myself(), pid=dead_process()))
        (other / "config.yaml").write_text(yaml.safe_dump(settings(tmp_path if same else tmp_path / "there")))
        return own

    looked: list[list[str]] = []
    refuse = StartOrGoOn._refuse_begun

    def note(one: StartOrGoOn, others: list[Path]) -> None:
        looked.append([other.name for other in others])
        refuse(one, others)

    monkeypatch.setattr(StartOrGoOn, "_refuse_begun", note)
    monkeypatch.setattr(auto, "claim_run_folder", claim)
    if same:
        with pytest.raises(ConfigError, match=r"version_2 at this moment; start again to go on with it"):
            taken(runs, tmp_path)
        assert not (runs / "tiny/version_1").exists()
    else:
        assert taken(runs, tmp_path) == (runs / "tiny/version_1", True)
    assert old.exists()
    assert looked == [["version_2"]]  # neither those of before nor its own, for which it would wait
