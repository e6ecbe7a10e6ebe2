from __future__ import annotations

import importlib
import json
import multiprocessing
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fer_lightning.commands import bench_infer, bench_recognize
from fer_lightning.inference.export.onnx_file import write_onnx
from fer_lightning.inference.model import TorchBackend
from fer_lightning.inference.model_folder import write_model_folder
from tests.helpers.cli import TINY, fer
from tests.inference.clips import clip
from tests.inference.helpers import tiny_model


def test_every_kind_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.01", "--data.augment=BatchAugment"]
    assert fer("bench", "train", *TINY, *options, "--steps=3", "--rounds=2", "--against-loop") == 0
    out = capsys.readouterr().out
    for kind in ("pure", "data", "full", "loop"):
        assert re.search(rf"^{kind} +\d+\.\d +\d+\.\d to \d+\.\d +[\d,]+ ", out, re.MULTILINE)
    assert re.search(r"data/pure speed \d+\.\d{3}", out)
    assert re.search(r"full/pure speed \d\.\d{3}", out)
    assert re.search(r"full/loop speed \d\.\d{3}", out)
    assert "batch 8" in out
    assert "epoch" not in out


def test_the_forms_of_a_model_are_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_model_folder(tiny_model(), tmp_path / "model")
    before = torch.get_num_threads()
    assert fer("bench", "infer", str(folder), "--calls=5", "--batch=3", "--threads=2") == 0
    lines = capsys.readouterr().out.splitlines()
    found = json.loads((folder / "bench_infer.json").read_text())
    network = tiny_model().backend.network  # type: ignore[attr-defined]  # of PyTorch
    assert found["parameters"] == sum(each.numel() for each in network.parameters())
    assert f"{found['parameters']:,} parameters, {found['macs'] / 1e6:,.1f} million multiply-accumulates" in lines[0]
    assert "2 threads on the CPU; 5 calls with one face, in 5 turns after 10 calls to warm up" in lines[1]
    assert lines[1].endswith("in batches of 3")
    forms = {form["form"].partition(",")[0]: form for form in found["forms"] if form["device"] == "cpu"}
    assert list(forms) == ["fp32", "bf16"]
    for form in forms.values():
        assert 0 < form["latency_ms"]["median"] <= form["latency_ms"]["p95"]
        assert form["faces_per_second"] > 0
        assert form["bytes"] == (folder / "model.safetensors").stat().st_size
    assert lines[-2] == f"numbers      {folder / 'bench_infer.json'}"
    assert lines[-1] == f"ONNX, int8   fer export {folder} --out MODEL, then fer bench infer MODEL"
    assert (folder / "bench_infer.png").read_bytes().startswith(b"\x89PNG")
    assert torch.get_num_threads() == before


def test_exported_forms_are_timed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = tiny_model()
    folder = write_model_folder(model, tmp_path / "model")
    onnx = write_onnx(model, folder / "model.onnx")
    shutil.copy(onnx, folder / "model.int8.onnx")
    out = tmp_path / "out"
    assert fer("bench", "infer", str(folder), "--calls=5", "--batch=2", f"--out={out}") == 0
    assert "fer export" not in capsys.readouterr().out
    forms = [form["form"] for form in json.loads((out / "bench_infer.json").read_text())["forms"]]
    assert forms[-2:] == ["ONNX", "ONNX int8"]
    assert not (folder / "bench_infer.json").exists()
    assert fer("bench", "infer", str(onnx), "--calls=5", "--batch=2") == 0
    text = capsys.readouterr().out
    assert "parameters" not in text  # an ONNX file does not tell
    assert "numbers" not in text  # and is no folder


def test_half_precision_answers_nearly_alike() -> None:
    model = tiny_model()
    backend = model.backend
    assert isinstance(backend, TorchBackend)
    images = torch.rand(4, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    half, whole = bench_infer._HalfBackend(backend)(images), backend(images)
    assert half.dtype == torch.float32
    assert not torch.equal(half, whole)
    assert torch.allclose(half, whole, atol=0.1 * float(whole.abs().max()))


@pytest.mark.parametrize(
    "args",
    [
        ["infer", "x", "--batch=0"],
        ["infer", "x", "--threads=0"],
        ["infer", "x", "--calls=0"],
        ["infer", "none"],
        ["train", "--steps=1"],
        ["train", "--rounds=0"],
        ["train", "--rounds=x"],
        ["recognize", "--frames=1"],
        ["test"],
    ],
)
def test_wrong_arguments_are_one_line(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("bench", *args) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_times_are_means() -> None:
    times = bench_recognize._Times([1.0, 9.0, 2.0], [2.0, 6.0, 4.04])
    assert times.cells() == ("4.0", "4.0", "")
    assert times.cells(16.0) == ("4.0", "4.0", "25%")
    with times.one():
        pass
    assert 0 <= times.wall[-1] < 1000
    assert 0 <= times.cpu[-1] < 1000


def test_the_network_of_fer_gets_gray_pixels_between_minus_one_and_one(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    details = [{"index": 7}]
    interpreter = SimpleNamespace(
        allocate_tensors=lambda: None,
        get_input_details=lambda: details,
        get_output_details=lambda: [{"index": 8}],
        set_tensor=lambda index, value: given.append((index, value)),
        invoke=lambda: None,
        get_tensor=lambda index: [index],
    )
    monkeypatch.setattr(bench_recognize, "find_spec", lambda name: name)
    module = SimpleNamespace(Interpreter=lambda path, num_threads: interpreter)
    monkeypatch.setattr(importlib, "import_module", lambda name: module)
    network = bench_recognize.fer_network(Path("a.tflite"))
    assert network is not None
    picture = np.full((80, 100, 3), (255, 0, 0), np.uint8)
    picture[:, 50:] = 255
    assert network(picture).tolist() == [8.0]
    ((index, value),) = given
    assert (index, value.shape, value.dtype) == (7, (1, 64, 64, 1), np.float32)
    assert value[0, 5, 60, 0] == 1
    assert value[0, 5, 5, 0] == pytest.approx(0.299 * 2 - 1, abs=0.01)  # ITU-R BT.601


def test_the_table_of_recognizing_holds_the_times_of_all_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = SimpleNamespace(picture=np.zeros((20, 30, 3), np.uint8))
    stages = {"detection": bench_recognize._Times([3.0], [6.0]), "writing": bench_recognize._Times([1.0], [2.0])}
    monkeypatch.setattr(bench_recognize, "_stages", lambda *args: (stages, [frame, frame], [[1], [1, 2]]))
    monkeypatch.setattr(bench_recognize, "_together", lambda *args: (2.0, 6.0, 4))
    monkeypatch.setattr(bench_recognize, "_beside", lambda *args: [("Haar", "9.0", "9.5")])
    recognizer: Any = "a recognizer"
    lines = bench_recognize.time_recognition(recognizer, Path("a.mp4"), 4, Path("x.tflite")).splitlines()
    assert lines[0] == "a.mp4, 30x20, 4 frames; 'a recognizer'"
    assert lines[1] == "2.0 frames a second into an annotated mp4; 3 faces in 2 frames"
    assert [line.split() for line in lines[2:]] == [
        ["ms", "a", "frame", "wall", "CPU", "share"],
        ["detection", "3.0", "6.0", "75%"],
        ["writing", "1.0", "2.0", "25%"],
        ["all,", "threads", "together", "500.0", "1500.0"],
        ["beside", "them"],
        ["Haar", "9.0", "9.5"],
    ]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["train", *TINY, "--steps=1"], "bench train needs at least 2 steps and 1 round, not 1 and 5"),
        (["train", *TINY, "--rounds=0"], "bench train needs at least 2 steps and 1 round, not 30 and 0"),
    ],
)
def test_too_few_turns_are_told(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("bench", *args) == 2
    assert said in capsys.readouterr().err


def test_without_a_verb_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("bench") == 0
    assert "  storage  " in capsys.readouterr().out


@pytest.mark.parametrize("spawned", [{4}, pytest.param(set(range(15)), marks=pytest.mark.slow)], ids=["one", "all"])
def test_storage_is_measured_in_every_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], spawned: set[int]
) -> None:
    asked: list[str] = []  # a process that is spawned imports everything: only those whose number says so are

    def context(method: str) -> Any:
        asked.append(method)
        return of_method(method if len(asked) - 1 in spawned else "fork")

    of_method = multiprocessing.get_context
    monkeypatch.setattr(multiprocessing, "get_context", context)
    assert fer("bench", "storage", "--images=1000", "--size=32", f"--folder={tmp_path}") == 0
    out = capsys.readouterr().out
    for form in ("folders", "arrow", "shards"):
        numbers = re.search(rf"^{form} +(.*)$", out, re.MULTILINE)
        assert numbers is not None
        assert all(float(number.replace(",", "")) >= 0 for number in numbers[1].split())
    assert list(tmp_path.iterdir()) == []
    assert asked == ["spawn"] * 15


@pytest.mark.parametrize("args", [["--images=0"], ["--size=2"], ["--image=5"], ["--folder=/nowhere/at/all"]])
def test_wrong_storage_arguments_are_one_line(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert fer("bench", "storage", *args) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_stages_of_recognizing_a_video(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av")
    folder, video = write_model_folder(tiny_model(), tmp_path / "model"), clip(tmp_path / "a.mp4")
    options = ["--model", str(folder), "--video", str(video), "--detector", "tests.inference.helpers.bright_squares"]
    assert fer("bench", "recognize", *options, "--frames", "5") == 0
    told = capsys.readouterr().out
    for words in ("a.mp4, 160x120, 5 frames", "frames a second into an annotated mp4; 5 faces in 5 frames", "decoding"):
        assert words in told
    rows = {line.split("  ")[0]: line.split()[-3:] for line in told.splitlines()}
    shares = [rows[stage][-1] for stage in ("decoding", "detection", "classification", "drawing", "writing")]
    assert sum(int(share.rstrip("%")) for share in shares) == pytest.approx(100, abs=3)
    assert "Haar cascade instead (0 of 5 frames hit)" in told
    monkeypatch.setattr("fer_lightning.commands.bench_recognize._INTERPRETERS", ("nowhere.at_all",))
    assert fer("bench", "recognize", *options, "--frames", "5", "--fer_tflite", str(video)) == 0
    assert "no interpreter of tflite is installed (pip install ai-edge-litert)" in capsys.readouterr().out
    assert fer("bench", "recognize", *options, "--frames", "1") == 2
