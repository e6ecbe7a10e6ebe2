from __future__ import annotations

from pathlib import Path

import pytest

from fer_lightning.cli.trainer_cli import FERCLI
from fer_lightning.errors import ConfigError
from fer_lightning.studies.rehearsal import config_values, rehearsed
from tests.helpers.cli import TINY
from tests.helpers.data import StripesDataModule


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: StripesDataModule) -> None:
        raise AssertionError("data was read")

    monkeypatch.setattr(StripesDataModule, "scan", read)


@pytest.mark.usefixtures("unread")
def test_a_command_line_is_parsed_without_beginning_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [*TINY, "--trainer.precision=null", "--trainer.max_epochs=3", "--mlflow=true"]
    cli = rehearsed([*arguments, "--trainer.accelerator=gpu", "--trainer.devices=8"])
    values = config_values(cli)
    assert (values["trainer"]["accelerator"], values["trainer"]["devices"]) == ("gpu", "8")
    assert (values["trainer"]["fast_dev_run"], values["trainer"]["precision"]) == (False, None)
    assert "ckpt_path" not in values
    assert not hasattr(FERCLI("fit", arguments), "trainer")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--data.batch_size=0", "batch_size must be"),
        ("--trainer.gradient_clip_algorithm=sum", "gradient_clip_algorithm"),
    ],
)
def test_what_is_wrong_is_one_line(argument: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        rehearsed([*TINY, argument])
    assert "\n" not in str(caught.value)
