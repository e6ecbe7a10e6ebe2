"""ONNX networks in whole numbers: 8 bits for weights and activations, scaled by what training images bring about."""

from __future__ import annotations

import io
import logging
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fer_lightning.errors import ConfigError
from fer_lightning.extras import need_extra
from fer_lightning.text import first_line

__all__ = ["quantized"]

_BATCH = 32


def quantized(content: bytes, images: Tensor) -> bytes:
    """Return an ONNX network with weights and activations of 8 bits.

    Weights have a scale for each output channel and a sign; activations have none, because their kernels are faster so
    on CPUs. The range of each activation is the 99.999th percentile over the images. The last layer, and what follows
    on it, stays in float32: it costs next to nothing, and small probabilities would become 0.

    Args:
        content: of an ONNX file with the input ``image``.
        images: float32 ``(N, c, S, S)`` in 0..1, from the training split; some hundred suffice.

    Raises:
        MissingExtraError: without onnxruntime.
        ConfigError: if the network cannot be quantized.
    """
    need_extra("export", "int8 needs", "onnx", "onnxruntime")
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.getLogger().addFilter(_silent)
    with tempfile.TemporaryDirectory() as folder:
        whole, ready, small = (Path(folder, name) for name in ("whole.onnx", "ready.onnx", "small.onnx"))
        whole.write_bytes(content)
        try:
            with redirect_stdout(io.StringIO()):  # it tells of its histograms
                quant_pre_process(str(whole), str(ready), skip_symbolic_shape=True)
                quantization.quantize_static(
                    str(ready),
                    str(small),
                    _Reader(images),
                    per_channel=True,
                    weight_type=quantization.QuantType.QInt8,
                    activation_type=quantization.QuantType.QUInt8,
                    calibrate_method=quantization.CalibrationMethod.Percentile,
                    nodes_to_exclude=_end(onnx.load(str(ready)).graph),
                )
        except Exception as error:  # onnxruntime raises whatever it meets
            raise ConfigError(f"the network cannot be quantized: {first_line(error)}") from error
        finally:
            logging.getLogger().removeFilter(_silent)
        return small.read_bytes()


def _end(graph: Any) -> list[str]:
    """Return the names of the last layers of an ONNX graph, and of the nodes between them and what it returns."""
    makers = {output: node for node in graph.node for output in node.output}
    waiting, found = [output.name for output in graph.output], dict[str, Any]()
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.op_type != "Conv" and node.name not in found:
            found[node.name] = node
            waiting += [] if node.op_type in ("Gemm", "MatMul") else node.input
    return list(found)


def _silent(record: logging.LogRecord) -> bool:
    return "pre-processing" not in record.getMessage()


class _Reader:
    """Gives the images in batches of one size, as onnxruntime wants them; a rest is left out."""

    def __init__(self, images: Tensor) -> None:
        size = min(len(images), _BATCH)
        self._batches: Iterator[Tensor] = iter(torch.split(images[: len(images) // size * size], size))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch.numpy()}
