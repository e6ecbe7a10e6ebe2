from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fer_lightning.cli.stored_callbacks import names_callbacks, with_callback_options
from fer_lightning.errors import ConfigError
from tests.helpers.cli import fer, fit
from tests.test_ends import STOPS


def stored(*callbacks: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"trainer": {"callbacks": [{"class_path": f"a.{name}", "init_args": given} for name, given in callbacks]}}


def test_an_option_is_set_in_the_callback_that_has_it() -> None:
    config = stored(("EMA", {"decay": 0.9}), ("EarlyStopping", {"patience": 3, "extra": {"deep": 1}}))
    args = ["--name=x", "--trainer.callbacks.patience", "5", "--trainer.callbacks.extra.deep=2", "--seed_everything=1"]
    assert with_callback_options(args, config) == ["--name=x", "--seed_everything=1"]
    assert config == stored(("EMA", {"decay": 0.9}), ("EarlyStopping", {"patience": 5, "extra": {"deep": 2}}))


def test_one_callback_that_is_no_list_and_one_without_arguments() -> None:
    bare: dict[str, Any] = {"class_path": "a.B", "init_args": None}
    own: dict[str, Any] = {"class_path": "a.C", "init_args": {"patience": 1}}
    for callbacks in (own, [bare, {"class_path": "a.D"}, own]):
        assert with_callback_options(["--trainer.callbacks.patience=2"], {"trainer": {"callbacks": callbacks}}) == []
        assert own["init_args"].pop("patience") == 2
        own["init_args"]["patience"] = 1


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (stored(("EMA", {"decay": 0.9})), "the callbacks of this run are: EMA"),
        (
            stored(("A", {"patience": 1}), ("C", {"decay": 1}), ("B", {"patience": 2})),
            "several callbacks of this run have it: A, B",
        ),
        ({"trainer": {"callbacks": None}}, "this run has none"),
    ],
)
def test_an_option_that_is_not_clear_says_how_to_name_the_callback(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=rf"{told}; write --trainer\.callbacks\+=CLASS before it"):
        with_callback_options(["--trainer.callbacks.patience=5"], config)


@pytest.mark.parametrize("argument", ["-c", "--config=a.yaml", "--trainer.callbacks+=EMA", "--trainer.callbacks=EMA"])
def test_callbacks_may_be_named(argument: str) -> None:
    assert names_callbacks(["--name=x", argument])
    assert not names_callbacks(["--name=x", "--trainer.callbacks.patience=5", "--configured=1"])


def test_more_patience_on_resume_is_said_and_has_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, *STOPS, epochs=4) == 0
    run = ["fit", "--ckpt_path", str(tmp_path / "tiny/version_0")]
    assert fer(*run, "--trainer.callbacks.patience=2") == 0
    assert "trainer.callbacks.EarlyStopping.patience 1 -> 2" in capsys.readouterr().out
    assert len((tmp_path / "tiny/version_0/metrics.csv").read_text().splitlines()) == 4  # header, three epochs
    assert fer(*run, "--trainer.callbacks.decay=2") == 2
    assert "the callbacks of this run are: EarlyStopping; write --trainer.callbacks+=CLASS" in capsys.readouterr().err
