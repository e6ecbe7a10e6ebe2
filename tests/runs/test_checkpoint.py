from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from fer_lightning.errors import CheckpointError
from fer_lightning.runs.checkpoint import (
    BEST,
    RESUME,
    check_checkpoint,
    epochs_in,
    find_checkpoint,
    read_checkpoint,
    run_folder_of,
    weights_digest,
)
from fer_lightning.runs.checkpoint_io import AtomicCheckpointIO

STATE = {"state_dict": {"weight": torch.arange(1000.0)}, "epoch": 3}


def with_checkpoints(root: Path, version: int, *files: str, name: str = "a") -> Path:
    folder = root / name / f"version_{version}" / "checkpoints"
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).touch()
    return folder


def test_checkpoints_are_listed_best_then_last_then_by_epoch(tmp_path: Path) -> None:
    folder = tmp_path / "mine/version_0/checkpoints"
    folder.mkdir(parents=True)
    for name in ("epoch_10", "resume", "epoch_9", "best"):
        (folder / f"{name}.ckpt").touch()
    expected = [f"{name}.ckpt" for name in ("best", "resume", "epoch_9", "epoch_10")]
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint("nowhere", tmp_path, "mine", "best.ckpt")
    assert (
        str(caught.value) == f"there is no checkpoint nowhere; there is: {', '.join(str(folder / n) for n in expected)}"
    )
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(str(folder), tmp_path, "mine", "other.ckpt")
    assert str(caught.value).endswith(f"holds no other.ckpt; it holds {', '.join(expected)}")


def test_last_and_best_take_the_newest_run_that_has_one(tmp_path: Path) -> None:
    old = with_checkpoints(tmp_path, 2, BEST, RESUME)
    new = with_checkpoints(tmp_path, 10, RESUME)
    assert find_checkpoint("last", tmp_path, "a", BEST) == new / RESUME
    assert find_checkpoint("best", tmp_path, "a", RESUME) == old / BEST
    other = with_checkpoints(tmp_path, 0, BEST, name="b/c")
    os.utime(other / BEST, (0, 0))
    assert find_checkpoint("best", tmp_path, None, BEST) == old / BEST
    os.utime(other / BEST)
    assert find_checkpoint("best", tmp_path, None, BEST) == other / BEST
    with pytest.raises(CheckpointError, match="no run in .*none has a 'best' checkpoint"):
        find_checkpoint("best", tmp_path / "none", None, BEST)


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


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "text"])
def test_damage_is_found_out(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(STATE, path)
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        content[len(content) // 2] ^= 1  # inside the weights: torch.load would not notice
        path.write_bytes(content)
    else:
        path.write_bytes({"empty": b"", "cut": bytes(content[: len(content) // 2]), "text": b"<html>"}[damage])
    with pytest.raises(CheckpointError, match=r"a\.ckpt"):
        check_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"a\.ckpt"):
        read_checkpoint(path)


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("bomb",)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Bomb()}, "bomb.ckpt")
    assert zipfile.is_zipfile("bomb.ckpt")
    with pytest.raises(CheckpointError, match="plain data"):
        read_checkpoint(Path("bomb.ckpt"))
    assert not Path("bomb").exists()


def test_mapped_files_are_read_and_those_of_the_old_form_refused(tmp_path: Path) -> None:
    old, new = tmp_path / "old.pth", tmp_path / "new.ckpt"
    torch.save(STATE, old, _use_new_zipfile_serialization=False)
    torch.save(STATE, new)
    content = read_checkpoint(new, mapped=True)
    assert torch.equal(content["state_dict"]["weight"], STATE["state_dict"]["weight"])  # type: ignore[index]
    with pytest.raises(CheckpointError, match=r"old\.pth is damaged or no checkpoint"):
        read_checkpoint(old)
    torch.save([1, 2], new)
    with pytest.raises(CheckpointError, match=r"new\.ckpt is no checkpoint: it holds a list"):
        read_checkpoint(new)


def test_epochs_are_done_when_they_are_processed() -> None:
    progress = {"current": {"ready": 3, "started": 3, "processed": 2, "completed": 2}}
    assert epochs_in({"epoch": 7, "loops": {"fit_loop": {"epoch_progress": progress}}}) == 2
    assert epochs_in({"epoch": 7}) == 7
    assert epochs_in({}) == 0


def test_lists_of_checkpoints_are_short(tmp_path: Path) -> None:
    folder = with_checkpoints(tmp_path, 0, *(f"epoch_{number}.ckpt" for number in range(7)))
    for number, seconds in enumerate((50, 90, 10, 80, 70, 20, 60)):
        os.utime(folder / f"epoch_{number}.ckpt", (seconds, seconds))
    newest = ", ".join(str(folder / f"epoch_{number}.ckpt") for number in (0, 1, 3, 4, 6))
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint("best", tmp_path, "a", RESUME)
    said = f"no run in {tmp_path / 'a'} has a 'best' checkpoint (best.ckpt); there is: {newest}"
    assert str(caught.value) == said
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(str(folder.parent), tmp_path, "a", RESUME)
    listed = ", ".join(f"checkpoints/epoch_{number}.ckpt" for number in range(5))
    assert str(caught.value) == f"the folder {folder.parent} holds no {RESUME}; it holds {listed}"
    (tmp_path / "bare").mkdir()
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(str(tmp_path / "bare"), tmp_path, "a", BEST)
    assert str(caught.value) == f"the folder {tmp_path / 'bare'} holds no {BEST}"


def test_a_file_that_is_not_there_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        check_checkpoint(tmp_path / "a.ckpt")
    assert str(caught.value) == f"no checkpoint at {tmp_path / 'a.ckpt'}"


def test_a_checksum_names_what_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save(STATE, path)
    content = path.read_bytes()
    (tensors,) = [name for name in zipfile.ZipFile(path).namelist() if name.endswith("data/0")]
    place = content.index(torch.arange(1000.0).numpy().tobytes())
    path.write_bytes(content[: place + 40] + b"\1" + content[place + 41 :])
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert str(caught.value) == (
        f"{path} is damaged, the checksum of '{tensors}' does not match: copy or download it again"
    )
    assert read_checkpoint(path, mapped=True)["epoch"] == 3  # where only the rest of it matters


def test_a_digest_is_of_names_kinds_shapes_and_values_of_the_network_alone() -> None:
    own = {"b.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, 2.0])}
    digest = weights_digest(own)
    assert len(digest) == 32
    stored = {f"classifier.{name}": value for name, value in reversed(own.items())}
    assert weights_digest({"criterion.weight": torch.ones(3), **stored}) == digest
    assert weights_digest({**own, "b.weight": own["b.weight"].T.contiguous().T}) == digest  # how it lies in memory
    assert weights_digest({**own, "shift": torch.zeros(2)}) == digest  # which older checkpoints do not have
    others = [
        {**own, "shift": torch.tensor([0.0, 0.1])},
        {**own, "gain": torch.zeros(2)},
        {**own, "b.weight": own["b.weight"].reshape(3, 2)},
        {**own, "b.weight": own["b.weight"].T},
        {**own, "a.bias": own["a.bias"].view(torch.int32)},
        {**own, "a.bias": torch.tensor([1.0, 2.5])},
        {"b.weight": own["b.weight"], "a.gain": own["a.bias"]},
        {"a.bias": own["a.bias"]},
    ]
    assert len({digest, *map(weights_digest, others)}) == 1 + len(others)
