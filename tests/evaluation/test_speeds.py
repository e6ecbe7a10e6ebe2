"""Size and speed beside accuracy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_lightning.errors import DataError
from fer_lightning.evaluation.speeds import read_speed, speed_figure, speed_remarks, speed_rows
from tests.helpers.drawn_figures import whiskers


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
    path.write_text(json.dumps({**measured(2.0), "weights": "a"}))
    assert read_speed(path, "a") == read_speed(path) == {**measured(2.0), "weights": "a"}
    assert read_speed(path, "b") == {}  # it was measured of others
    assert read_speed(path / "below" / "bench_infer.json") == {}  # a file stands where a folder would
    lacking = ({**measured(2.0), key: None} for key in ("parameters", "hardware", "threads", "batch"))
    texts = [json.dumps({name: value for name, value in each.items() if value is not None}) for each in lacking]
    for text in ("{", "{}", '{"forms": [{"bytes": 1}]}', *texts):
        path.write_text(text)
        with pytest.raises(DataError, match=r"bench_infer.json is damaged: .*; run fer bench infer again"):
            read_speed(path)


def test_what_was_not_measured_or_elsewhere_is_told() -> None:
    assert speed_remarks(["a", "b"], {}) == [
        "Not measured: a and b. `fer bench infer RUN` does it, and this page then shows it."
    ]
    same = {"a": measured(1.0), "b": measured(2.0)}
    assert speed_remarks(["a", "b"], same) == ["Measured on a CPU with 2 threads; faces a second in batches of 64."]
    threads = {"a": measured(1.0), "b": {**measured(1.0), "threads": 3}}
    assert speed_remarks(["a", "b"], threads) == [
        "The models were measured on other machines or with other threads: times cannot be compared."
    ]
    other = {"a": measured(1.0), "b": measured(2.0, "another")}
    assert speed_remarks(["a", "b"], other)[-1].endswith("times cannot be compared.")


def test_accuracy_stands_against_latency_and_size() -> None:
    models: list[dict[str, Any]] = [
        {"name": name, "accuracy": {"value": value, "low": 0.5, "high": 0.9}}
        for name, value in (("a", 0.7), ("of_a_name_that_is_longer/version_0", 0.8))
    ]
    b: str = models[1]["name"]
    figure = speed_figure({"models": models}, {"a": measured(2.0), b: measured(3.0)})
    points = [
        [np.asarray(line.get_xydata()).tolist() for line in axes.lines if line.get_marker() == "o"]
        for axes in figure.axes
    ]
    assert points == [[[[2.0, 70.0]], [[3.0, 80.0]]], [[[1.6, 70.0]], [[1.6, 80.0]]]]
    assert [whiskers(axes) for axes in figure.axes] == [
        [pytest.approx((2, 70, 50, 90)), pytest.approx((3, 80, 50, 90))],
        [pytest.approx((1.6, 70, 50, 90)), pytest.approx((1.6, 80, 50, 90))],
    ]
    assert [axes.get_xlabel() for axes in figure.axes] == ["ms for one face", "MB"]
    assert all(axes.get_xlim()[0] == 0 < axes.dataLim.x1 < axes.get_xlim()[1] for axes in figure.axes)
    assert figure.axes[1].get_legend_handles_labels()[1] == ["a", b[-24:]]
    both = measured(4.0)
    both["forms"] = [{**both["forms"][0], "device": "cuda", "latency_ms": {"median": 0.1, "p95": 0.2}}, *both["forms"]]
    [dot, _] = whiskers(speed_figure({"models": models}, {"a": both, b: measured(3.0)}).axes[0])
    assert dot[0] == 4.0  # on the CPU, where there are both
    alone = speed_figure({"models": models}, {b: measured(3.0)})
    assert len([line for line in alone.axes[0].lines if line.get_marker() == "o"]) == 1
