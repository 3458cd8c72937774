"""Small networks as ONNX files, and what ONNX Runtime makes of them: the reference for graph files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 32


class Maker:
    """Puts an ONNX network together, one operation after the other."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: np.ndarray, name: str | None = None) -> str:
        name = name or f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, *shape: int) -> str:
        size = float(np.prod(shape[1:]) if len(shape) > 1 else shape[0])
        return self.constant(self.random.normal(0, size**-0.5, shape).astype(np.float32))

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def save(
        self, path: Path, shape: Sequence[int | str], output: str, rank: int = 2, dtype: int = TensorProto.FLOAT
    ) -> Path:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("image", dtype, list(shape))],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [f"axis{i}" for i in range(rank)])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        onnx.save(model, path)
        return path


def save_residual_net(path: Path, seed: int = 0, batch: int | str = "n", side: int | str = SIDE) -> Path:
    """A stem, three residual blocks of two convolutions, an average and a classifier; channels first."""
    make = Maker(seed)
    x = make.add("Conv", ["image", make.weight(8, 3, 3, 3)], "stem", strides=[2, 2], pads=[1, 1, 1, 1])
    for block in range(1, 4):
        inner = make.add("Conv", [x, make.weight(8, 8, 3, 3)], f"b{block}/conv1", pads=[1, 1, 1, 1])
        inner = make.add("Relu", [inner], f"b{block}/relu1")
        inner = make.add("Conv", [inner, make.weight(8, 8, 3, 3)], f"b{block}/conv2", pads=[1, 1, 1, 1])
        x = make.add("Add", [x, inner], f"b{block}/sum")
        x = make.add("Relu", [x], f"b{block}/out")
    x = make.add("GlobalAveragePool", [x], "pooled")
    x = make.add("Flatten", [x], "flat")
    x = make.add("Gemm", [x, make.weight(5, 8)], "logits", transB=1)
    return make.save(path, [batch, 3, side, side], x)


def save_transformer(path: Path, seed: int = 0, tokens: int = 17, width: int = 12, blocks: int = 3) -> Path:
    """Patches of 8 pixels, a class token, blocks of attention (two heads) and an MLP, a last norm; channels first."""
    make = Maker(seed)
    heads, each = 2, width // 2
    x = make.add("Conv", ["image", make.weight(width, 3, 8, 8)], "patches", strides=[8, 8])
    x = make.add("Reshape", [x, make.constant(np.array([0, width, -1]))], "row")
    x = make.add("Transpose", [x], "rows", perm=[0, 2, 1])
    batch = make.add("Shape", [x], "batch", start=0, end=1)
    sizes = make.add("Concat", [batch, make.constant(np.array([1, width]))], "sizes", axis=0)
    token = make.add("Expand", [make.weight(1, 1, width), sizes], "class")
    x = make.add("Concat", [token, x], "tokens", axis=1)
    x = make.add("Add", [x, make.weight(1, tokens, width)], "placed")
    for block in range(1, blocks + 1):
        x = _attend(make, x, f"layer{block}", (tokens, width, heads, each))
        hidden = _norm(make, x, f"layer{block}/norm2", width)
        hidden = make.add("MatMul", [hidden, make.weight(width, 4 * width)], f"layer{block}/up")
        hidden = make.add("Relu", [hidden], f"layer{block}/act")
        hidden = make.add("MatMul", [hidden, make.weight(4 * width, width)], f"layer{block}/down")
        x = make.add("Add", [x, hidden], f"layer{block}/out")
    x = _norm(make, x, "norm", width)
    return make.save(path, ["n", 3, SIDE, SIDE], x, rank=3)


def _norm(make: Maker, x: str, name: str, width: int) -> str:
    scale = make.constant(make.random.uniform(0.5, 1.5, width).astype(np.float32))
    return make.add("LayerNormalization", [x, scale, make.weight(width)], name)


def _attend(make: Maker, x: str, name: str, sizes: tuple[int, int, int, int]) -> str:
    tokens, width, heads, each = sizes
    normal = _norm(make, x, f"{name}/norm1", width)
    parts = []
    for part, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        rows = make.add("MatMul", [normal, make.weight(width, width)], f"{name}/{part}")
        split = make.add("Reshape", [rows, make.constant(np.array([-1, tokens, heads, each]))], f"{name}/{part}split")
        parts.append(make.add("Transpose", [split], f"{name}/{part}heads", perm=perm))
    scores = make.add("MatMul", parts[:2], f"{name}/scores")
    weights = make.add("Softmax", [scores], f"{name}/weights", axis=-1)
    mixed = make.add("MatMul", [weights, parts[2]], f"{name}/mixed")
    mixed = make.add("Transpose", [mixed], f"{name}/together", perm=[0, 2, 1, 3])
    mixed = make.add("Reshape", [mixed, make.constant(np.array([-1, tokens, width]))], f"{name}/joined")
    mixed = make.add("MatMul", [mixed, make.weight(width, width)], f"{name}/projected")
    return make.add("Add", [x, mixed], f"{name}/sum")


def run_onnx(path: Path, names: Sequence[str], images: np.ndarray) -> dict[str, np.ndarray]:
    """Any tensors of an ONNX file by ONNX Runtime; `images` as the file wants them."""
    import onnxruntime

    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(list(names), {session.get_inputs()[0].name: images})
    return dict(zip(names, found, strict=True))
