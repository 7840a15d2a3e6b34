"""A stranger's ONNX file -> a checked model in memory: the one place where such a file is read.

ONNX Runtime gets these bytes, not the path: no data in other files, and no other file than the one that was checked.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import onnx
import onnx_ir as ir
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from aether_deploy.errors import CheckpointError, RunnerError
from aether_deploy.memory_limit import memory_limit
from aether_deploy.network.families import spec_from_dict
from aether_deploy.text import in_one_line

if TYPE_CHECKING:
    from aether_deploy.network.family import NetworkSpec

__all__ = ["OnnxModel", "network_of", "read_onnx"]

# The limit of protobuf itself.
_LARGEST = (2 << 30) - 1
_SPARE = 256 << 20
# aether_large has 1500 nodes and 40000 messages in all.
_MOST_NODES = 20_000
_MOST_MESSAGES = 500_000
# Free text; everything else is a name.
_TEXTS = frozenset({"doc_string", "value"})
_LONGEST_NAME = 1000


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """An ONNX file in memory.

    Attributes:
        proto: parsed and checked.
        data: the file's bytes.
    """

    proto: onnx.ModelProto
    data: bytes

    @classmethod
    def of(cls, model: ir.Model) -> Self:
        """A graph of our own, as a file of it would be."""
        proto = ir.to_proto(model)
        return cls(proto, proto.SerializeToString())


def read_onnx(path: Path) -> OnnxModel:
    """Reads an ONNX file in a limit on memory that its size gives, and checks what can be checked without running it.

    Raises:
        RunnerError: the file cannot be read, is no valid ONNX, keeps data in other files, has control flow or functions
            (an image network has neither, and a file of 300 bytes can loop forever), or far more nodes than a network.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _LARGEST:
                raise RunnerError(f"{path}: {size} bytes, an ONNX file has at most {_LARGEST}; export it again")
            with memory_limit(6 * size + _SPARE):
                data = file.read()
                return OnnxModel(_parsed(data), data)
    except RunnerError:
        raise
    except OSError as error:
        raise RunnerError(f"{path}: cannot be read as ONNX ({error.strerror}); check the path") from error
    except (DecodeError, MemoryError, ValueError, onnx.checker.ValidationError) as error:
        raise RunnerError(f"{path}: cannot be read as ONNX ({in_one_line(error)}); export it again") from error


def network_of(metadata: Mapping[str, str]) -> NetworkSpec | None:
    """What the metadata of an ONNX file say about its network; None if it is not one of ours.

    Raises:
        CheckpointError: it is no description of a network.
    """
    written = metadata.get("aether_deploy.network")
    if not written:
        return None
    try:
        values = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"aether_deploy.network in its metadata is no JSON ({in_one_line(error)})") from error
    if not isinstance(values, dict):
        raise CheckpointError("aether_deploy.network in its metadata is no object; expected the network's numbers")
    return spec_from_dict(values)


def _parsed(data: bytes) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.ParseFromString(data)
    if not model.graph.node:
        raise ValueError("it has no nodes")
    if model.functions:
        raise ValueError("it has functions of its own; only a plain graph is run here")
    if len(model.graph.node) > _MOST_NODES:
        raise ValueError(f"it has {len(model.graph.node)} nodes, more than any network")
    for part in _parts(model):
        if isinstance(part, onnx.AttributeProto) and (part.HasField("g") or part.graphs):
            raise ValueError(f"attribute {part.name} is control flow, which no image network has")
        if isinstance(part, onnx.TensorProto):
            _require_data(part)
    for value in (*model.graph.input, *model.graph.output):
        onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)  # ValueError if unknown
    onnx.checker.check_model(model)
    return model


def _parts(model: Message) -> Iterator[Message]:
    """The message and everything inside it; ValueError for too much of it, or a text that is none."""
    waiting, count = [model], 0
    while waiting:
        part = waiting.pop()
        yield part
        for field, value in part.ListFields():
            values = [value] if isinstance(value, Message | str | bytes) else value
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                # Before they become objects: protobuf crashes where it runs out of memory.
                if (count := count + len(values)) > _MOST_MESSAGES:
                    raise ValueError(f"it has more than {_MOST_MESSAGES} parts")
                waiting.extend(values)
            elif field.type == FieldDescriptor.TYPE_STRING:
                for text in values:
                    _require_text(text, field.name)


def _require_text(text: str | bytes, what: str) -> None:
    # protobuf gives bytes that are no UTF-8 as they are.
    if isinstance(text, bytes) or (what not in _TEXTS and (len(text) > _LONGEST_NAME or not text.isprintable())):
        raise ValueError(f"{what} is {text[:40]!a}, no text that can be shown")


def _require_data(tensor: Any) -> None:
    """Raises ValueError for a tensor whose data are elsewhere, or not as many as its shape says."""
    if tensor.external_data or tensor.data_location != onnx.TensorProto.DEFAULT:
        raise ValueError(f"the data of {tensor.name} are in another file; save it with them inside")
    kind = ir.DataType(tensor.data_type)
    if min(tensor.dims, default=0) < 0:
        raise ValueError(f"{tensor.name} has shape {list(tensor.dims)}")
    if tensor.HasField("raw_data"):
        if kind in (ir.DataType.UNDEFINED, ir.DataType.STRING):
            raise ValueError(f"{tensor.name} has raw data of type {kind.name}")
        expected = math.ceil(math.prod(tensor.dims) * kind.bitwidth / 8)
        if len(tensor.raw_data) != expected:
            raise ValueError(f"{tensor.name} has {len(tensor.raw_data)} bytes of data, expected {expected}")
