"""Two forms of one network as graphs, and what the second one should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx_ir as ir

from aether_deploy.arrays import Array
from aether_deploy.graphs.rounded_results import RoundedResults
from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.runners.devices import CPU, Device
from aether_deploy.runners.onnx_runtime import GraphSession

if TYPE_CHECKING:
    from aether_deploy.network.checkpoint import Checkpoint
    from aether_deploy.precisions.precision import Precision

__all__ = ["Pair", "relative", "session_of"]


@dataclass(frozen=True, slots=True)
class Pair:
    """What is compared.

    Attributes:
        names: of both, for people.
        exact: the graph of the first.
        made: the graph of the second.
        right: what the second should be, made again from `exact`; None if that cannot be told, as of 8 bits.
        precision: of the second, a key of `PRECISIONS`.
        device: that the second runs on.
        trained: the network as it was trained, if the first is a checkpoint.
        reference: precision of the first, a key of `PRECISIONS`.
    """

    names: tuple[str, str]
    exact: ir.Model
    made: ir.Model
    right: ir.Model | None
    precision: str
    device: Device = CPU
    trained: Checkpoint | None = None
    reference: str = "fp32"

    @property
    def row(self) -> Precision:
        """The second one's row of the precision table."""
        return PRECISIONS[self.precision]

    @property
    def step(self) -> float:
        """Distance of two neighbouring numbers of its weights' type, as a share of the larger one."""
        kind = ir.DataType[self.row.storage]
        return 1 / 127 if kind == ir.DataType.INT8 else float(ml_dtypes.finfo(kind.numpy()).eps)  # type: ignore[no-untyped-call]

    @property
    def runs_as(self) -> str:
        """How the second one runs, for people."""
        if self.device == CPU and self.row.half:
            return f"{self.precision}, rounded as its types say"
        return f"ONNX Runtime {self.precision} {str(self.device).upper()}"


def session_of(model: ir.Model, row: Precision, device: Device) -> GraphSession:
    """A graph that runs: on the CPU, half precision rounded as its types say; all else as the provider does.

    Raises:
        RunnerError: see `GraphSession`.
    """
    if device == CPU and row.half:
        # Unoptimized, so that no rounding is dropped.
        return GraphSession(RoundedResults()(model.clone()).model, as_written=True)
    return GraphSession(model, device=device, as_written=bool(row.quantizes) and not row.in_onnxruntime)


def relative(difference: Array, expected: Array) -> float:
    """Largest absolute difference as a share of the largest expected value; infinite if it is not finite."""
    scale = float(np.abs(expected).max(initial=0.0)) or 1.0
    largest = float(np.abs(difference).max(initial=0.0)) / scale
    return largest if np.isfinite(largest) else float("inf")
