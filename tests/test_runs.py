from __future__ import annotations

from pathlib import Path

import pytest

from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.runs import BEST, RESUME, claim_run_folder, find_checkpoint, run_folder_of


def with_checkpoints(root: Path, version: int, *files: str) -> Path:
    folder = root / "a" / f"version_{version}" / "checkpoints"
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).touch()
    return folder


def test_versions_count_up_and_stay_apart(tmp_path: Path) -> None:
    assert [claim_run_folder(tmp_path, "a").folder.name for _ in range(3)] == ["version_0", "version_1", "version_2"]
    (tmp_path / "a" / "version_10").mkdir()
    (tmp_path / "a" / "version_x").mkdir()
    assert claim_run_folder(tmp_path, "a").folder.name == "version_11"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(ConfigError, match="cannot be created"):
        claim_run_folder(tmp_path / "runs", "a")


def test_a_discarded_claim_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim_run_folder(tmp_path / "deep" / "runs", "a").discard()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs").mkdir()
    claim_run_folder(tmp_path / "runs", "a").discard()
    assert list((tmp_path / "runs").iterdir()) == []
    kept = claim_run_folder(tmp_path / "runs", "a")
    claim_run_folder(tmp_path / "runs", "a").discard()
    assert list((tmp_path / "runs" / "a").iterdir()) == [kept.folder]
    monkeypatch.chdir(tmp_path)
    claim_run_folder(Path("relative"), "a").discard()
    assert not Path("relative").exists()


def test_last_and_best_take_the_newest_run_that_has_one(tmp_path: Path) -> None:
    old = with_checkpoints(tmp_path, 2, BEST, RESUME)
    new = with_checkpoints(tmp_path, 10, RESUME)
    assert find_checkpoint("last", tmp_path, "a", BEST) == new / RESUME
    assert find_checkpoint("best", tmp_path, "a", RESUME) == old / BEST


def test_files_and_run_folders_are_taken_as_given(tmp_path: Path) -> None:
    folder = with_checkpoints(tmp_path, 0, BEST, RESUME)
    assert find_checkpoint(str(folder / BEST), tmp_path, "x", RESUME) == folder / BEST
    assert find_checkpoint(str(folder.parent), tmp_path, "x", RESUME) == folder / RESUME
    assert run_folder_of(folder / BEST) == folder.parent
    assert run_folder_of(tmp_path / "elsewhere.ckpt") is None


def test_what_is_missing_is_told_with_what_there_is(tmp_path: Path) -> None:
    folder = with_checkpoints(tmp_path, 0, RESUME)
    with pytest.raises(CheckpointError, match=r"no run in .*'best' checkpoint.*there is: .*resume\.ckpt"):
        find_checkpoint("best", tmp_path, "a", BEST)
    with pytest.raises(CheckpointError, match=r"there is no checkpoint lost\.ckpt"):
        find_checkpoint("lost.ckpt", tmp_path, "a", BEST)
    with pytest.raises(CheckpointError, match=r"holds no best\.ckpt; it holds .*resume\.ckpt"):
        find_checkpoint(str(folder.parent), tmp_path, "a", BEST)
    with pytest.raises(CheckpointError, match="there is no checkpoint under"):
        find_checkpoint("last", tmp_path / "none", "a", BEST)
