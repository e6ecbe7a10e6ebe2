"""Which images a run's checkpoints say that it was trained and chosen on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fer_lightning.callbacks.reports import EvaluationReport
from fer_lightning.callbacks.trained_images import TrainedImages, _of_table, _origin, _shown, _soft_labels, _teachers
from fer_lightning.data.table.samples import FOCUS
from fer_lightning.runs.trained_on import TRAINED_ON_KEY, TrainedOn, digest_numbers
from tests.helpers.data import StripesDataModule


def numbers(*values: int) -> Any:
    return np.array(values, np.uint64)


def written(path: Path, record: TrainedOn) -> str:
    """Write a checkpoint that holds a record and no more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({TRAINED_ON_KEY: record.state(), "state_dict": {}}, path)
    return str(path)


def task(**hparams: Any) -> Any:
    return SimpleNamespace(hparams=hparams)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/me/runs/a/version_3", "a/version_3"),
        ("/me/runs/a/version_3/checkpoints/best.ckpt", "a/version_3/best.ckpt"),
        *(("/me/teacher.pth", "teacher.pth"), ("/me/models/fer2013-a", "fer2013-a")),
    ],
)
def test_a_file_is_named_without_telling_where_it_lies(path: str, shown: str) -> None:
    assert _shown(path) == shown


def test_what_is_not_known_of_the_weights_that_training_starts_from() -> None:
    def unknown(given: Any) -> list[tuple[str, ...]]:
        return [record.unknown for record in _origin(given)]

    timm = task(backbone="resnet18", pretrained=True)
    assert unknown(task(backbone="fer_a")) == unknown(task(backbone="resnet18", pretrained=False)) == []
    assert unknown(task(backbone="hf:/me/vit", pretrained=True)) == [("weights of vit",)]
    assert unknown(timm) == [("timm resnet18",)]
    for config, name in (
        *(({"architecture": "resnet18x", "tag": "a1_in1k"}, "resnet18x.a1_in1k"), ({"tag": "a"}, "resnet18.a")),
        *(({"architecture": "x", "tag": ""}, "x"), (None, "resnet18")),
    ):
        timm.classifier = SimpleNamespace(backbone=SimpleNamespace(pretrained_cfg=config))
        assert unknown(timm) == [(f"timm {name}",)]


def test_weights_teachers_and_soft_labels_say_what_they_were_trained_on(tmp_path: Path) -> None:
    run, odd = tmp_path / "runs/t/version_2", tmp_path / "odd.pth"
    best = written(run / "checkpoints/best.ckpt", TrainedOn(numbers(3, 5), numbers(7), ("timm x",)))
    last = written(run / "checkpoints/resume.ckpt", TrainedOn(numbers(11)))
    torch.save({"weight": torch.zeros(1)}, odd)

    def told(records: Any) -> list[tuple[list[int], list[int], tuple[str, ...]]]:
        return [(record.train.tolist(), record.val.tolist(), record.unknown) for record in records]

    of_best, of_last = told([TrainedOn(numbers(3, 5), numbers(7), ("timm x",)), TrainedOn(numbers(11))])
    assert told(_origin(task(backbone="hf:x", pretrained=True, weights=last))) == [of_last]
    assert told(_origin(task(weights=str(run)))) == [of_best]
    assert told(_origin(task(weights=str(odd)))) == [([], [], ("weights odd.pth",))]
    assert told(_teachers(task(teacher=None))) == told(_teachers(task())) == []
    assert told(_teachers(task(teacher=best))) == [of_best]
    assert told(_teachers(task(teacher=[last, str(odd), str(run)]))) == [
        of_last,
        ([], [], ("teacher odd.pth",)),
        of_best,
    ]
    (run / "test").mkdir()
    for name in ("runs/t/version_2/test/predictions.csv", "mine/soft.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = [str(run / "test/predictions.csv"), str(tmp_path / "mine/soft.csv")]
    data: Any = SimpleNamespace(soft_label_files=files)
    assert told(_soft_labels(data)) == [of_best, ([], [], ("soft labels soft.csv",))]


def test_a_run_is_chosen_on_its_validation_and_its_focus_part() -> None:
    table = StripesDataModule(focus_fraction=0.25).table
    assert len(table.rows(FOCUS))
    record = _of_table(table)
    chosen = [*table.rows("val"), *table.rows(FOCUS)]
    assert record.train.tolist() == sorted(digest_numbers(table.digests[table.rows("train")]).tolist())
    assert record.val.tolist() == sorted(digest_numbers(table.digests[chosen]).tolist())
    assert record.unknown == ()


def started(callback: TrainedImages, given: Any, data: Any, rank: int = 0) -> EvaluationReport:
    report = EvaluationReport()
    trainer: Any = SimpleNamespace(datamodule=data, callbacks=[report], is_global_zero=rank == 0)
    callback.on_fit_start(trainer, given)
    return report


def test_a_record_is_of_the_run_and_of_all_that_it_learns_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = StripesDataModule()
    own = _of_table(data.table)
    known = written(tmp_path / "known.ckpt", TrainedOn(own.val[:3], own.val[3:5], ("timm x",)))
    callback = TrainedImages()
    report = started(callback, task(weights=known), data)
    assert capsys.readouterr().out == (
        "seen         the weights or teachers of this run were trained on 3 of the 28 validation images: scores on "
        "these are too good\n"
    )
    assert report.trained_on is callback.record
    assert callback.record.train.tolist() == sorted({*own.train.tolist(), *own.val[:3].tolist()})
    assert (callback.record.val.tolist(), callback.record.unknown) == (own.val.tolist(), ("timm x",))
    started(callback, task(weights=known), data, rank=1)
    started(callback, task(), data)
    assert capsys.readouterr().out == ""
    assert callback.record.train.tolist() == own.train.tolist()
    checkpoint: dict[str, Any] = {}
    nothing: Any = None
    callback.on_save_checkpoint(nothing, nothing, checkpoint)
    assert len(checkpoint[TRAINED_ON_KEY]["train"]) == 84
    callback.digests = False
    callback.on_save_checkpoint(nothing, nothing, checkpoint)
    assert len(checkpoint[TRAINED_ON_KEY]["train"]) == 0
    assert checkpoint[TRAINED_ON_KEY]["unknown"] == ["84 training and 28 validation images whose digests were left out"]


def test_a_run_that_goes_on_takes_over_what_its_checkpoint_says(tmp_path: Path) -> None:
    data, nothing = StripesDataModule(), SimpleNamespace()
    odd = tmp_path / "odd.pth"
    torch.save({"weight": torch.zeros(1)}, odd)

    def went_on(content: dict[str, Any], fn: str = "fit") -> TrainedOn:
        callback, module = TrainedImages(), nothing
        where: Any = SimpleNamespace(
            state=SimpleNamespace(fn=fn), ckpt_path="/me/runs/a/version_1/checkpoints/resume.ckpt"
        )
        callback.on_load_checkpoint(where, module, content)  # type: ignore[arg-type]
        started(callback, task(weights=str(odd), teacher=str(odd)), data)
        return callback.record

    record = went_on({TRAINED_ON_KEY: TrainedOn(numbers(3), numbers(5), ("timm x",)).state()})
    assert 3 in record.train
    assert 5 in record.val
    assert record.unknown == ("timm x", "teacher odd.pth")  # the weights counted when the run began
    assert went_on({}).unknown == ("the start of a/version_1/resume.ckpt", "teacher odd.pth")
    assert went_on({}, "test").unknown == ("weights odd.pth", "teacher odd.pth")
