"""Models with random weights, built when the server starts: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SIDE = 224


def conv_model(path: Path, channels: int) -> Path:
    """Three strided convolutions, a mean and a linear layer: 3 x 224 x 224 floats to 100 scores."""
    random = np.random.default_rng(7)
    nodes, weights, last, width = [], [], "pixels", 3
    for i, out in enumerate((channels, channels * 2, channels * 4)):
        kernel = random.normal(0, 0.1, (out, width, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{i}"))
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], strides=[2, 2] if i else [1, 1],
                                      pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        last, width = f"r{i}", out
    weights.append(numpy_helper.from_array(random.normal(0, 0.1, (width, 100)).astype(np.float32), "w"))
    nodes += [helper.make_node("GlobalAveragePool", [last], ["mean"]),
              helper.make_node("Flatten", ["mean"], ["flat"]),
              helper.make_node("MatMul", ["flat", "w"], ["scores"])]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
    return _save(path, nodes, weights, pixels, ["batch", 100])


def token_model(path: Path, vocabulary: int, width: int = 256, layers: int = 4) -> Path:
    """An embedding, dense layers and a projection: token ids to a score for each word of the vocabulary."""
    random = np.random.default_rng(7)
    weights = [numpy_helper.from_array(random.normal(0, 1, (vocabulary, width)).astype(np.float32), "table")]
    nodes, last = [helper.make_node("Gather", ["table", "ids"], ["e"])], "e"
    for i in range(layers):
        layer = random.normal(0, 0.06, (width, width)).astype(np.float32)
        weights.append(numpy_helper.from_array(layer, f"w{i}"))
        nodes += [helper.make_node("MatMul", [last, f"w{i}"], [f"m{i}"]),
                  helper.make_node("Relu", [f"m{i}"], [f"r{i}"])]
        last = f"r{i}"
    last_layer = random.normal(0, 0.06, (width, vocabulary)).astype(np.float32)
    weights.append(numpy_helper.from_array(last_layer, "w"))
    nodes.append(helper.make_node("MatMul", [last, "w"], ["scores"]))
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["tokens"])
    return _save(path, nodes, weights, ids, ["tokens", vocabulary])


def session(path: Path, threads: int | None) -> onnxruntime.InferenceSession:
    """`threads` None: onnxruntime's default, a thread a core, which spins while it waits for work."""
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _save(path: Path, nodes: list[Any], weights: list[Any], given: Any, shape: list[str | int]) -> Path:
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "random", [given], [scores], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path
