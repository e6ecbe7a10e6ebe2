"""Every YAML under configs/ is parsed, instantiated and run for one step on fake data."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.cli import fer
from tests.helpers.sets import write_set

CONFIGS = Path(__file__).parents[1] / "configs"
COMPLETE = [CONFIGS / "quickstart.yaml", *sorted((CONFIGS / "experiment").glob("*.yaml"))]
HEAVY = ("vgg16",)
ONE_STEP = [
    "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", "--trainer.precision=32-true",
    "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--data.batch_size=4",
]  # fmt: skip


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(CONFIGS)) for path in paths]


def run(data: list[str], *arguments: str) -> int:
    return fer("fit", *arguments, *data, *ONE_STEP)


@pytest.fixture(scope="module")
def fer2013(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_set("fer2013", tmp_path_factory.mktemp("fer2013"))


@pytest.mark.parametrize(
    "config",
    [pytest.param(name, marks=[pytest.mark.slow] * any(word in name for word in HEAVY)) for name in names(COMPLETE)],
)
def test_an_experiment_runs(config: str, tmp_path: Path) -> None:
    data = write_set(Path(config).stem.partition("_")[0], tmp_path)
    assert run(data, f"--config={CONFIGS / config}") == 0


@pytest.mark.parametrize("config", names(sorted((CONFIGS / "data").glob("*.yaml"))))
def test_a_data_fragment_runs(config: str, tmp_path: Path) -> None:
    data = write_set(Path(config).stem, tmp_path)
    assert run(data, f"--data={CONFIGS / config}", "--model.backbone=resnet10t") == 0


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(name, marks=[pytest.mark.slow] * any(word in name for word in HEAVY))
        for name in names(sorted((CONFIGS / "model").glob("*.yaml")))
    ],
)
def test_a_model_fragment_runs(config: str, fer2013: list[str]) -> None:
    data = CONFIGS / "data" / "fer2013.yaml"
    assert run(fer2013, f"--data={data}", f"--model={CONFIGS / config}") == 0


@pytest.mark.parametrize("config", names(sorted((CONFIGS / "trainer").glob("*.yaml"))))
def test_a_trainer_fragment_runs(config: str, fer2013: list[str]) -> None:
    experiment = CONFIGS / "experiment" / "fer2013_b.yaml"
    assert run(fer2013, f"--config={experiment}", f"--trainer={CONFIGS / config}") == 0


def test_every_fragment_is_used_or_named() -> None:
    text = "".join(path.read_text() for path in COMPLETE) + (CONFIGS / "README.md").read_text()
    fragments = [path for room in ("data", "model", "trainer") for path in (CONFIGS / room).glob("*.yaml")]
    assert [path.name for path in fragments if path.name not in text] == []
