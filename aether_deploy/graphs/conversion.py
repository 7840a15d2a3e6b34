"""A graph in another precision, and what making it did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir

from aether_deploy.graphs.half_weights import WeightLoss

__all__ = ["Conversion"]


@dataclass
class Conversion(ir.passes.PassResult):
    """A model in another precision, and what the conversion did.

    Attributes:
        weights: see `WeightLoss`.
        casts: number of Cast nodes in the graph; of QuantizeLinear nodes with 8 bits in fp32.
        islands: operator -> how many of it compute in fp32.
        policy: the name of what is kept in fp32.
    """

    weights: WeightLoss
    casts: int
    islands: dict[str, int]
    policy: str

    def as_dict(self) -> dict[str, Any]:
        """The manifest's `fp32_islands`, without the weights."""
        return {"policy": self.policy, "ops": self.islands, "casts": self.casts}

    def weights_as_dict(self) -> dict[str, Any]:
        """The manifest's `weights`."""
        return asdict(self.weights)
