from __future__ import annotations

import subprocess
import sys

import pytest

from fer_lightning import __version__
from fer_lightning.__main__ import TRAINER_VERBS, main
from fer_lightning.cli.known_options import options_of_data, plain_options
from fer_lightning.cli.trainer_help import FIRST_OPTIONS
from fer_lightning.commands import COMMANDS, SECTIONS


def test_the_overview_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        out = capsys.readouterr().out
        assert all(f"\n  {verb} " in out for verb in (*TRAINER_VERBS, *COMMANDS))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fer_lightning {__version__}\n"


def test_an_unknown_verb_proposes_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fitt"]) == 2
    assert "did you mean 'fit'" in capsys.readouterr().err


def test_the_overview_has_an_example_for_each_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for section, example in SECTIONS.items():
        assert f"\n{section}:    {example}\n" in out
        assert example.split()[1] in (*TRAINER_VERBS, *COMMANDS)


@pytest.mark.parametrize("verb", TRAINER_VERBS)
def test_options_that_matter_first_are_options(verb: str) -> None:
    for option in FIRST_OPTIONS[verb]:
        name = option.split()[0].removeprefix("--")
        known = options_of_data() if name.startswith("data.") else plain_options()
        assert name.removeprefix("data.") in known or name == "model.optimizer.lr"


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(flag: str) -> None:
    heavy = "torch", "lightning", "numpy", "jsonargparse", "matplotlib"
    code = (
        "import sys; from fer_lightning.__main__ import main; main([sys.argv[1]]); "
        f"assert not set(sys.modules) & set({heavy!r}), set(sys.modules) & set({heavy!r})"
    )
    subprocess.run([sys.executable, "-c", code, flag], check=True, stdout=subprocess.DEVNULL, timeout=60)


@pytest.mark.parametrize("verb", TRAINER_VERBS)
def test_each_trainer_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    short = capsys.readouterr().out
    assert short.startswith(f"usage: fer {verb} ")
    assert sum(line.startswith("  --") for line in short.splitlines()) == 10
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help-all"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert f"fer {verb}" in out
    assert "--ckpt_path" in out
    assert "--resume_checkpoint.every_n_steps" in out
