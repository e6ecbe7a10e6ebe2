from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fer_lightning.cli.named_configs import shipped_configs
from tests.helpers.cli import fer
from tests.helpers.configs import CONFIGS


def test_every_file_is_listed_with_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("configs", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    told = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line.startswith("  ")}
    assert set(told) == set(shipped_configs())
    assert max(map(len, lines)) < 140


def test_a_file_is_shown_with_its_fragments(capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("configs", "show", "quickstart") == 0
    out = capsys.readouterr().out
    for name in ("quickstart", "data/sketch", "model/fer_b_fast"):
        assert (CONFIGS / f"{name}.yaml").read_text().rstrip() in out


def test_a_copy_holds_all_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # what is the same already is no mistake
        assert fer("configs", "copy", "experiment/fer2013_a", "mine") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "use it: fer fit --config mine/experiment/fer2013_a.yaml"
    copied = sorted(path.relative_to(tmp_path / "mine").as_posix() for path in (tmp_path / "mine").rglob("*.yaml"))
    assert copied == ["data/fer2013.yaml", "experiment/fer2013_a.yaml", "model/fer_a.yaml", "trainer/ema.yaml"]
    values = yaml.safe_load((tmp_path / "mine/experiment/fer2013_a.yaml").read_text())
    assert (tmp_path / "mine/experiment" / values["model"]).is_file()


def test_what_was_changed_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/fer_b_fast.yaml").write_text("backbone: mine\n")
    assert fer("configs", "copy", "quickstart", str(tmp_path)) == 2
    assert "fer_b_fast.yaml is there already and differs" in capsys.readouterr().err
    assert not (tmp_path / "quickstart.yaml").exists()


def test_a_misspelt_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("configs", "show", "experiment/fer2031_a") == 2
    assert "did you mean 'experiment/fer2013_a'?" in capsys.readouterr().err
