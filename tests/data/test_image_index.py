from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fer_lightning.data.files.image_index as module
from fer_lightning.data.files.decode import decode_with_facts
from fer_lightning.data.files.image_index import ImageIndex, index_images
from fer_lightning.data.splitting.near_duplicates import THUMBNAIL_SIDE
from fer_lightning.data.table.samples import content_digests
from tests.helpers.folders import draw, save


def index(root: Path, *names: str, cache: str = "cache", **options: Any) -> ImageIndex:
    return index_images(root, np.array(names, np.str_), cache_dir=root.parent / cache, **options)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "set"
    for number in range(3):
        save(folder / f"{number}.png", draw(number, rng))
    return folder


def test_good_files_are_measured(root: Path) -> None:
    found = index(root, "2.png", "0.png", "1.png")
    with Image.open(root / "2.png") as picture:
        assert found.sizes[0].tolist() == list(picture.size)
    assert found.bad.tolist() == []
    assert found.frames.tolist() == [1, 1, 1]
    assert found.thumbnails.shape == (3, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    assert len(np.unique(found.digests, axis=0)) == 3


def test_the_digest_is_that_of_the_pixels(root: Path) -> None:
    gray = draw(1, np.random.default_rng(1), channels=1)
    save(root / "gray.png", gray)
    save(root / "gray.bmp", gray)
    save(root / "as colour.png", np.repeat(gray, 3, axis=2))
    digests = index(root, "gray.png", "gray.bmp", "as colour.png", "0.png").digests
    assert (digests[:3] == content_digests(gray[None])).all()  # as sets that are held in memory have it
    assert (digests[3] != digests[0]).any()


def test_bad_files_are_named_and_stop_nothing(root: Path) -> None:
    (root / "html.jpg").write_text("<html>")
    (root / "out.png").symlink_to(root.parent / "elsewhere.png")
    found = index(root, "html.jpg", "1.png", "none.png", "out.png", "../set/2.png", "a\0b")
    assert found.bad.tolist() == [0, 2, 3, 5]
    assert [str(reason).partition(", found ")[2] for reason in found.reasons] == [
        "an HTML page",
        "no file",
        "a path or link that leads out of the folder; pass --data.allow_outside true if that is meant",
        "one with a zero byte",
    ]
    assert not found.digests[found.bad].any()
    assert not found.sizes[found.bad].any()
    assert found.digests[[1, 4]].any(axis=1).all()


def test_paths_and_links_may_lead_out_where_that_is_allowed(root: Path) -> None:
    other = root.parent / "other.png"
    shutil.copy(root / "0.png", other)
    (root / "link.png").symlink_to(other)
    (root / "inner.png").symlink_to("1.png")
    names = ("link.png", "../other.png", str(other), "inner.png")
    assert index(root, *names).bad.tolist() == [0, 1, 2]
    assert index(root, *names, allow_outside=True).bad.tolist() == []


def test_a_folder_whose_name_begins_alike_is_outside(root: Path) -> None:
    save(root.parent / "settings" / "0.png", draw(0, np.random.default_rng(0)))
    assert index(root, "../settings/0.png", "0.png").bad.tolist() == [0]


def test_a_box_is_what_counts(root: Path) -> None:
    boxes = np.array([[0, 0, 10, 12], [5, 5, 10, 12], [0, 0, 10, 12], [900, 0, 5, 5]], np.int64)
    found = index(root, "0.png", "0.png", "0.png", "1.png", boxes=boxes)
    assert found.sizes.tolist() == [[10, 12]] * 3 + [[0, 0]]
    assert (found.digests[0] == found.digests[2]).all()
    assert (found.digests[0] != found.digests[1]).any()
    assert (found.thumbnails[0] != found.thumbnails[1]).any()
    assert found.bad.tolist() == [3]
    assert (index(root, "0.png").digests[0] != found.digests[0]).any()


def test_frames_are_counted(root: Path) -> None:
    frames = [Image.effect_noise((20, 20), 50) for _ in range(3)]
    frames[0].save(root / "moving.gif", save_all=True, append_images=frames[1:])
    assert index(root, "moving.gif", "0.png").frames.tolist() == [3, 1]


def test_many_files_come_in_their_order(root: Path) -> None:
    names = [f"{number % 3}.png" for number in range(500)]
    found = index(root, *names)
    assert np.array_equal(found.digests, index(root, "0.png", "1.png", "2.png").digests[np.arange(500) % 3])


def test_a_second_look_decodes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "bad.png").write_bytes(b"")
    first = index(root, "0.png", "bad.png", "2.png")

    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("decoded again")

    monkeypatch.setattr(module, "decode_with_facts", refuse)
    again = index(root, "0.png", "bad.png", "2.png")
    for name, column in vars(first).items():
        assert np.array_equal(column, getattr(again, name)), name


@pytest.mark.parametrize("change", ["content", "time", "order", "pixels", "box", "place"])
def test_what_has_changed_is_looked_at_again(root: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    index(root, "0.png", "1.png")
    calls: list[Any] = []

    def counted(*args: Any, **given: Any) -> Any:
        calls.append(args)
        return decode_with_facts(*args, **given)

    monkeypatch.setattr(module, "decode_with_facts", counted)
    names, options = ("0.png", "1.png"), dict[str, Any]()
    if change == "content":
        save(root / "1.png", draw(5, np.random.default_rng(9)))
    elif change == "time":
        os.utime(root / "1.png", (1, 1))
    elif change == "order":
        names = ("1.png", "0.png")
    elif change == "pixels":
        options = {"max_pixels": 10_000}
    elif change == "box":
        options = {"boxes": np.array([[0, 0, 9, 9]] * 2, np.int64)}
    else:
        shutil.copytree(root, root.with_name("copy"), copy_function=shutil.copy2)
        root = root.with_name("copy")
    index(root, *names, **options)
    assert len(calls) == 2


def test_an_interruption_goes_through_and_stores_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "decode_with_facts", interrupt)
    with pytest.raises(KeyboardInterrupt):
        index(root, "0.png", cache="fresh")
    assert not (root.parent / "fresh").exists()
