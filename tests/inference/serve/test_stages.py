"""Stage by stage, Python and the page make the same of a picture: both are compared with ``stages.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from fer_lightning.inference.serve import page
from tests.inference.serve.browser import Visit, browsing, files_served
from tests.inference.serve.stages import FILE, stages

STAGES = json.loads(FILE.read_text())
LEVEL: dict[str, dict[str, float]] = {
    "found": {"inputs": 1 / 127 + 1e-3, "boxes": 0.02, "eyes": 0.02},
    "cut": {"red": 4},
}
"""What may differ as OpenCV rounds its own way: a gray level of a detector's input, some at edges of what is turned."""

SCRIPT = FILE.with_suffix(".js").read_text()


@pytest.fixture(scope="module")
def visit() -> Iterator[Visit]:
    """The page's own files, without the runtime, a detector and a network."""
    with files_served(Path(page.__file__).parent / "page") as address, browsing() as visit:
        yield visit(f"{address}NOTICE.txt")


def check(stage: str, number: int, made: dict[str, list[float]], error: dict[str, float]) -> None:
    for name, values in made.items():
        wanted = STAGES[stage][number]["made"][name]
        assert values == pytest.approx(wanted, abs=error.get(name, 1e-4)), (stage, number, name)


@pytest.mark.parametrize("stage", STAGES)
def test_python_makes_of_each_stage_what_it_did(stage: str) -> None:
    cases = stages()[stage]
    assert len(cases) == len(STAGES[stage])
    for number, case in enumerate(cases):
        check(stage, number, case["made"], {})


def test_the_page_makes_of_each_stage_what_python_does(visit: Visit) -> None:
    found = visit.page.evaluate(SCRIPT, STAGES)
    assert set(found) == set(STAGES)
    for stage, cases in found.items():
        for number, made in enumerate(cases):
            check(stage, number, made, LEVEL.get(stage, {}))
