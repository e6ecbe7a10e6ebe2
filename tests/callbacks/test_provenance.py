from __future__ import annotations

import pytest

from fer_lightning.callbacks.provenance import command_line


def test_a_module_that_is_run_is_called_by_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/env/lib/fer_lightning/__main__.py", "test", "--ckpt_path", "last"])
    assert command_line() == "fer test --ckpt_path last"
    monkeypatch.setattr("sys.argv", ["/home/me/study.py", "--seed", "1"])
    assert command_line() == "study.py --seed 1"
