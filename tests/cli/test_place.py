"""The lock and the claim of the folder that a run writes into."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fer_lightning.cli.place import Place
from fer_lightning.errors import ConfigError
from fer_lightning.runs.folder import claim_run_folder
from fer_lightning.runs.lock import LOCK, Holder, RunLock
from tests.runs.test_lock import dead_process


@pytest.fixture
def place(tmp_path: Path) -> Place:
    claim = claim_run_folder(tmp_path / "runs", "a")
    return Place(claim.folder, claim)


def written(place: Place, holder: Holder) -> None:
    (place.folder / LOCK).write_text(json.dumps(asdict(holder)))


def test_a_folder_without_a_lock_is_its_own_and_is_removed(place: Place, tmp_path: Path) -> None:
    assert not place.is_lost
    place.check()
    place.unlock()
    place.discard()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_another_process_has_locked_is_left_to_it(place: Place) -> None:
    other = replace(Holder.myself(), since="before")
    written(place, other)
    with pytest.raises(ConfigError, match="another run writes into"):
        place.take_lock(print)
    assert place.claim is None
    place.discard()
    assert (place.folder / LOCK).exists()


def test_a_folder_that_cannot_be_locked_for_another_reason_is_still_to_be_removed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> RunLock:
        raise ConfigError("cannot be locked")

    monkeypatch.setattr("fer_lightning.cli.place.lock_run_folder", refuse)
    with pytest.raises(ConfigError):
        place.take_lock(print)
    assert place.claim is not None


@pytest.mark.parametrize("there", [True, False], ids=["here", "elsewhere"])
def test_a_lock_that_is_taken_over_is_told(place: Place, there: bool, capsys: pytest.CaptureFixture[str]) -> None:
    gone = replace(Holder.myself(), pid=dead_process())
    if there:
        written(place, gone)
        where = "of this machine"
    else:
        place.lock = RunLock(place.folder / LOCK, Holder.myself(), replace(gone, host="node7"))
        written(place, place.lock.holder)
        where = "on node7"
    place.take_lock(print)
    assert capsys.readouterr().out == f"took over {place.folder} from process {gone.pid} {where}, which is gone\n"
    place.unlock()
    assert not (place.folder / LOCK).exists()


def test_a_folder_that_was_taken_over_is_neither_written_nor_removed(place: Place) -> None:
    said: list[str] = []
    place.take_lock(said.append)
    assert (place.is_lost, said) == (False, [])
    place.check()
    other = replace(Holder.myself(), since="later")
    written(place, other)
    assert place.is_lost
    place.check()
    assert said == [
        f"{place.folder} was taken over by {other}, because nothing was heard of this process for minutes; it ends "
        "without writing anything more there"
    ]
    place.discard()
    place.unlock()
    assert (place.folder / LOCK).exists()
    assert place.lock is not None
    place.lock.holder = other
    place.discard()
    assert not place.folder.exists()
