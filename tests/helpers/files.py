"""Files that were changed after they were written."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from aether_deploy.files import staging


def insert_casts(path: Path) -> None:
    """Puts a pair of Casts, to fp16 and back, around the first GELU of an fp32 ONNX file."""
    model = onnx.load(path)
    nodes = model.graph.node
    at, gelu = next((index, node) for index, node in enumerate(nodes) if node.op_type == "Gelu")
    before, after = gelu.input[0], gelu.output[0]
    gelu.input[0], gelu.output[0] = "narrow", "narrow_gelu"
    nodes.insert(at + 1, helper.make_node("Cast", ["narrow_gelu"], [after], to=TensorProto.FLOAT))
    nodes.insert(at, helper.make_node("Cast", [before], ["narrow"], to=TensorProto.FLOAT16))
    onnx.save(model, path)


def temporary_of(process: int, target: Path) -> Path:
    """The temporary file that another process of this machine would write for a target."""
    with staging(target.parent) as mine:
        owner = mine.name.removeprefix(".staging-").replace(f"-{os.getpid()}-", f"-{process}-")
        return target.with_name(f".{target.stem}.{owner}{target.suffix}")
