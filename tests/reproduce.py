"""Train a released model and compare it with its card: ``python -m tests.reproduce MODEL --data.root DIR``.

MODEL is ``a``, ``b`` or ``nano``; all other options are given to ``fer fit``. A run that was stopped goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_lightning.__main__ import main
from fer_lightning.runs.checkpoint import BEST, find_checkpoint, run_folder_of
from fer_lightning.runs.model_folder import read_values, released

SCORES = {"accuracy": "accuracy", "f1_macro": "macro F1"}


def reproduce(model: str, options: Sequence[str], root: Path = Path("runs")) -> list[str]:
    """Train a released model as its config says, evaluate it on the validation split, and return lines to print.

    Raises:
        SystemExit: if training or evaluation ends with an error, which was printed.
    """
    name, place = f"fer2013_{model}_released", f"--trainer.default_root_dir={root}"
    for command in (
        ["fit", "--config", f"released/fer2013_{model}", "--ckpt_path=auto", place, *options],
        ["validate", "--ckpt_path=best", f"--name={name}", place],
    ):
        if code := main(command):
            raise SystemExit(code)
    run = run_folder_of(find_checkpoint("best", root, name, BEST))
    assert run is not None  # the training made it
    folder = released().get(f"fer2013-{model}")
    card = {} if folder is None else read_values(folder).get("metrics", {}).get("val", {})
    return beside(json.loads((run / "validate/report.json").read_text(encoding="utf-8")), card)


def beside(here: Mapping[str, Any], card: Mapping[str, Any]) -> list[str]:
    """Return the scores of a model trained here beside those on its card, in percent."""
    if not card:
        return [f"{title:9} {100 * here[score]:.2f} here; no card has it" for score, title in SCORES.items()]
    lines = []
    for score, title in SCORES.items():
        ends = card.get(f"{score}_ci95")
        interval = f" ({100 * ends[0]:.2f} to {100 * ends[1]:.2f})" if ends else ""
        own, known = 100 * here[score], 100 * card[score]
        lines.append(f"{title:9} {own:.2f} here, {known:.2f}{interval} on the card: {own - known:+.2f}")
    if here["n"] != card["n"]:
        lines.append(f"not comparable: {here['n']:,} images here, {card['n']:,} on the card")
    return lines


if __name__ == "__main__":
    print("\n".join(reproduce(sys.argv[1], sys.argv[2:])))
