"""Accuracy against size and speed, of models that ``fer bench infer`` has measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fer_lightning.errors import DataError
from fer_lightning.figures import COLORS, house_style
from fer_lightning.text import counted, joined, short_path

__all__ = ["BENCH", "read_speed", "speed_figure", "speed_remarks", "speed_rows"]

BENCH = "bench_infer.json"
"""Name of the file that ``fer bench infer`` writes into the folder of a run or model."""

_WIDTH = 5.2  # inches of a drawing
_MEGABYTE = 1e6
_FORM = "fp32"  # in which evaluations are computed


def read_speed(path: Path, weights: str = "") -> dict[str, Any]:
    """Return what ``fer bench infer`` has written of a model, empty if it has not, or was run on other weights.

    Args:
        path: of the file.
        weights: digest of the model's weights (see ``weights_digest``); empty if it is not known.

    Raises:
        DataError: if the file is damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{short_path(path)} is damaged: {error}; run fer bench infer again") from error
    try:
        for form in values["forms"]:
            _ = float(form["bytes"]), float(form["latency_ms"]["median"]), float(form["faces_per_second"])
        _ = values["parameters"], values["hardware"], values["threads"], values["batch"]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{short_path(path)} is damaged: {error}; run fer bench infer again") from error
    other = weights and values.get("weights") and values["weights"] != weights
    return {} if other else dict(values)


def speed_rows(speeds: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the table of size and speed of models by name, the head first."""
    rows: list[tuple[str, ...]] = [
        ("model", "form", "device", "parameters", "MB", "ms for one face", "95 % below", "faces a second")
    ]
    for name, speed in speeds.items():
        for form in speed["forms"]:
            latency = form["latency_ms"]
            rows.append((
                name,
                form["form"],
                form["device"],
                "n/a" if speed["parameters"] is None else f"{speed['parameters']:,}",
                f"{form['bytes'] / _MEGABYTE:.2f}",
                f"{latency['median']:.2f}",
                f"{latency['p95']:.2f}",
                f"{form['faces_per_second']:,.0f}",
            ))  # fmt: skip
    return rows


def speed_remarks(names: Sequence[str], speeds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return sentences on where models, of which these are the names, were measured, and which were not."""
    missing = [name for name in names if name not in speeds]
    remarks = []
    if missing:
        remarks.append(f"Not measured: {joined(missing)}. `fer bench infer RUN` does it, and this page then shows it.")
    places = {(speed["hardware"], speed["threads"]) for speed in speeds.values()}
    if len(places) == 1:
        [(hardware, threads)] = places
        batch = next(iter(speeds.values()))["batch"]
        remarks.append(
            f"Measured on {hardware} with {counted(threads, 'thread')}; faces a second in batches of {batch}."
        )
    elif places:
        remarks.append("The models were measured on other machines or with other threads: times cannot be compared.")
    return remarks


def speed_figure(found: Mapping[str, Any], speeds: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw the accuracy of a comparison's models (see ``comparison``) against latency and size in float32."""
    with house_style():
        figure = Figure(figsize=(_WIDTH, 3.0), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for number, model in enumerate(found["models"]):
            forms = [form for form in speeds.get(model["name"], {}).get("forms", ()) if form["form"] == _FORM]
            if not forms:
                continue
            value, low, high = (100 * model["accuracy"][key] for key in ("value", "low", "high"))
            color = list(COLORS.values())[number % len(COLORS)]
            error = [[max(value - low, 0)], [max(high - value, 0)]]
            form = min(forms, key=lambda form: form["device"])  # cpu, where there are both
            left.errorbar(form["latency_ms"]["median"], value, error, fmt="o", color=color, capsize=3)
            size = form["bytes"] / _MEGABYTE
            right.errorbar(size, value, error, fmt="o", color=color, capsize=3, label=model["name"][-24:])
        left.set_ylabel("accuracy, %")
        left.set_xlabel("ms for one face")
        right.set_xlabel("MB")
        for axes in (left, right):
            axes.set_xlim(0, 1.1 * axes.dataLim.x1)
            axes.grid()
        figure.legend(loc="outside lower center", ncols=2)
    return figure
