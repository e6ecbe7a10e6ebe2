from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_lightning.runs.trained_on import TrainedOn
from tests.helpers.cli import fer
from tests.inference.helpers import CALIBRATION, tiny_model


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, ...]]:
    """Return what the functions behind ``fer export`` are called with."""
    model = tiny_model()
    found: dict[str, tuple[Any, ...]] = {"model": (model,)}
    model.card = replace(model.card, licence="that of the data")

    def spy(name: str, result: Any) -> Any:
        def call(*args: Any) -> Any:
            found[name] = args
            return result

        return call

    monkeypatch.setattr("fer_lightning.inference.facts.load_model", spy("load", model))
    monkeypatch.setattr("fer_lightning.inference.export.package.export", spy("export", []))
    monkeypatch.setattr("fer_lightning.inference.export.package.export_table", lambda checks: ["form  size"])
    monkeypatch.setattr("fer_lightning.inference.export.samples.samples_of", spy("samples", "samples"))
    monkeypatch.setattr("fer_lightning.cli.data_set.data_module", spy("data", "data"))
    return found


def test_a_model_is_exported_under_the_name_of_its_folder(
    called: dict[str, tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fer("export", "run", "--out=a/small") == 0
    assert called["load"] == ("run", Path("runs"))
    model, *rest = called["export"]
    assert rest == [Path("a/small"), None, True]
    assert (model.card.name, model.card.licence) == ("small", "that of the data")
    assert capsys.readouterr().out == "form  size\nmodel folder: a/small\n"
    assert "data" not in called


def test_digests_of_the_training_images_can_stay_private(called: dict[str, tuple[Any, ...]]) -> None:
    for option, count in ((), 3), (("--digests=false",), 0):
        called["model"][0].trained_on = TrainedOn(np.arange(3, dtype=np.uint64))
        assert fer("export", "run", "--out=small", *option) == 0
        record = called["export"][0].trained_on
        assert (len(record.train), len(record.unknown)) == (count, int(count == 0))


def test_views_are_chosen_where_they_are_given(called: dict[str, tuple[Any, ...]]) -> None:
    for given, wanted in (([], None), (["--views=flip"], "flip"), ([], "flip"), (["--views=none"], "none")):
        assert fer("export", "run", "--out=small", *given) == 0
        model = called["export"][0]
        assert model.architecture.get("views") == wanted
        assert model.backend.network.views == (wanted or "none")


def test_a_calibration_of_other_views_is_left_out(
    called: dict[str, tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    (model,) = called["model"]
    model.calibration = CALIBRATION
    for views, kept in (("none", True), ("flip", False)):
        assert fer("export", "run", "--out=small", f"--views={views}") == 0
        assert (model.calibration == CALIBRATION) is kept
        assert ("the calibration is left out" in capsys.readouterr().err) is not kept


def test_int8_gets_its_ranges_from_training_images(called: dict[str, tuple[Any, ...]]) -> None:
    assert fer("export", "run", "--out=small", "--int8=faces", "--pt2=false", "--licence=MIT") == 0
    model, *rest = called["export"]
    assert rest == [Path("small"), "samples", False]
    assert model.card.licence == "MIT"
    assert called["data"] == ("fer export --int8", "faces", [])
    assert called["samples"][:2] == ("data", model)
    images = [called["samples"][2]]
    assert fer("export", "run", "--out=small", "--int8=faces", "--images=9") == 0
    images.append(called["samples"][2])
    assert images == [512, 9]
