from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fer_lightning.data.table.soft_labels import read_soft_labels, read_teachers, with_soft_labels
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import DataError
from fer_lightning.evaluation.confidence import fit_scaling
from fer_lightning.inference.loading import load_model
from fer_lightning.models.views import Views
from fer_lightning.runs.trained_on import TRAINED_ON_KEY, TrainedOn, digest_numbers, read_trained_on
from fer_lightning.studies.crossval.out_of_fold import Answers, averaged
from fer_lightning.studies.crossval.teachers import FoldRun, TeacherArm
from tests.helpers.cli import fer, fit
from tests.helpers.data import StripesDataModule


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: ``study/a`` has both folds, of ``study/b`` one is missing."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fer_lightning.cli.framing.IMAGES", 0)  # no look for faces
        for fold in (0, 1):
            options = ("--data.folds=2", f"--data.fold={fold}")
            assert fit(root / "study/a", *options, name=f"fold{fold}_seed0", epochs=1) == 0
    shutil.copytree(root / "study/a/fold0_seed0", root / "study/b/fold0_seed0")
    best = root / "study/b/fold0_seed0/version_0/checkpoints/best.ckpt"
    content = torch.load(best, weights_only=True)
    for value in content["state_dict"].values():
        value *= 2
    torch.save(content, best)
    return root


def answers_in(root: Path, arm: str, fold: int, views: Views = "none") -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the rows of a fold, and what its network says of them."""
    table = StripesDataModule(folds=2, fold=fold).table
    rows = table.rows("val")
    model = load_model(root / f"study/{arm}/fold{fold}_seed0/version_0")
    model.set_views(views)
    return rows, model.probabilities(torch.from_numpy(table.images[rows]))


def labels_in(file: Path) -> NDArray[np.float32]:
    """Return what a run would be trained on with a file, by training row of the stripes."""
    table, _ = with_soft_labels(StripesDataModule().table, "target", [str(file)])
    assert table.soft_labels is not None
    return table.soft_labels[table.rows("train")]


def test_each_image_is_labelled_by_the_network_that_has_not_seen_it(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "soft.npz"
    assert fer("soft_labels", str(study / "study/a"), f"--out={file}") == 0  # with all views
    expected = np.zeros((84, 7))
    for fold in (0, 1):
        rows, probs = answers_in(study, "a", fold, "flip_shift")
        expected[rows] = probs
    np.testing.assert_allclose(labels_in(file), expected, atol=1e-3)
    table = StripesDataModule().table
    preds = expected.argmax(axis=1)
    out = capsys.readouterr().out
    assert re.search(rf"mean +84 +{100 * (preds == table.labels[:84]).mean():.2f} % ", out)
    assert f"{(preds != table.labels[:84]).sum()} of 84 images" in out
    with np.load(file) as stored:
        assert stored["probabilities"].dtype == np.float16
        said = json.loads(str(stored["provenance"]))
    assert [each["run"] for each in said["teachers"]] == ["study/a/fold0_seed0", "study/a/fold1_seed0"]
    assert {each["unseen_by"] for each in said["teachers"]} == {"the digests in its checkpoint"}
    assert (said["views"], said["calibration"], said["own_label"]) == ("flip_shift", "none", 0)
    record = read_teachers(file)
    assert record is not None
    assert set(record.train) == set(digest_numbers(table.digests[:84]))


def test_a_run_that_learns_from_soft_labels_has_seen_what_their_networks_have(study: Path, tmp_path: Path) -> None:
    file = tmp_path / "soft.npz"
    assert fer("soft_labels", "study/a", f"--out={file}", f"--root={study}", "--views=none") == 0
    assert fit(tmp_path, f"--data.soft_label_file={file}", "--data.per_class=4", name="small", epochs=1) == 0
    record = read_trained_on(tmp_path / "small/version_0/checkpoints/best.ckpt")
    assert record is not None
    assert len(record.train) == 84
    assert record.unknown == ()


def test_arms_are_averaged_and_missing_folds_named(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "soft.npz"
    both = ("soft_labels", "study/a", "study/b", f"--root={study}", f"--out={file}", "--views=none")
    assert fer(*both) == 0
    assert "study/b seed 0: no finished run of fold 1\n" in capsys.readouterr().out
    rows, first = answers_in(study, "a", 0)
    others, alone = answers_in(study, "a", 1)
    found = labels_in(file)
    np.testing.assert_allclose(found[rows], (first + answers_in(study, "b", 0)[1]) / 2, atol=1e-3)
    np.testing.assert_allclose(found[others], alone, atol=1e-3)
    before = file.read_bytes()
    assert fer(*both) == 0
    assert file.read_bytes() == before
    assert fer("soft_labels", "study/b", f"--root={study}", f"--out={tmp_path}/b.npz") == 2
    assert "no arm has all its folds (study/b seed 0: no finished run of fold 1)" in capsys.readouterr().err
    assert not (tmp_path / "b.npz").exists()


def test_calibration_uses_the_labels_of_the_other_folds(study: Path, tmp_path: Path) -> None:
    file = tmp_path / "soft.npz"
    assert fer("soft_labels", "study/a", f"--root={study}", f"--out={file}", "--views=none", "--calibrate") == 0
    labels, found = StripesDataModule().table.labels, labels_in(file)
    for fold in (0, 1):
        rows, probs = answers_in(study, "a", fold)
        others, theirs = answers_in(study, "a", 1 - fold)
        scaling = fit_scaling(theirs, labels[others], "temperature")
        np.testing.assert_allclose(found[rows], scaling(probs), atol=1e-3)


def changed(study: Path, tmp_path: Path, record: TrainedOn | None) -> tuple[str, ...]:
    """Copy the study with other digests in the first checkpoint; return the command for its labels."""
    shutil.copytree(study / "study", tmp_path / "study")
    best = tmp_path / "study/a/fold0_seed0/version_0/checkpoints/best.ckpt"
    content: dict[str, Any] = torch.load(best, weights_only=True)
    content.pop(TRAINED_ON_KEY)
    torch.save({**content, **({} if record is None else {TRAINED_ON_KEY: record.state()})}, best)
    return "soft_labels", "study/a", f"--root={tmp_path}", f"--out={tmp_path}/soft.npz", "--views=none"


def test_a_network_that_has_seen_an_image_must_not_label_it(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = StripesDataModule(folds=2, fold=0).table
    seen = digest_numbers(table.digests[[*table.rows("train"), table.rows("val")[5]]])
    assert fer(*changed(study, tmp_path, TrainedOn(np.sort(seen)))) == 2
    error = capsys.readouterr().err
    assert "study/a/fold0_seed0 was trained on 1 of the 42 images of fold 0" in error
    assert f"the first is {table.files[table.rows('val')[5]]}" in error
    assert not (tmp_path / "soft.npz").exists()


def test_without_digests_the_data_must_be_those_of_the_training(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = changed(study, tmp_path, None)
    assert fer(*command) == 0
    with np.load(tmp_path / "soft.npz") as stored:
        assert json.loads(str(stored["provenance"]))["teachers"][0]["unseen_by"] == "its data, which are the same"
    assert fer(*command, "--data.train=70") == 2
    assert "does not say which images it was trained on, and the data are not those" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "fer soft_labels: required: ARMS"),
        (("nowhere",), "there is no folder nowhere"),
        (("study",), "is a comparison; name the arms to average: study/a study/b"),
        (("study/a/fold0_seed0",), "holds no finished run of fer crossval --folds"),
        (("study/a", "study/a"), "study/a is named twice"),
        (("study/a", "--data=SketchDataModule"), "unrecognized arguments: --data=SketchDataModule"),
        (("study/a", "--out=soft.csv"), "--out must be a .npz file, such as soft.npz"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(
    study: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str, monkeypatch: Any
) -> None:
    monkeypatch.chdir(study)
    (study / "study/study.json").write_text("{}")
    assert fer("soft_labels", *arguments, "--root=.") == 2
    assert message in capsys.readouterr().err


def answers(fold: int, images: list[int], labels: list[int], arm: str = "s/a") -> Answers:
    """Return made up answers: an image is a number, its first class has a probability of a tenth of that."""
    run = FoldRun(arm, Path(f"fold{fold}_seed0/version_0"), 2, fold, 0, 0, Path())
    digests = np.repeat(np.array(images, np.uint8)[:, None], 16, axis=1)
    share = np.array(images, np.float32) / 10
    others = np.full((1, 16), 9, np.uint8)
    probs = np.stack([share, 1 - share], axis=1)
    return Answers(
        run, ("angry", "happy"), digests, np.array(labels), probs.astype(np.float32), TrainedOn(), others, {}
    )


def test_images_that_stand_twice_and_such_that_no_fold_left_out() -> None:
    whole, part = TeacherArm("s/a", (), {0: []}), TeacherArm("s/b", (), {0: [1]})
    first, second = answers(0, [1, 2, 2], [0, 1, 0]), answers(1, [3], [1])
    soft = averaged([whole], [first, second], calibrate=False)
    np.testing.assert_allclose(soft.probs[:, 0], [0.1, 0.2, 0.2, 0.3], atol=1e-7)
    assert soft.labels.tolist() == [0, 1, 0, 1]
    assert soft.own_label[:, 0].tolist() == [9]
    turned = answers(0, [2, 1], [0, 1], "s/b")  # the other arm has another order of rows, and names 2 once
    soft = averaged([whole, part], [first, second, turned], calibrate=False)
    np.testing.assert_allclose(soft.probs[:, 0], [0.1, 0.2, 0.2, 0.3], atol=1e-7)
    with pytest.raises(DataError, match="s/b/fold0_seed0 left out 1 images that s/a does not have"):
        averaged([whole, part], [first, second, answers(0, [7], [0], "s/b")], calibrate=False)


def test_images_that_keep_their_label(tmp_path: Path, study: Path) -> None:
    file = tmp_path / "soft.npz"
    assert fer("soft_labels", "study/a", f"--root={study}", f"--out={file}", "--views=none") == 0
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    kept, own = arrays["digests"][:3], StripesDataModule().table
    for name in ("digests", "probabilities"):
        arrays[name] = arrays[name][3:]
    np.savez(file, **{**arrays, "own_label": kept})
    assert len(read_soft_labels(file, SEVEN.class_names).names) == 81
    texts = {bytes(digest).hex() for digest in kept}
    rows = [row for row in range(84) if bytes(own.digests[row, :8]).hex() in texts]
    np.testing.assert_array_equal(labels_in(file)[rows], np.eye(7)[own.labels[rows]])
    np.savez(file, **{**arrays, "own_label": kept[:0]})
    with pytest.raises(DataError, match="no probabilities for 3 of 84 training rows"):
        labels_in(file)
