"""The files under ``configs/``, and what a test must say to run them."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.vit_folder import write_vit_folder

CONFIGS = Path(__file__).parents[2] / "configs"
COMPLETE = [
    CONFIGS / "quickstart.yaml",
    *sorted(CONFIGS.glob("experiment/*.yaml")),
    *sorted(CONFIGS.glob("released/*.yaml")),
    *sorted(CONFIGS.glob("reports/*.yaml")),
]
"""Those that ``fer fit --config`` takes alone."""

QUIET = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--report.pictures=false",
]
_HEAVY = ("vgg16", "vit")


def names(paths: list[Path]) -> list[str]:
    """Return paths relative to ``configs/``."""
    return [str(path.relative_to(CONFIGS)) for path in paths]


def is_heavy(config: str) -> bool:
    """Tell whether a network has a hundred million parameters or so."""
    return any(word in config for word in _HEAVY) and "hf_folder" not in config


def start_of(config: str, folder: Path) -> list[str]:
    """Return the flags for what a config names beside the data: no probabilities of FER2013; a tiny folder of a ViT."""
    if config.startswith("released/"):
        return ["--data.soft_label_file=null", "--data.soft_label_weight=1", "--model.compile=false"]
    return [f"--model.backbone=hf:{write_vit_folder(folder / 'vit')}"] if "hf_folder" in config else []
