"""What the machine can do, timed beside the contenders: matrix products, a copy, and the roofline that they give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aether_deploy.arrays import Array
from aether_deploy.runners.pytorch import torch_device
from aether_deploy.timing.contender import Contender, Run

if TYPE_CHECKING:
    from aether_deploy.timing.contender import Timing

__all__ = ["GAUGES", "Machine", "gauged", "gauges", "open_gauge"]

GAUGES = ("product", "product onnx", "product half", "copy")

# The side of the matrices whose product gives the peak. On a CPU they take 50 MB in all, neither fully cached nor
# memory-bound on two cores; a GPU needs far larger ones to be fully used.
_EDGES = {"cpu": 2048, "cuda": 8192}
# Bytes read, and written again, in one copy, which gives the bandwidth; far more than any cache holds.
_COPY_SIZE = 2**28
_COPY_BYTES = 2 * _COPY_SIZE


@dataclass(frozen=True, slots=True)
class Machine:
    """What the machine reached, the best of all rounds.

    Attributes:
        flops: FLOP/s of a matrix product in float32.
        half_flops: the same in float16; None if not measured.
        bandwidth: bytes/s of a copy, reads and writes both counted.
    """

    flops: float
    half_flops: float | None
    bandwidth: float

    def roofline(self, operations: int, moved: int, *, half: bool) -> float:
        """The least time in seconds in which anything computes `operations` FLOP and moves `moved` bytes."""
        flops = self.half_flops if half and self.half_flops else self.flops
        return max(operations / flops, moved / self.bandwidth)


def gauged(timings: Sequence[Timing], device: str) -> Machine:
    """What the machine can do, from the timings of all `gauges` of the device."""
    operations = 2 * _EDGES[torch_device(device).partition(":")[0]] ** 3

    def least(word: str, *, half: bool = False) -> float:
        chosen = [t for t in timings if t.contender.kind.startswith(word) and t.contender.half == half]
        return min((second for timing in chosen for second in timing.seconds), default=math.inf)

    half = least("product", half=True)
    return Machine(
        operations / least("product"), None if math.isinf(half) else operations / half, _COPY_BYTES / least("copy")
    )


def gauges(device: str, *, half: bool = False) -> list[Contender]:
    """Contenders that gauge the machine: matrix products and a copy, whose results are not compared.

    On the CPU both libraries' products are timed, since neither is faster everywhere.
    """
    nowhere = Path()
    found = [Contender("product, PyTorch", "product", nowhere), Contender("copy", "copy", nowhere)]
    if device in ("auto", "cpu"):
        found.append(Contender("product, ONNX Runtime", "product onnx", nowhere))
    if half:
        found.append(Contender("product, fp16", "product half", nowhere, half=True))
    return found


def open_gauge(kind: str, device: str, threads: int) -> Run:
    """Opens one of `GAUGES`, in the process that will run it."""
    if kind == "product onnx":
        return _product_onnx(threads)
    import torch

    torch.set_num_threads(threads)
    device = torch_device(device)
    dtype = torch.float16 if kind == "product half" else torch.float32
    edge = _EDGES[device.partition(":")[0]]
    left, right, product = torch.rand(3, edge, edge, device=device).to(dtype)
    source, target = torch.zeros(2, _COPY_SIZE if kind == "copy" else 0, dtype=torch.uint8, device=device)

    def run(lr: Array) -> Array:
        if kind == "copy":
            target.copy_(source)
        else:
            torch.matmul(left, right, out=product)
        if device != "cpu":
            torch.cuda.synchronize()
        return lr

    return run


def _product_onnx(threads: int) -> Run:
    import onnx
    import onnxruntime as ort
    from onnx import helper, numpy_helper

    shape = (_EDGES["cpu"],) * 2
    left, right = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["left", "right"], ["product"])],
        "product",
        [helper.make_tensor_value_info("left", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("product", onnx.TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(lr: Array) -> Array:
        session.run(None, {"left": left})
        return lr

    return run
