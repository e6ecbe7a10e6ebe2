from __future__ import annotations

from pathlib import Path

import pytest

from fer_lightning.errors import ConfigError
from fer_lightning.runs.folder import claim_run_folder, config_files, newest_run, run_folders, versions


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


def test_folders_are_sorted_by_number_and_not_searched_inside(tmp_path: Path) -> None:
    for place in ("a/version_10", "a/version_9", "a/version_9/version_1", "a/.hidden/version_0", "a/b/version_0"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
    assert [path.relative_to(tmp_path).as_posix() for path in run_folders(tmp_path)] == [
        "a/version_9",
        "a/version_10",
        "a/b/version_0",
    ]


def test_the_newest_run_is_the_folder_of_the_greatest_number(tmp_path: Path) -> None:
    assert newest_run(tmp_path, "a") is None
    for number in (2, 10, 9):
        (tmp_path / f"a/version_{number}").mkdir(parents=True)
    (tmp_path / "a/version_11").touch()
    (tmp_path / "a/version_12x").mkdir()
    assert newest_run(tmp_path, "a") == tmp_path / "a/version_10"
    assert [path.name for path in versions(tmp_path / "a")] == ["version_2", "version_9", "version_10", "version_11"]


def test_a_number_that_another_process_has_just_taken_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (0, 1, 2):
        (tmp_path / f"a/version_{number}").mkdir(parents=True)
    monkeypatch.setattr("fer_lightning.runs.folder.versions", lambda folder: [])
    claim = claim_run_folder(tmp_path, "a")
    assert (claim.folder, claim.above) == (tmp_path / "a/version_3", tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/version_0").touch()
    with pytest.raises(ConfigError) as caught:
        claim_run_folder(tmp_path, "b")
    assert str(caught.value) == f"the run folder {tmp_path / 'b/version_0'} cannot be created: a file is in the way"


def test_configurations_are_numbered(tmp_path: Path) -> None:
    for name in (
        "config_10.yaml",
        "config.yaml",
        "config_2.yaml",
        "config_x.yaml",
        "my_config.yaml",
        "config_3.yaml.x",
    ):
        (tmp_path / name).touch()
    assert list(config_files(tmp_path).items()) == [
        *((1, tmp_path / "config.yaml"), (2, tmp_path / "config_2.yaml"), (10, tmp_path / "config_10.yaml")),
    ]
