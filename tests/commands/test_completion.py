from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fer_lightning.commands.completion import completion, options_of_verbs


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("completion") / "fer.bash"


def completed(script: Path, *words: str) -> set[str]:
    """Return what bash offers for the last word."""
    quoted = " ".join(f"'{word}'" for word in ("fer", *words))
    code = f'. {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _fer; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_verbs_options_and_configs_are_completed(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    completion()
    script.write_text(capsys.readouterr().out)
    assert completed(script, "co") == {"compare", "completion", "configs"}
    assert completed(script, "data", "") == {"inspect", "dedupe", "convert", "balance", "framing"}
    assert completed(script, "recognize", "--w") == {"--window"}
    assert completed(script, "runs", "list", "--s") == {"--sort"}
    assert completed(script, "fit", "--config", "quick") == {"quickstart"}


def test_what_is_passed_on_is_no_option() -> None:
    assert not [option for options in options_of_verbs().values() for option in options if "of_" in option]
