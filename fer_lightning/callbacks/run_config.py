"""The configuration of a run: a file in its folder, and a part of its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from fer_lightning.files import write_atomically
from fer_lightning.runs.checkpoint import CONFIG_KEY
from fer_lightning.runs.folder import CONFIG, config_files

__all__ = ["RunConfig", "config_text"]


def config_text(parser: LightningArgumentParser, config: Namespace) -> str:
    """Return a parsed configuration as YAML, with the keys that are ``null`` and without those that links fill in."""
    text: str = parser.dump(config, skip_none=False, skip_link_targets=True, skip_check=True)  # parsing has checked it
    return text


class RunConfig(SaveConfigCallback):
    """Writes ``config.yaml`` into the run's folder and the same values into its checkpoints.

    A resumed run whose values differ from those of the newest file writes another one, ``config_2.yaml`` and so on, so
    that the highest number is always that of the last start. The checkpoint path is left out, so that running the file
    again starts a run and does not resume one.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace, **options: Any) -> None:
        super().__init__(parser, config, save_to_log_dir=False, **options)
        shown = config.clone()
        shown["ckpt_path"] = None
        if "allow_changed_data" in shown:
            shown["allow_changed_data"] = False  # it applies to one start only
        self.text = config_text(parser, shown)
        values = yaml.safe_load(self.text)
        values.pop("ckpt_path", None)
        self.values: dict[str, Any] = values

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file, on the first process only."""
        self.write(Path(trainer.default_root_dir))

    def write(self, folder: Path) -> None:
        """Write the file into a run folder, unless its newest says the same."""
        files = config_files(folder)
        newest = max(files, default=0)
        if not files or files[newest].read_text(encoding="utf-8") != self.text:
            write_atomically(folder / (f"config_{newest + 1}.yaml" if files else CONFIG), self.text)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the configuration to a checkpoint."""
        checkpoint[CONFIG_KEY] = self.values
