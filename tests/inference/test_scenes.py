from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.sets.sketch.sketch import SketchDataModule, draw_cutout, draw_face, face_source
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.inference.scene_files import BOXES, read_boxes, written
from fer_lightning.inference.scenes import Scene, SceneSettings, scene_faces, scenes
from tests.helpers.data import StripesDataModule

SMALL = SceneSettings(320, 240, 40, 90, 3, seed=5)


class Squares:
    """White squares on nothing: the middle of each is a face."""

    labels = np.arange(9) % 7

    def __call__(self, number: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        cover = np.zeros((2 * size, 2 * size), np.float32)
        cover[size // 2 : size // 2 + size, size // 2 : size // 2 + size] = 1
        return np.full((2 * size, 2 * size, 3), 255, np.uint8), cover


def test_each_face_is_once_in_a_scene_where_its_box_says() -> None:
    made = list(scenes(Squares(), SMALL))
    assert np.concatenate([scene.labels for scene in made]).tolist() == Squares.labels.tolist()
    assert len(made) > 3
    for scene in made:
        assert scene.picture.shape == (240, 320, 3)
        taken = np.zeros((240, 320), int)
        for left, top, side, high in scene.boxes.astype(int).tolist():
            assert side == high
            assert 40 <= side <= 90
            assert (scene.picture[top : top + side, left : left + side] == 255).all()
            taken[top : top + side, left : left + side] += 1
        assert taken.max() == 1


def test_a_seed_gives_the_same_scenes() -> None:
    one, two = (next(iter(scenes(Squares(), SMALL))) for _ in range(2))
    assert np.array_equal(one.picture, two.picture)
    assert np.array_equal(one.boxes, two.boxes)
    other = next(iter(scenes(Squares(), SceneSettings(320, 240, 40, 90, 3, seed=6))))
    assert not np.array_equal(one.picture, other.picture)


def test_the_middle_of_a_cutout_is_the_drawn_face() -> None:
    whole, cover = draw_cutout("happy", face_source(0, "test", 3), 64)
    face, _ = draw_face("happy", face_source(0, "test", 3), 64, 3)
    assert whole.shape == (128, 128, 3)
    inside = cover[32:96, 32:96] == 1
    assert 0.3 < inside.mean() < 1
    difference = whole[32:96, 32:96].astype(float) - face.transpose(1, 2, 0)
    assert np.abs(difference[inside].mean()) < 1
    assert np.abs(difference[inside]).mean() < 12  # the noise is another one
    assert cover[:4].max() == 0  # above the head


def test_drawn_persons_and_images_with_a_border() -> None:
    drawn = SketchDataModule(train=7, val=7, test=14)
    faces = scene_faces(drawn, SEVEN.class_names, "test", 10, seed=1)
    assert len(faces.labels) == 10
    pixels, _ = faces(0, 48)
    assert pixels.shape == (96, 96, 3)
    stripes = StripesDataModule()
    tiles = scene_faces(stripes, stripes.table.class_names, "val", 3)
    pixels, cover = tiles(1, 60)
    assert cover.min() == 1
    assert (pixels[:30] == 128).all()
    assert pixels[30:90, 30:90].std() > 5


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(ConfigError, match="faces of 300 pixels have no room in 320x240: 120 at most"):
        SceneSettings(320, 240, 40, 300)
    with pytest.raises(ConfigError, match="32 pixels or more"):
        SceneSettings(smallest=80, largest=60)
    with pytest.raises(ConfigError, match="at least 1 face"):
        SceneSettings(most=0)
    with pytest.raises(DataError, match="the model knows a, b; the data has angry"):
        scene_faces(SketchDataModule(train=7, val=7, test=7), ["a", "b"])
    with pytest.raises(DataError, match=r"no test images; there are: train, val \(--split val\)"):
        scene_faces(SketchDataModule(train=7, val=7, test=0), SEVEN.class_names)


def test_written_scenes_are_read_again(tmp_path: Path) -> None:
    made = list(written(scenes(Squares(), SMALL), tmp_path / "scenes", SEVEN.class_names))
    table = tmp_path / "scenes" / BOXES
    read = read_boxes(table, SEVEN.class_names)
    assert len(read) == len(Squares.labels)
    for one, two in zip(made, read, strict=True):
        assert one.name == two.name
        assert np.array_equal(one.picture, two.picture)
        assert np.array_equal(one.boxes, two.boxes)
        assert np.array_equal(one.labels, two.labels)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("nowhere.png,happy,1,1,5,5", "line 2: there is no picture"),
        ("a.png,smile,1,1,5,5", "line 2: unknown expression 'smile'"),
        ("a.png,contempt,1,1,5,5", "the model does not know 'contempt'"),
        ("a.png,happy,1,1,5,0", "line 2: expected a box"),
        ("a.png,happy,1,1,,5", "nothing stands in column 'w'"),
        ("a.png,happy,1,left,5,5", "expected a number in column 'y'"),
    ],
)
def test_a_wrong_table_of_boxes_names_the_row(tmp_path: Path, row: str, message: str) -> None:
    picture = Scene("a.png", np.zeros((9, 9, 3), np.uint8), np.ones((1, 4), np.float32), np.zeros(1, np.int64))
    list(written([picture], tmp_path, SEVEN.class_names))
    (tmp_path / BOXES).write_text(f"path,label,x,y,w,h\n{row}\n")
    with pytest.raises(DataError, match=message):
        read_boxes(tmp_path / BOXES, SEVEN.class_names)
