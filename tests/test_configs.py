"""Every YAML under configs/ is parsed, instantiated and run for one step on fake data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.cli import fer
from tests.helpers.configs import COMPLETE, CONFIGS, QUIET, is_heavy, names, start_of
from tests.helpers.sets import set_of, write_set

ONE_STEP = [*QUIET, "--trainer.fast_dev_run=true", "--trainer.precision=32-true"]
ONE_STEP += ["--data.batch_size=4", "--data.eval_batch_size=4"]

COMPARED = {
    "experiment/fer2013_b_focus": (
        "experiment/fer2013_b",
        {"data.init_args.focus_fraction", "model.prior_correction", "trainer.callbacks"},
    ),
    "reports/adaptive_vit_10_epochs": (
        "reports/adaptive_vit_full",
        {"data.init_args.focus_fraction", "trainer.callbacks"},
    ),
    "reports/adaptive_vit_hf_folder": ("reports/adaptive_vit_10_epochs", {"model.backbone"}),
    "reports/adaptive_vit_100_per_class": (
        "reports/adaptive_vit_full",
        {"data.init_args.per_class", "trainer.log_every_n_steps"},
    ),
    "reports/adaptive_vit_multipliers": (
        "reports/adaptive_vit_full",
        {"data.init_args.class_multipliers.fear", "data.init_args.class_multipliers.sad"},
    ),
    "reports/compact_mobilenet_130k": (
        "reports/compact_resnet_418k",
        {"model.backbone", "model.backbone_args.dropout"},
    ),
    "reports/compact_vgg16": (
        "reports/compact_resnet_418k",
        {"model.backbone", "model.backbone_args.dropout", "model.backbone_args.drop_rate"}
        | {"data.init_args.channels", "model.optimizer.init_args.lr"},
    ),
    "reports/hybrid_256_resnet18_initial": ("reports/hybrid_256_resnet18", {"data.init_args.transform"}),
    "reports/hybrid_256_efficientnet_b0": ("reports/hybrid_256_resnet18", {"model.backbone"}),
    "reports/hybrid_256_mobilenetv3_rw": ("reports/hybrid_256_resnet18", {"model.backbone"}),
    "reports/hybrid_256_mobilenetv3_large_100": ("reports/hybrid_256_resnet18", {"model.backbone"}),
    "reports/hybrid_256_mobilenetv3_small_100": ("reports/hybrid_256_resnet18", {"model.backbone"}),
}
"""Configs that are meant for comparison: with which other one, and in which keys alone they differ."""


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def written_out(config: str) -> dict[str, Any]:
    """Return what a complete config and its fragments say, by dotted key."""
    path = CONFIGS / config
    values = yaml.safe_load(path.read_text())
    for part in ("data", "model", "trainer"):
        if isinstance(values[part], str):
            values[part] = yaml.safe_load((path.parent / values[part]).read_text())
    return flat(values)


def run(data: list[str], *arguments: str) -> int:
    return fer("fit", *arguments, *data, *ONE_STEP)


@pytest.fixture(scope="module")
def fer2013(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_set("fer2013", tmp_path_factory.mktemp("fer2013"))


@pytest.mark.parametrize(
    "config",
    [pytest.param(name, marks=[pytest.mark.slow] * is_heavy(name)) for name in names(COMPLETE)],
)
def test_an_experiment_runs(config: str, tmp_path: Path) -> None:
    data = write_set(set_of(CONFIGS / config), tmp_path)
    assert run(data, f"--config={CONFIGS / config}", *start_of(config, tmp_path)) == 0


@pytest.mark.parametrize("config", names(COMPLETE))
def test_an_experiment_names_no_key_over_a_fragment(config: str) -> None:
    # `model: FILE` and `model.backbone: NAME` beside it would silently drop everything else that FILE says
    assert [key for key in yaml.safe_load((CONFIGS / config).read_text()) if "." in key] == []


@pytest.mark.parametrize("config", list(COMPARED))
def test_compared_experiments_differ_in_nothing_else(config: str) -> None:
    other, keys = COMPARED[config]
    one, two = written_out(f"{config}.yaml"), written_out(f"{other}.yaml")
    assert {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)} == {"name", *keys}


def test_a_cosine_ends_with_the_run() -> None:
    key = "model.lr_scheduler.init_args.T_max"
    cosines = [values for values in map(written_out, names(COMPLETE)) if key in values]
    assert len(cosines) >= 6
    assert [values["name"] for values in cosines if values[key] != values["trainer.max_epochs"]] == []


@pytest.mark.parametrize("config", names(sorted((CONFIGS / "data").glob("*.yaml"))))
def test_a_data_fragment_runs(config: str, tmp_path: Path) -> None:
    data = write_set(Path(config).stem, tmp_path)
    assert run(data, f"--data={CONFIGS / config}", "--model.backbone=resnet10t") == 0


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(name, marks=[pytest.mark.slow] * is_heavy(name))
        for name in names(sorted((CONFIGS / "model").glob("*.yaml")))
    ],
)
def test_a_model_fragment_runs(config: str, fer2013: list[str]) -> None:
    data = CONFIGS / "data" / "fer2013.yaml"
    assert run(fer2013, f"--data={data}", f"--model={CONFIGS / config}") == 0


@pytest.mark.parametrize("config", names(sorted((CONFIGS / "trainer").glob("*.yaml"))))
def test_a_trainer_fragment_runs(config: str, fer2013: list[str]) -> None:
    experiment = CONFIGS / "experiment" / "fer2013_b.yaml"
    focus = "--data.focus_fraction=0.2"  # which focus.yaml needs
    assert run(fer2013, f"--config={experiment}", f"--trainer={CONFIGS / config}", focus) == 0


@pytest.mark.parametrize("config", names(sorted((CONFIGS / "focus").glob("*.yaml"))))
def test_an_arm_of_class_focus_runs(config: str, fer2013: list[str]) -> None:
    experiment = CONFIGS / "experiment" / "fer2013_b.yaml"
    assert run(fer2013, f"--config={experiment}", f"--config={CONFIGS / config}", "--data.focus_fraction=0.2") == 0


@pytest.mark.parametrize("config", names(sorted((CONFIGS / "groups").glob("*.yaml"))))
def test_an_arm_of_a_comparison_of_groups_runs(config: str, tmp_path: Path) -> None:
    data = [*write_set("sketch", tmp_path), "--data.groups=[skin_tone, age_group]"]
    assert run(data, f"--config={CONFIGS / 'quickstart.yaml'}", f"--config={CONFIGS / config}") == 0


ROOMS = ("data", "model", "trainer", "focus", "groups")


def test_every_fragment_is_used_or_named() -> None:
    text = "".join(path.read_text() for path in COMPLETE) + (CONFIGS / "README.md").read_text()
    fragments = [path for room in ROOMS for path in (CONFIGS / room).glob("*.yaml")]
    assert [path.name for path in fragments if path.name not in text] == []
