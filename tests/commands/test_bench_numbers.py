"""What ``fer bench`` makes of its times: turns, ratios, quantiles and tables, without a clock."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fer_lightning.commands import bench_infer, bench_storage, bench_training
from fer_lightning.commands.bench_infer import _cost, _Form, _forms, _lines, _measure
from fer_lightning.commands.bench_storage import Measured, _rows, _table, _table_text
from fer_lightning.commands.bench_training import _ratio, _summary, _Timings, _TurnTaker
from fer_lightning.data.storage.shard_loader import ShardImages
from fer_lightning.errors import ConfigError
from fer_lightning.runs.checkpoint import weights_digest
from tests.inference.helpers import tiny_model

ANY: Any = None


def test_turns_begin_behind_their_warm_up_and_end_with_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, waits = [0.0], list[float]()
    others: list[tuple[float, Any]] = []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(bench_training, "wait_for", lambda device: waits.append(clock[0]))
    turns = _TurnTaker(3, 2, lambda trainer, batch: others.append((clock[0], batch)))
    trainer, module = SimpleNamespace(should_stop=False), SimpleNamespace(device="cpu")
    stopped = []
    for step in range(1, 10):
        clock[0] += step  # the step of number n takes n seconds
        turns.on_train_batch_end(trainer, module, ANY, step, 0)  # type: ignore[arg-type]
        stopped.append(trainer.should_stop)
    assert turns.full == [(3 + 4 + 5) / 3, (7 + 8 + 9) / 3]  # two steps warm up the first turn, one the second
    assert others == [(15.0, 5), (45.0, 9)]
    assert stopped == [False] * 8 + [True]
    assert waits == [3.0, 15.0, 21.0, 45.0]


def test_each_kind_is_timed_over_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([10.0, 22.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(bench_training, "wait_for", lambda device: None)
    done: list[int] = []
    bench: Any = SimpleNamespace(task=SimpleNamespace(device="cpu"), steps=4)
    assert bench_training._Bench._time(bench, lambda: done.append(1)) == 3.0
    assert len(done) == 5  # the first one warms up


def test_the_table_of_training_is_of_medians_and_of_ratios_turn_by_turn() -> None:
    assert _ratio([2.0, 3.0, 8.0], [4.0, 4.0, 4.0]) == "0.750 (turns: 0.500 to 2.000)"
    timings = _Timings(pure=[0.01, 0.03, 0.02], data=[0.004, 0.001, 0.0025], full=[0.02, 0.05, 0.1])
    bench: Any = SimpleNamespace(
        data=SimpleNamespace(batch_size=50), task=SimpleNamespace(device="cpu"),
        trainer=SimpleNamespace(precision="32-true"), steps=7,
    )  # fmt: skip
    head, *lines = _summary(timings, bench).splitlines()
    assert head == (
        f"cpu, precision 32-true, batch 50, {torch.get_num_threads()} threads, 3 turns of 7 steps, median (smallest "
        "to largest)"
    )
    assert [" ".join(line.split()) for line in lines] == [
        "ms/step spread images/s",
        "pure 20.0 10.0 to 30.0 2,500 network only, one batch repeated",
        "data 2.5 1.0 to 4.0 20,000 data only: fetch, move, augment",
        "full 50.0 20.0 to 100.0 1,000 the whole trainer",
        "data/pure speed 8.000 (turns: 2.500 to 30.000)",
        "full/pure speed 0.500 (turns: 0.200 to 0.600)",
    ]
    timings.loop = [0.04, 0.025, 0.05]
    *_, loop, _, _, ratio = _summary(timings, bench).splitlines()
    assert " ".join(loop.split()) == "loop 40.0 25.0 to 50.0 1,250 bare PyTorch loop, same batches"
    assert ratio == "full/loop speed 0.500 (turns: 0.500 to 2.000)"


def test_a_form_tells_median_and_95th_percentile_of_single_faces_and_speed_of_batches() -> None:
    form = _Form("fp32", "cpu", 1234, ANY, [float(number) for number in range(101)], [400.0, 100.0, 200.0])
    assert form.plain(30) == {
        "form": "fp32",
        "device": "cpu",
        "bytes": 1234,
        "latency_ms": {"median": 50.0, "p95": 95.0},
        "faces_per_second": 150.0,
    }


@pytest.mark.parametrize(("calls", "once", "many"), [(5, 1, 1), (200, 40, 8), (201, 41, 9)])
def test_single_faces_are_timed_five_times_as_often_as_batches_in_five_turns(
    calls: int, once: int, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int, int, int]] = []

    def milliseconds(backend: Any, images: torch.Tensor, count: int, warm_up: int) -> list[float]:
        assert images.shape[1:] == (1, 48, 48)
        asked.append((backend, len(images), count, warm_up))
        return [1.0] * count

    monkeypatch.setattr(bench_infer, "milliseconds", milliseconds)
    forms = [_Form(name, "cpu", 1, name) for name in ("a", "b")]  # type: ignore[arg-type]  # the backend is only passed on
    _measure(forms, tiny_model(), 6, calls)
    turn = [(name, *each) for name in ("a", "b") for each in ((1, once, 10), (6, many, 1))]
    assert asked == turn * 5
    assert (len(forms[0].alone), len(forms[1].batch)) == (5 * once, 5 * many)


def test_without_a_file_the_size_is_that_of_the_weights(tmp_path: Path) -> None:
    model = tiny_model()
    state = model.backend.network.state_dict()  # type: ignore[attr-defined]  # of PyTorch
    sizes = [form.size for form in _forms(model, tmp_path, 1)]
    assert set(sizes) == {sum(each.numel() * each.element_size() for each in state.values())}
    (tmp_path / "model.safetensors").write_bytes(b"0" * 123)
    assert {form.size for form in _forms(model, tmp_path, 1)} == {123}


def test_the_cost_of_a_network_is_counted() -> None:
    model = tiny_model()
    network = model.backend.network  # type: ignore[attr-defined]  # of PyTorch
    found = _cost(model)
    assert found["parameters"] == sum(each.numel() for each in network.parameters())
    counts: list[int] = []

    def count(module: Any, inputs: Any, output: torch.Tensor) -> None:
        counts.append(output.numel() // output.shape[1] * module.weight.numel())

    layers = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    hooks = [module.register_forward_hook(count) for module in layers]
    network(torch.zeros(1, 1, 48, 48))
    for hook in hooks:
        hook.remove()
    assert found["macs"] == sum(counts)
    assert bench_infer._weights(model) == weights_digest(network.state_dict())


def test_the_lines_of_a_network() -> None:
    form = {"form": "fp32", "device": "cpu", "bytes": 1_234_567, "latency_ms": {"median": 1.234, "p95": 2.345}}
    found: dict[str, Any] = {
        **{"model": "mine", "parameters": 12345, "macs": 6_789_000_000, "image_size": 48, "hardware": "a CPU"},
        **{"threads": 1, "calls": 200, "batch": 64, "forms": [{**form, "faces_per_second": 1234.5}]},
    }
    lines = _lines(found)
    assert lines[0] == "mine: 12,345 parameters, 6,789.0 million multiply-accumulates a face of 48x48 pixels"
    assert lines[1] == (
        "a CPU; 1 thread on the CPU; 200 calls with one face, in 5 turns after 10 calls to warm up; faces/s in "
        "batches of 64"
    )
    assert [" ".join(line.split()) for line in lines[2:]] == [
        *("", "form device kB ms a face 95 % below faces/s", "fp32 cpu 1,235 1.23 2.35 1,234"),
    ]
    found |= {"parameters": None, "threads": 3}
    assert _lines(found)[0] == "mine of 48x48 pixels"
    assert "3 threads on the CPU" in _lines(found)[1]
    figure = bench_infer._figure({**found, "forms": [{**found["forms"][0]}, {**found["forms"][0], "device": "cuda"}]})
    left, right = figure.axes
    assert [bar.get_width() for bar in left.patches] == [1.234, 1.234]  # type: ignore[attr-defined]  # they are bars
    assert [bar.get_width() for bar in right.patches] == [1234.5, 1234.5]  # type: ignore[attr-defined]
    (ends,) = {tuple(segment[:, 0].round(6)) for segment in left.collections[0].get_segments()}  # type: ignore[attr-defined]
    assert ends == (1.234, 2.345)
    assert [text.get_text() for text in left.get_yticklabels()] == ["fp32\ncpu", "fp32\ncuda"]


def test_the_table_of_storage() -> None:
    measured = Measured("arrow", 7_600_000, 1234.4, 2345.6, 3456.0, 45.0, 56.0, 81_000_000, 92_000_000)
    head, *lines = _table_text([measured], 200_000, 112).splitlines()
    assert head.startswith("200,000 JPEG images of 112x112, quality 92; images/s; ")
    assert head.endswith(" cores; batches of 128")
    assert [line.split() for line in lines[:3]] == [
        ["random", "random", "in", "order", "loader", "loader", "own", "with", "file", "on", "disk"],
        ["bytes", "decoded", "bytes", "0", "workers", "2", "workers", "MB", "pages", "MB", "MB"],
        ["arrow", "1,234", "2,346", "3,456", "45", "56", "81", "92", "8"],
    ]


def test_rows_are_read_in_the_order_that_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_storage, "_RANDOM_SHARD_READS", 200)
    plain: Any = np.zeros((300, 1))
    shards = ShardImages.__new__(ShardImages)
    shards.shape, shards.positions = (300, 3, 8, 8), np.random.default_rng(1).permutation(300)
    monkeypatch.setattr(ShardImages, "__len__", lambda self: 300)
    for images, kind, count in (
        *((plain, "random_bytes", 300), (plain, "sequential_bytes", 300), (shards, "random_decoded", 200)),
        (shards, "sequential_bytes", 300),
    ):
        parts = list(_rows(kind, images))
        assert [len(part) for part in parts] == ([128, 128, 44] if count == 300 else [128, 72])
        rows = np.concatenate(parts)
        assert len(set(rows.tolist())) == count
        if kind == "sequential_bytes":
            places = rows if images is plain else shards.positions[rows]
            assert places.tolist() == list(range(300))
        else:
            assert not np.array_equal(rows, np.sort(rows))


def test_the_first_batch_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([100.0, 104.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    assert bench_storage._speed(iter([50, 30, 10])) == 10.0


def test_drawn_rows_are_told_apart() -> None:
    table = _table(20, 32)
    assert table.images.shape == (20, 3, 32, 32)
    assert table.labels.tolist() == [row % 7 for row in range(20)]
    assert table.files[12] == "drawn/12"
    assert len({digest.tobytes() for digest in table.digests}) == 20


def test_a_disk_that_is_too_full_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_storage, "_drawn", lambda size: [b"0" * 1000, b"0" * 3000])
    monkeypatch.setattr(bench_storage, "_lay_out", lambda *args: pytest.fail("nothing may be laid out"))
    needed = 1_000_000 * 3700 + (256 << 20)  # the mean of 2,000 bytes and a tenth, 1,500 more, and 256 MiB
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=needed - 1))
    with pytest.raises(ConfigError, match=r"needs about 4\.0 GB, 4\.0 GB are free"):
        bench_storage.bench_storage(1_000_000, 112, tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=needed))
    with pytest.raises(pytest.fail.Exception):
        bench_storage.bench_storage(1_000_000, 112, tmp_path)
    for images, size in ((999, 8), (1000, 7)):
        with pytest.raises(ConfigError) as caught:
            bench_storage.bench_storage(images, size, tmp_path)
        assert str(caught.value) == f"bench storage needs at least 1000 images of 8 pixels, not {images} of {size}"
