"""``fer bench infer``: size, cost and speed of a trained network in the forms that it is there in."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from fer_lightning import __version__
from fer_lightning.callbacks.provenance import hardware
from fer_lightning.errors import CheckpointError
from fer_lightning.evaluation.page_parts import refresh_pages
from fer_lightning.evaluation.speeds import BENCH
from fer_lightning.figures import COLORS, INK, figure_png, house_style
from fer_lightning.files import json_text, write_atomically
from fer_lightning.inference.export.onnx_file import OnnxBackend
from fer_lightning.inference.export.package import INT8, ONNX
from fer_lightning.inference.loading import load_model
from fer_lightning.inference.model import Backend, Model, TorchBackend
from fer_lightning.inference.timing import milliseconds, using_threads
from fer_lightning.models.classifier import EmotionClassifier
from fer_lightning.models.precision import has_bfloat16
from fer_lightning.outputs import folder_to_write, writing_errors
from fer_lightning.runs.checkpoint import CHECKPOINTS, run_folder_of, weights_digest
from fer_lightning.runs.model_folder import WEIGHTS
from fer_lightning.text import table_lines

__all__ = ["time_inference"]

_PICTURE = "bench_infer.png"
_TURNS = 5  # in which the forms take turns, so that a change in the speed of the machine affects all of them
_WARM_UP = 10  # calls in each turn that are not timed


@dataclass
class _Form:
    """A form of a network, and what was measured of it.

    Attributes:
        name: such as ``fp32``.
        device: ``cpu`` or ``cuda``.
        size: bytes of its file, or of its weights where it has none.
        backend: runs it.
        alone: milliseconds of each call with one face.
        batch: likewise with a batch.
    """

    name: str
    device: str
    size: int
    backend: Backend
    alone: list[float] = field(default_factory=list)
    batch: list[float] = field(default_factory=list)

    def plain(self, faces: int) -> dict[str, Any]:
        """Return what was measured, for batches of so many faces."""
        median, high = np.quantile(self.alone, [0.5, 0.95]).tolist()
        return {
            "form": self.name,
            "device": self.device,
            "bytes": self.size,
            "latency_ms": {"median": median, "p95": high},
            "faces_per_second": 1e3 * faces / float(np.median(self.batch)),
        }


class _HalfBackend:
    """Runs a network in bfloat16 where that is precise enough, as ``--trainer.precision bf16-mixed`` does."""

    def __init__(self, backend: TorchBackend) -> None:
        self._backend = backend

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits to decide by, float32 ``(N, K)`` on the CPU, of images ``(N, c, S, S)`` in 0..1."""
        with torch.autocast(self._backend.device.type, torch.bfloat16):
            return self._backend(images).float()


def time_inference(source: str, batch: int, threads: int | None, calls: int, out: Path | None) -> str:
    """Measure a trained network and return a table; picture and numbers go into a folder.

    Args:
        source: of the network; see ``load_model``.
        batch: faces in a call of which the throughput is measured.
        threads: of the CPU; ``None`` for as many as PyTorch takes.
        calls: with one face, that are timed; a fifth as many with a batch.
        out: folder for picture and numbers; ``None`` for that of the run or model, if it was named by its path.

    Raises:
        CheckpointError: if there is no such model or it is damaged.
        ConfigError: if nothing can be written into the folder.
    """
    path = Path(source).expanduser()
    folder = (run_folder_of(path) or path) if path.is_file() else path
    place = out if out is not None else folder if folder.is_dir() else None
    if place is not None:
        place = folder_to_write(place)
    model = load_model(source)
    threads = torch.get_num_threads() if threads is None else threads
    forms = _forms(model, folder, threads)
    with using_threads(threads):
        _measure(forms, model, batch, calls)
    found = {
        "model": model.card.name,
        "weights": _weights(model),
        **_cost(model),
        "image_size": model.preprocessing["image_size"],
        "channels": model.preprocessing["channels"],
        "hardware": hardware(),
        "threads": threads,
        "warm_up": _WARM_UP,
        "calls": len(forms[0].alone),
        "batch": batch,
        "versions": {"fer_lightning": __version__, "torch": torch.__version__},
        "forms": [form.plain(batch) for form in forms],
    }
    lines = _lines(found)
    if place is not None:
        with writing_errors(place):
            write_atomically(place / _PICTURE, figure_png(_figure(found)))
            lines.append(f"\nnumbers      {write_atomically(place / BENCH, json_text(found))}")
    if (folder / CHECKPOINTS).is_dir():
        refresh_pages(folder)
    if not any(form.name.startswith("ONNX") for form in forms) and folder.is_dir():
        lines.append(f"ONNX, int8   fer export {source} --out MODEL, then fer bench infer MODEL")
    return "\n".join(lines)


def _forms(model: Model, folder: Path, threads: int) -> list[_Form]:
    """Return the forms in which a network is there: of PyTorch on each device, and its exported files."""
    if isinstance(model.backend, OnnxBackend):
        content = model.backend.content
        return [_Form("ONNX", "cpu", len(content), OnnxBackend(content, threads))]
    if not isinstance(model.backend, TorchBackend):
        raise CheckpointError(f"{model.card.name} has no network that could be timed")
    found, weights = [], folder / WEIGHTS
    state = model.backend.network.state_dict().values()
    size = weights.stat().st_size if weights.is_file() else sum(each.numel() * each.element_size() for each in state)
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        network: EmotionClassifier = copy.deepcopy(model.backend.network)
        backend = TorchBackend(network, model.preprocessing, device)
        emulated = "" if has_bfloat16(torch.device(device)) else ", emulated"
        found += [_Form("fp32", device, size, backend), _Form(f"bf16{emulated}", device, size, _HalfBackend(backend))]
    for name, file in (("ONNX", ONNX), ("ONNX int8", INT8)):
        if (folder / file).is_file():
            content = (folder / file).read_bytes()
            found.append(_Form(name, "cpu", len(content), OnnxBackend(content, threads)))
    return found


def _measure(forms: Sequence[_Form], model: Model, batch: int, calls: int) -> None:
    size, channels = model.preprocessing["image_size"], model.preprocessing["channels"]
    images = torch.rand(batch, channels, size, size, generator=torch.Generator().manual_seed(0))
    once, many = -(-calls // _TURNS), -(-calls // (5 * _TURNS))
    for form in tqdm([*forms] * _TURNS, unit="turn", disable=None, leave=False):
        form.alone += milliseconds(form.backend, images[:1], once, _WARM_UP)
        form.batch += milliseconds(form.backend, images, many, 1)


def _cost(model: Model) -> dict[str, int | None]:
    """Return parameters and multiply-accumulates for one face, ``None`` where only an ONNX file knows them."""
    if not isinstance(model.backend, TorchBackend):
        return {"parameters": None, "macs": None}
    network, images = model.backend.network, model.preprocessing
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.zeros(1, images["channels"], images["image_size"], images["image_size"]))
    parameters = sum(each.numel() for each in network.parameters())
    return {"parameters": parameters, "macs": counter.get_total_flops() // 2}


def _weights(model: Model) -> str:
    """Return the digest of the weights, empty where only an ONNX file knows them."""
    return weights_digest(model.backend.network.state_dict()) if isinstance(model.backend, TorchBackend) else ""


def _lines(found: Mapping[str, Any]) -> list[str]:
    cost = ""
    if found["parameters"] is not None:
        cost = f": {found['parameters']:,} parameters, {found['macs'] / 1e6:,.1f} million multiply-accumulates a face"
    side = found["image_size"]
    rows: list[tuple[str, ...]] = [("form", "device", "kB", "ms a face", "95 % below", "faces/s")]
    for form in found["forms"]:
        times = form["latency_ms"]
        numbers = (f"{times['median']:.2f}", f"{times['p95']:.2f}", f"{form['faces_per_second']:,.0f}")
        rows.append((form["form"], form["device"], f"{form['bytes'] / 1000:,.0f}", *numbers))
    threads = f"{found['threads']} thread{'s' if found['threads'] > 1 else ''}"
    return [
        f"{found['model']}{cost} of {side}x{side} pixels",
        f"{found['hardware']}; {threads} on the CPU; {found['calls']} calls with one face, in {_TURNS} turns after "
        f"{_WARM_UP} calls to warm up; faces/s in batches of {found['batch']}",
        "",
        *table_lines(rows, left=(0, 1)),
    ]


def _figure(found: Mapping[str, Any]) -> Figure:
    """Draw latency, with its 95th percentile, and throughput of each form."""
    forms = found["forms"]
    names, places = [f"{form['form']}\n{form['device']}" for form in forms], range(len(forms))
    medians, highs = ([form["latency_ms"][key] for form in forms] for key in ("median", "p95"))
    with house_style():
        figure = Figure(figsize=(7.0, 1.3 + 0.5 * len(forms)), layout="constrained")
        figure.suptitle(f"{found['model']}, {found['threads']} thread{'s' if found['threads'] > 1 else ''}")
        left, right = figure.subplots(1, 2, sharey=True)
        beyond = [high - median for median, high in zip(medians, highs, strict=True)]
        left.barh(places, medians, 0.6, color=COLORS["sky"], xerr=[[0.0] * len(forms), beyond], ecolor=INK, capsize=3)
        left.set(xlabel="ms for one face, to the 95th percentile")
        right.barh(places, [form["faces_per_second"] for form in forms], 0.6, color=COLORS["orange"])
        right.set(xlabel=f"faces a second, batches of {found['batch']}")
        for axes in (left, right):
            axes.grid(axis="x")
        left.set_yticks(places, names)
        left.invert_yaxis()
    return figure
