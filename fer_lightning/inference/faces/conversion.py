"""BlazeFace from TensorFlow Lite to ONNX, which onnxruntime and browsers run.

Only the operators that BlazeFace has are known. Tensors are turned from (N, H, W, C) to (N, C, H, W); weights stay
float16 in the file and are widened when it is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_lightning.errors import ConfigError
from fer_lightning.extras import need_extra

__all__ = ["blazeface_onnx"]

_OPSET = 17


def blazeface_onnx(content: bytes) -> bytes:
    """Return BlazeFace as an ONNX file.

    Input ``image``: float32 ``(batch, 3, S, S)`` in -1..1; outputs ``boxes`` ``(batch, A, 16)`` and ``scores``
    ``(batch, A, 1)``, logits.

    Args:
        content: of the ``.tflite`` file.

    Raises:
        MissingExtraError: without the packages ``tflite`` and ``onnx``.
        ConfigError: if the network has an operator that BlazeFace has not.
    """
    need_extra("export", "converting a detector needs", "onnx", "tflite")
    import onnx
    import tflite

    return bytes(_Conversion(tflite, onnx, content).model().SerializeToString())


class _Conversion:
    """One graph on its way."""

    def __init__(self, tflite: Any, onnx: Any, content: bytes) -> None:
        self.tflite, self.onnx = tflite, onnx
        self.source = tflite.Model.GetRootAsModel(content, 0)
        self.graph = self.source.Subgraphs(0)
        self.operators = {code: name for name, code in vars(tflite.BuiltinOperator).items() if not name.startswith("_")}
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.constants: dict[int, NDArray[Any]] = {}
        self.made = 0

    def model(self) -> Any:
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        self._read_constants()
        (entry,) = self.graph.InputsAsNumpy()
        side = int(self._shape(entry)[1])
        self._node("Identity", ["image"], name=self._name(entry))
        for number in range(self.graph.OperatorsLength()):
            self._convert(self.graph.Operators(number))
        outputs = []
        for tensor in self.graph.OutputsAsNumpy():
            shape = self._shape(tensor)
            name = {16: "boxes", 1: "scores"}[int(shape[2])]
            self._node("Identity", [self._name(tensor)], name=name)
            outputs.append(helper.make_tensor_value_info(name, kinds.FLOAT, ["batch", int(shape[1]), int(shape[2])]))
        image = helper.make_tensor_value_info("image", kinds.FLOAT, ["batch", 3, side, side])
        graph = helper.make_graph(self.nodes, "blazeface", [image], outputs, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
        self.onnx.checker.check_model(model)
        return model

    def _shape(self, tensor: int) -> NDArray[np.int32]:
        shape: NDArray[np.int32] = self.graph.Tensors(int(tensor)).ShapeAsNumpy()
        return shape

    def _name(self, tensor: int) -> str:
        return f"t{int(tensor)}"

    def _read_constants(self) -> None:
        types = {0: np.float32, 1: np.float16, 2: np.int32}
        for number in range(self.graph.TensorsLength()):
            tensor = self.graph.Tensors(number)
            data = self.source.Buffers(tensor.Buffer()).DataAsNumpy()
            if isinstance(data, np.ndarray) and data.size:
                shape = tensor.ShapeAsNumpy()
                values = np.frombuffer(data.tobytes(), types[tensor.Type()])
                self.constants[number] = values.reshape(shape if isinstance(shape, np.ndarray) else ())

    def _node(self, kind: str, inputs: list[str], name: str | None = None, **attributes: Any) -> str:
        self.made += 1
        output = f"n{self.made}" if name is None else name
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def _stored(self, values: NDArray[Any]) -> str:
        """Store a constant and return the name of it, as float32 where it is float16."""
        self.made += 1
        name = f"c{self.made}"
        self.initializers.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        if values.dtype == np.float16:
            return self._node("Cast", [name], to=self.onnx.TensorProto.FLOAT)
        return name

    def _convert(self, operator: Any) -> None:
        kind = self._kind(operator)
        known: dict[str, Callable[[Any, list[int], int], None]] = {
            "DEQUANTIZE": self._widen,
            "CONV_2D": self._convolution,
            "DEPTHWISE_CONV_2D": self._convolution,
            "ADD": self._sum,
            "RELU": self._relu,
            "PAD": self._padding,
            "MAX_POOL_2D": self._pooling,
            "RESIZE_BILINEAR": self._resizing,
            "RESHAPE": self._reshaping,
            "CONCATENATION": self._concatenation,
        }
        if kind not in known:
            raise ConfigError(f"this detector has the operator {kind}, which BlazeFace has not")
        inputs = [int(tensor) for tensor in operator.InputsAsNumpy()]
        known[kind](operator, inputs, int(operator.OutputsAsNumpy()[0]))

    def _kind(self, operator: Any) -> str:
        code = self.source.OperatorCodes(operator.OpcodeIndex())
        name: str = self.operators[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        return name

    def _options(self, operator: Any, kind: str) -> Any:
        options = getattr(self.tflite, kind)()
        table = operator.BuiltinOptions()
        options.Init(table.Bytes, table.Pos)
        return options

    def _activated(self, value: str, options: Any, output: int) -> None:
        """Finish an operator with the activation that is fused with it."""
        activation = options.FusedActivationFunction()
        if activation not in (0, 1):
            raise ConfigError(f"this detector has the activation {activation}, which BlazeFace has not")
        self._node("Relu" if activation == 1 else "Identity", [value], name=self._name(output))

    def _widen(self, operator: Any, inputs: list[int], output: int) -> None:
        self.constants[output] = self.constants[inputs[0]]  # where it is used, it is cast

    def _pads(self, options: Any, source: int, window: tuple[int, int]) -> list[int]:
        """Return TensorFlow's "SAME": uneven where the sum is odd, the larger half behind."""
        if options.Padding() == 1:
            return [0, 0, 0, 0]
        strides, before, after = (options.StrideH(), options.StrideW()), [], []
        for length, size, stride in zip(self._shape(source)[1:3], window, strides, strict=True):
            total = max((-(-int(length) // stride) - 1) * stride + size - int(length), 0)
            before.append(total // 2)
            after.append(total - total // 2)
        return before + after

    def _convolution(self, operator: Any, inputs: list[int], output: int) -> None:
        weights, bias = self.constants[inputs[1]], self.constants[inputs[2]]
        own = self._kind(operator) == "DEPTHWISE_CONV_2D"
        options = self._options(operator, "DepthwiseConv2DOptions" if own else "Conv2DOptions")
        groups = weights.shape[3] if own else 1
        window = weights.shape[1:3]
        weights = weights.transpose(3, 0, 1, 2) if own else weights.transpose(0, 3, 1, 2)
        made = self._node(
            "Conv",
            [self._name(inputs[0]), self._stored(weights), self._stored(bias)],
            pads=self._pads(options, inputs[0], window),
            strides=[options.StrideH(), options.StrideW()],
            group=groups,
        )
        self._activated(made, options, output)

    def _sum(self, operator: Any, inputs: list[int], output: int) -> None:
        made = self._node("Add", [self._name(each) for each in inputs])
        self._activated(made, self._options(operator, "AddOptions"), output)

    def _relu(self, operator: Any, inputs: list[int], output: int) -> None:
        self._node("Relu", [self._name(inputs[0])], name=self._name(output))

    def _padding(self, operator: Any, inputs: list[int], output: int) -> None:
        pads = self.constants[inputs[1]][[0, 3, 1, 2]]  # channels are padded, too
        amounts = self._stored(np.concatenate([pads[:, 0], pads[:, 1]]).astype(np.int64))
        self._node("Pad", [self._name(inputs[0]), amounts], name=self._name(output))

    def _pooling(self, operator: Any, inputs: list[int], output: int) -> None:
        options = self._options(operator, "Pool2DOptions")
        window = (options.FilterHeight(), options.FilterWidth())
        strides = [options.StrideH(), options.StrideW()]
        pads = self._pads(options, inputs[0], window)
        made = self._node("MaxPool", [self._name(inputs[0])], kernel_shape=window, strides=strides, pads=pads)
        self._activated(made, options, output)

    def _resizing(self, operator: Any, inputs: list[int], output: int) -> None:
        options = self._options(operator, "ResizeBilinearOptions")
        rule = "align_corners" if options.AlignCorners() else "asymmetric"
        rule = "half_pixel" if options.HalfPixelCenters() else rule
        after, before = self._shape(output)[1:3], self._shape(inputs[0])[1:3]
        scales = self._stored(np.array([1, 1, *(after / before)], np.float32))
        inputs_of = [self._name(inputs[0]), "", scales]
        self._node("Resize", inputs_of, name=self._name(output), mode="linear", coordinate_transformation_mode=rule)

    def _reshaping(self, operator: Any, inputs: list[int], output: int) -> None:
        last = self._node("Transpose", [self._name(inputs[0])], perm=[0, 2, 3, 1])
        shape = self._stored(np.array([-1, *self._shape(output)[1:]], np.int64))
        self._node("Reshape", [last, shape], name=self._name(output))

    def _concatenation(self, operator: Any, inputs: list[int], output: int) -> None:
        axis = self._options(operator, "ConcatenationOptions").Axis()
        self._node("Concat", [self._name(each) for each in inputs], name=self._name(output), axis=axis)
