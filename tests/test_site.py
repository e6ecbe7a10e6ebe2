"""The documentation: its links, its generated pages, and every command in it."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from fer_lightning.__main__ import TRAINER_VERBS
from fer_lightning.cli.early_check import check_command_line
from fer_lightning.cli.named_configs import with_config_files
from fer_lightning.cli.verbs import read_arguments
from fer_lightning.commands import COMMANDS, Command, Group
from fer_lightning.errors import CheckpointError

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "configs/README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    """Return the lines of ``fer`` in the code blocks of a page, each on one line and without its comment."""
    blocks = re.findall(r"^```(?:sh|bash)?\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [re.sub(r"\s+#.*", "", line.strip().removeprefix("$ ").removeprefix("srun ")) for line in lines]
    return [line for line in found if re.match(r"fer [a-z]", line)]


_MEANT = {"FILE": "quickstart", "CLASS": "fer_a"}
_CONFIG = "data: data/sketch.yaml\nmodel: model/fer_b_fast.yaml\n"
COMMANDS_SHOWN = sorted({(page, line) for page in PAGES for line in commands(page)}, key=str)


def function_of(words: list[str]) -> tuple[str, Callable[..., Any], list[str]]:
    command = COMMANDS[words[0]]
    name, rest = words[0], words[1:]
    if isinstance(command, Group):
        name, command, rest = f"{name} {rest[0]}", command.verbs[rest[0]], rest[1:]
    assert isinstance(command, Command)
    module, _, function = command.function.partition(":")
    return name, getattr(import_module(module), function), rest


@pytest.mark.parametrize(("page", "line"), COMMANDS_SHOWN, ids=lambda value: getattr(value, "name", value))
def test_every_command_is_understood(page: Path, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    verb, *words = shlex.split(line)[1:]
    words = [_MEANT.get(word, word) for word in words]
    words = [word for before, word in pairwise(["", *words]) if word != "..." or before == "--config"]
    words = with_config_files(["quickstart" if word == "..." else word for word in words])
    for word in words:  # what a reader has
        if re.fullmatch(r"[\w.]+(/[\w.]+)*", word) and not word.startswith("-") and word != "best":
            place = tmp_path / word
            is_file = place.suffix in (".yaml", ".csv")
            if not place.exists() and (is_file or word.isupper() or "/" in word or word in ("faces", "mine", "own")):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(_CONFIG) if is_file else place.mkdir()
    if verb in TRAINER_VERBS:
        assert verb == "fit" or "--ckpt_path" in words
        with suppress(CheckpointError):  # the run is not there
            check_command_line(verb, words, complete="..." not in line)
    else:
        name, function, rest = function_of([verb, *words])
        read_arguments(name, function, rest)


def test_the_site_is_put_together(tmp_path: Path) -> None:
    build = runpy.run_path(str(ROOT / "docs/build_site.py"))["build"]
    build(tmp_path / "site")
    site = tmp_path / "site"
    assert "`trainer.max_epochs`" in (site / "keys.md").read_text()
    assert "### fer recognize" in (site / "verbs.md").read_text()
    assert "::: fer_lightning.inference.recognizer.Recognizer" in (site / "api.md").read_text()
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text().replace("!!", ""))["nav"]
    pages = [page for section in nav for each in section.values() for page in each]
    listed = {page if isinstance(page, str) else next(iter(page.values())) for page in pages}
    assert listed == {path.relative_to(site).as_posix() for path in site.rglob("*.md")}
    for path in site.rglob("*.md"):
        for link in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
            assert link.startswith("http") or (path.parent / link).exists(), f"{path.name}: {link}"


class Shown:
    """Has a gap.

    Args:
        told: is told.
    """

    def __init__(self, told: int, untold: int) -> None: ...

    def method(self) -> None: ...

    @property
    def value(self) -> int:
        """Is told."""
        return 0


def test_a_gap_in_the_api_is_named() -> None:
    undocumented = runpy.run_path(str(ROOT / "docs/build_site.py"))["undocumented"]
    assert undocumented(Shown) == ["Shown(untold)", "Shown.method"]
    assert undocumented(commands) == ["commands(page)"]
    assert undocumented(function_of) == ["function_of", "function_of(words)"]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "checkpoints/README.md"], ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert link.startswith("http") or (page.parent / link).exists(), link
