from __future__ import annotations

import pytest

from fer_lightning.cli.functions import run_function
from fer_lightning.commands import Command
from fer_lightning.errors import ConfigError
from fer_lightning.text import folded


def count(rows: int, name: str = "a") -> int:
    """Count.

    Args:
        rows: how many.
        name: of what.
    """
    return rows if name == "a" else 0


def test_flags_come_from_the_signature() -> None:
    assert run_function("count", count, ["--rows", "3"]) == 3
    assert run_function("count", count, ["--rows=3", "--name=b"]) == 0


@pytest.mark.parametrize("args", [[], ["--rows", "three"], ["--rows=1", "--nam=b"], ["--rows=1", "extra"]])
def test_wrong_flags_are_folded(args: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        run_function("count", count, args)
    assert "\n" not in str(caught.value)


def test_a_command_finds_its_function() -> None:
    command = Command("tests.cli.test_functions", "count", "counts")
    assert command.run(["--rows=2"]) == 2
    raw = Command("tests.cli.test_functions", "length", "counts", raw=True)
    assert raw.run(["a", "b"]) == 2


def length(args: list[str]) -> int:
    return len(args)


def test_folding() -> None:
    assert folded(" a\n\n  b ") == "a b"
