"""Size and speed beside accuracy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_lightning.errors import DataError
from fer_lightning.evaluation.speeds import read_speed, speed_figure, speed_remarks, speed_rows


def measured(milliseconds: float, hardware: str = "a CPU") -> dict[str, Any]:
    """Return what ``fer bench infer`` writes of a model."""
    forms = [
        {
            "form": form,
            "device": "cpu",
            "bytes": size,
            "latency_ms": {"median": milliseconds * factor, "p95": 2 * milliseconds * factor},
            "faces_per_second": 1_000.0 / milliseconds,
        }
        for form, size, factor in (("fp32", 1_600_000, 1.0), ("ONNX int8", 500_000, 0.5))
    ]
    return {"parameters": 403_235, "hardware": hardware, "threads": 2, "batch": 64, "forms": forms}


def test_what_was_measured_is_read_and_listed(tmp_path: Path) -> None:
    path = tmp_path / "bench_infer.json"
    assert read_speed(path) == {}
    path.write_text(json.dumps(measured(2.0)))
    speeds = {"a": read_speed(path)}
    assert speed_rows(speeds)[1:] == [
        ("a", "fp32", "cpu", "403,235", "1.60", "2.00", "4.00", "500"),
        ("a", "ONNX int8", "cpu", "403,235", "0.50", "1.00", "2.00", "500"),
    ]
    of_onnx = {"a": {**measured(2.0), "parameters": None}}
    assert [row[3] for row in speed_rows(of_onnx)[1:]] == ["n/a", "n/a"]  # such a file does not tell
    for text in ("{", "{}", '{"forms": [{"bytes": 1}]}'):
        path.write_text(text)
        with pytest.raises(DataError, match=r"bench_infer.json is damaged: .*; run fer bench infer again"):
            read_speed(path)


def test_what_was_not_measured_or_elsewhere_is_told() -> None:
    assert speed_remarks(["a", "b"], {}) == [
        "Not measured: a and b. `fer bench infer RUN` does it, and this page then shows it."
    ]
    same = {"a": measured(1.0), "b": measured(2.0)}
    assert speed_remarks(["a", "b"], same) == ["Measured on a CPU with 2 threads; faces a second in batches of 64."]
    other = {"a": measured(1.0), "b": measured(2.0, "another")}
    assert speed_remarks(["a", "b"], other)[-1].endswith("times cannot be compared.")


def test_accuracy_stands_against_latency_and_size() -> None:
    models = [
        {"name": name, "accuracy": {"value": value, "low": 0.5, "high": 0.9}}
        for name, value in (("a", 0.7), ("b", 0.8))
    ]
    figure = speed_figure({"models": models}, {"a": measured(2.0), "b": measured(3.0)})
    points = [
        [np.asarray(line.get_xydata()).tolist() for line in axes.lines if line.get_marker() == "o"]
        for axes in figure.axes
    ]
    assert points == [[[[2.0, 70.0]], [[3.0, 80.0]]], [[[1.6, 70.0]], [[1.6, 80.0]]]]
    alone = speed_figure({"models": models}, {"b": measured(3.0)})
    assert len([line for line in alone.axes[0].lines if line.get_marker() == "o"]) == 1
