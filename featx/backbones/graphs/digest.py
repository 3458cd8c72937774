"""The identity of a graph: digests over operations, attributes, edges and constants, never over a saved file.

The XML of one network differs between two saves, and so do the names and the order of its operations. The digest of an
operation is taken over its kind, its attributes and the digests of what it reads, and that of a graph over those of its
outputs: equal for equal graphs, whatever they are called and however they are listed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import openvino


@dataclass(frozen=True)
class OperationDigest:
    """SHA-256 of an operation and all below it.

    structure : over kinds, attributes, edges and the shapes of constants; full : over the values of constants as well
    """

    structure: bytes
    full: bytes


@dataclass(frozen=True)
class GraphDigest:
    """SHA-256 of a graph, as hexadecimal text: what it computes, and with which numbers."""

    architecture: str
    weights: str


def digest_graph(model: openvino.Model) -> GraphDigest:
    """The digests of a graph as it was read, before anything in it was folded or fixed."""
    found = digest_operations(model)
    outputs = [found[node.get_instance_id()] for node in model.get_results()]
    return GraphDigest(
        architecture=hashlib.sha256(b"".join(sorted(one.structure for one in outputs))).hexdigest(),
        weights=hashlib.sha256(b"".join(sorted(one.full for one in outputs))).hexdigest(),
    )


def digest_operations(model: openvino.Model) -> dict[int, OperationDigest]:
    """The digests of every operation, by its `get_instance_id()`."""
    found: dict[int, OperationDigest] = {}
    for node in model.get_ordered_ops():
        sources = [port.get_source_output() for port in node.inputs()]
        below = [(found[one.get_node().get_instance_id()], one.get_index()) for one in sources]
        head = _describe(node)
        structure = hashlib.sha256(head + b"".join(one.structure + bytes([port]) for one, port in below))
        full = hashlib.sha256(head + b"".join(one.full + bytes([port]) for one, port in below))
        if node.get_type_name() == "Constant":
            full.update(_content(node))
        found[node.get_instance_id()] = OperationDigest(structure.digest(), full.digest())
    return found


def _describe(node: openvino.Node) -> bytes:
    kind = node.get_type_info()
    attributes = {name: str(value) for name, value in sorted(node.get_attributes().items()) if name != "variable_id"}
    shape = node.get_output_partial_shape(0).to_string() if node.get_type_name() in {"Parameter", "Constant"} else ""
    return repr((kind.name, kind.version_id, attributes, shape, node.get_input_size())).encode()


def _content(constant: openvino.Node) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(constant.data).tobytes()).digest()
