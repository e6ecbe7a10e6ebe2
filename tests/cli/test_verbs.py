from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from fer_lightning.cli.verbs import Rest, _taken_apart, chosen_verb, read_arguments, run_function
from fer_lightning.commands import COMMANDS, Command, Group
from fer_lightning.errors import ConfigError
from fer_lightning.text import folded


def count(*, rows: int, name: str = "a") -> int:
    """Count.

    Args:
        rows: how many.
        name: of what.
    """
    return rows if name == "a" else 0


def measure(
    paths: Annotated[tuple[Path, ...], "PATH"] = (),
    *,
    scale: float = 1.0,
    limit: Annotated[int | None, "N", "-n"] = None,
    at_least: int = 0,
    mirrored: bool = False,
    near: bool = True,
    to: Literal["csv", "json"] = "csv",
    skip: tuple[str, ...] = (),
) -> None:
    """Measure 100 % of many things, in a sentence that is long enough to be broken over two lines of a terminal.

    A table:
      name   value

    Args:
        paths: what is measured, files
            or folders.
        scale: of ``all``.
        limit: at most.
        at_least: at least.
        mirrored: count mirrored ones.
        near: count near ones.
        to: the form.
        skip: left out, may be given again.
    """


def passing(
    path: str | None = None, *, fast: bool = False, others: Annotated[list[str], Rest("others", "End.")]
) -> int:
    """Pass on."""
    return 0


def trying(arms: tuple[str, ...], *, fast: bool = False, others: Annotated[list[str], Rest("others")]) -> int:
    """Try."""
    return 0


def measured(*args: str) -> dict[str, Any]:
    return read_arguments("measure", measure, args)


def test_flags_come_from_the_signature() -> None:
    assert run_function("count", count, ["--rows", "3"]) == 3
    assert run_function("count", count, ["--rows=3", "--name=b"]) == 0


@pytest.mark.parametrize("args", [[], ["--rows", "three"], ["--rows=1", "--nam=b"], ["--rows=1", "extra"]])
def test_wrong_flags_are_folded(args: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        run_function("count", count, args)
    assert "\n" not in str(caught.value)


def test_each_type_is_read() -> None:
    assert measured() == {
        "paths": (), "scale": 1.0, "limit": None, "at_least": 0, "mirrored": False, "near": True, "to": "csv",
        "skip": (),
    }  # fmt: skip
    given = measured(
        "a", *["--skip", "x", "b", "--scale=-.5", "--at-least", "-3", "-n", "4", "--skip=y", "c", "--to=json"]
    )
    assert given["paths"] == (Path("a"), Path("b"), Path("c"))
    assert (given["scale"], given["at_least"], given["limit"], given["to"]) == (-0.5, -3, 4, "json")
    assert given["skip"] == ("x", "y")


def test_truth_is_said_in_several_ways() -> None:
    assert measured("--mirrored", "a")["mirrored"] is True
    assert measured("--mirrored", "a")["paths"] == (Path("a"),)
    assert measured("--mirrored", "no", "--near=False") | {} == measured("--near", "false")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--limit", "many"], "expected a whole number, not 'many'"),
        (["--scale=x"], "expected a number, not 'x'"),
        (["--near=perhaps"], "expected true or false, not 'perhaps'"),
        (["--to=xml"], "invalid choice: 'xml'"),
        (["--mirored"], "unrecognized arguments: --mirored; did you mean '--mirrored'?"),
        (["a", "--limit"], "fer measure: --limit needs a value"),
        (["--lim=3"], "unrecognized arguments: --lim=3"),
    ],
)
def test_mistakes_are_one_line(args: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        measured(*args)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "truth"), [("yes", True), ("TRUE", True), ("No", False), ("false", False)])
def test_a_word_of_truth_behind_its_option_is_its_value(text: str, truth: bool) -> None:
    for args in (["--mirrored", text, "a"], [f"--mirrored={text}", "a"], ["a", "--mirrored", text]):
        given = measured(*args)
        assert (given["mirrored"], given["paths"]) == (truth, (Path("a"),))


def test_numbers_below_zero_are_values_and_not_options() -> None:
    given = read_arguments("pass", passing, ["--a", "-1", "--b", "-.5", "--c", "-", "--d", "-1e-3", "--e", "x"])
    assert given["others"] == ["--a", "-1", "--b", "-.5", "--c", "-", "--d", "-1e-3", "--e", "x"]
    assert measured("--scale", "-.5")["scale"] == -0.5

    def of_data(*, options: Annotated[list[str], Rest("options", prefix="--data")]) -> None:
        """Read."""

    for number in ("-.5", "-1", "-"):
        args = ["--data.mean", number]
        assert read_arguments("of", of_data, args)["options"] == args
    with pytest.raises(ConfigError, match="unrecognized arguments: -x"):
        measured("a", "-x")


def test_a_verb_is_found_in_any_case_among_those_of_others() -> None:
    with pytest.raises(ConfigError, match=r"there is no verb 'TRAIN'; did you mean fer fit\? \(verbs: fit\)"):
        chosen_verb(["TRAIN"], {"": {"fit": "train"}}, "{verbs}")
    with pytest.raises(ConfigError, match=r"there is no verb 'data train' \(verbs: inspect\)"):  # a group's are its own
        chosen_verb(["train"], {"": {"inspect": "look"}}, "{verbs}", "data")
    assert chosen_verb(["fit", "--help"], {"": {"fit": "train"}}, "{verbs}") == "fit"


def test_help_shows_ten_options_and_names_the_way_to_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    function = COMMANDS["recognize"]
    assert isinstance(function, Command)
    assert function.run("recognize", ["--help"]) == 0
    short = capsys.readouterr().out
    assert function.run("recognize", ["--help-all"]) == 0
    whole = capsys.readouterr().out
    count = [sum(line.startswith("  --") for line in text.splitlines()) for text in (short, whole)]
    assert count[0] == 10
    assert f"\n{count[1] - 10} more: fer recognize --help-all" in short
    assert "more:" not in whole


def test_a_result_that_is_no_code_is_a_success() -> None:
    def named() -> str:
        """Return a name."""
        return "a"

    assert run_function("named", named, []) == 0


def test_what_a_function_does_not_know_is_passed_on_in_order() -> None:
    given = read_arguments("pass", passing, ["--a.b", "1", "--c=2", "x", "--fast", "--d", "-1", "--e"])
    assert given == {"path": "x", "fast": True, "others": ["--a.b", "1", "--c=2", "--d", "-1", "--e"]}
    given = read_arguments("try", trying, ["x", "y", "--a", "1", "--fast"])
    assert given == {"arms": ("x", "y"), "fast": True, "others": ["--a", "1"]}
    with pytest.raises(ConfigError, match="'y' belongs to no option; arms stand before all options"):
        read_arguments("try", trying, ["x", "--fast", "y"])
    with pytest.raises(ConfigError, match=r"fer try: required: ARMS \(see fer try --help\)"):
        read_arguments("try", trying, ["--fast"])


def test_the_docstring_is_the_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run_function("measure", measure, ["--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: fer measure PATH ... [options]\n")
    assert "Measure 100 % of many things, in a sentence that is long enough to be broken\nover" in out
    assert "A table:\n  name   value\n" in out
    assert "what is measured, files or folders" in " ".join(out.split())
    assert re.findall(r"\(default:[^)]*\)", out) == ["(default: 1.0)", "(default: 0)", "(default: csv)"]
    assert re.search("-n( N)?, --limit N", out)  # from Python 3.13 on without the first N
    assert "of all (default: 1.0)" in out
    assert max(map(len, out.splitlines())) < 80
    assert run_function("pass", passing, ["-h"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: fer pass [PATH] [options] [others]\n")
    assert out.endswith("End.\n")


def test_a_command_finds_its_function() -> None:
    assert Command("tests.cli.test_verbs:count", "counts").run("count", ["--rows=2"]) == 2


ALL = [
    [name, *sub]
    for name, command in COMMANDS.items()
    for sub in ([[], *([verb] for verb in command.verbs)] if isinstance(command, Group) else [[]])
]


@pytest.mark.parametrize("verb", ALL, ids=" ".join)
def test_help_is_there_at_once(verb: list[str]) -> None:
    code = (
        "import sys; from fer_lightning.__main__ import main; code = main([*sys.argv[1:], '--help']);"
        "sys.exit(code or ', '.join({'torch', 'lightning', 'jsonargparse', 'numpy', 'optuna'} & set(sys.modules)) or 0)"
    )
    began = _children_s()
    done = subprocess.run([sys.executable, "-c", code, *verb], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: fer {' '.join(verb)}")
    assert _children_s() - began < 0.5


def _children_s() -> float:
    """Return the processor time of all children that have ended, seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_folding() -> None:
    assert folded(" a\n\n  b ") == "a b"


def test_a_type_is_the_same_as_python_3_10_gives_it() -> None:
    for hint in (Annotated[int | None, "N"], Annotated[int | None, "N"] | None, Annotated[int, "N"] | None):
        assert _taken_apart(hint) == (int, ["N"])
