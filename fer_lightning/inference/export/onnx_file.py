"""ONNX files: the network with its normalisation in the graph, and all else that a model is in the metadata.

Input ``image``: float32 ``(batch, c, S, S)`` in 0..1. Output ``logits``: float32 ``(batch, K)``, those to decide by;
the calibration in the metadata makes the probabilities of them; see ``Calibration``.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.extras import need_extra
from fer_lightning.files import write_atomically
from fer_lightning.inference.export.program import exportable
from fer_lightning.inference.framing import framings_in, plain_framings
from fer_lightning.inference.model import Card, Model
from fer_lightning.models.calibration import calibration_in, plain_calibration
from fer_lightning.preprocessing import check_preprocessing
from fer_lightning.text import first_line

__all__ = ["KEY", "OnnxBackend", "metadata_of", "onnx_bytes", "read_onnx", "write_onnx"]

KEY = "fer_lightning"
"""Key of the metadata, as JSON: ``schema, class_names, scheme, preprocessing, framing, calibration, name`` and more."""

_SCHEMA = 1


class OnnxBackend:
    """Runs a network by onnxruntime.

    Args:
        content: of an ONNX file.
        threads: of one call.

    Raises:
        MissingExtraError: without onnxruntime.
        CheckpointError: if it is no network.
    """

    def __init__(self, content: bytes, threads: int = 1) -> None:
        runtime = _onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads  # several sessions with pools of their own fight over the cores
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a kind of its own for each fault
            raise CheckpointError(f"not an ONNX network that can be run: {first_line(error)}") from error
        self.content = content
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits to decide by, float32 ``(N, K)``, of images float32 ``(N, c, S, S)`` in 0..1."""
        return torch.from_numpy(self._session.run(["logits"], {"image": images.contiguous().numpy()})[0])


def metadata_of(model: Model) -> dict[str, Any]:
    """Return what an ONNX file says of its model, as plain values."""
    return {
        "schema": _SCHEMA,
        "class_names": list(model.class_names),
        "scheme": model.scheme,
        "preprocessing": dict(model.preprocessing),
        "framing": plain_framings(model.framings),
        "calibration": plain_calibration(model.calibration),
        **asdict(model.card),
    }


def onnx_bytes(model: Model) -> bytes:
    """Return a model as the content of an ONNX file; the batch may have any size.

    Raises:
        MissingExtraError: without the packages for it.
        ConfigError: if the model has no PyTorch network, or one that cannot be exported.
    """
    need_extra("export", "ONNX files need", "onnx", "onnxscript")  # torch needs the second
    import onnx

    network, images = exportable(model)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (images,),
                dynamo=True,
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                input_names=["image"],
                output_names=["logits"],
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever its passes meet
        raise ConfigError(f"{model.card.name} cannot be exported to ONNX: {first_line(error)}") from error
    assert program is not None  # with dynamo
    proto = program.model_proto
    entry = proto.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(metadata_of(model), ensure_ascii=False)
    buffer = io.BytesIO()
    onnx.save_model(proto, buffer)
    return buffer.getvalue()


def write_onnx(model: Model, path: Path) -> Path:
    """Write a model as an ONNX file and return its path; see ``onnx_bytes`` for what can go wrong."""
    return write_atomically(path, onnx_bytes(model))


def read_onnx(path: Path, threads: int = 1) -> Model:
    """Read a model from an ONNX file of ours.

    Raises:
        CheckpointError: if the file is missing, damaged, or says nothing of classes and preprocessing.
        MissingExtraError: without onnxruntime.
    """
    try:
        backend = OnnxBackend(path.read_bytes(), threads)
        values = json.loads(backend.metadata[KEY])
        preprocessing = check_preprocessing(values["preprocessing"])
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} does not say which classes and preprocessing it has: only files of fer export do"
        ) from error
    return Model(
        backend,
        tuple(values["class_names"]),
        preprocessing,
        Card(**{name: values[name] for name in Card.__annotations__ if name in values}),
        framings=framings_in(values.get("framing")),
        calibration=calibration_in(values.get("calibration"), len(values["class_names"]), path),
    )


def _onnxruntime() -> Any:
    need_extra("export", "ONNX files need", "onnxruntime")
    import onnxruntime

    return onnxruntime
