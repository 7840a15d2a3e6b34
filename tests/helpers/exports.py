"""What PyTorch's exporter gave for a network, kept for the next test that exports the very same one.

An export of a tiny network takes two seconds, and most tests that need one need the same one. The exporter itself is
what runs the first time, and wherever anything that it could depend on is another: weights, attributes or code of any
module, the opset, the shape, the exporter.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from aether_deploy.arrays import Shape
from aether_deploy.network.family import NetworkSpec

__all__ = ["kept"]

type Exporter = Callable[..., ir.Model]

# So many graphs are kept; weights of large networks would fill the memory otherwise.
_MOST = 64


def kept(exporter: Exporter) -> Exporter:
    """The exporter, called once for each different network and choice of options."""
    known: dict[Hashable, ir.Model] = {}

    def export(network: nn.Module, spec: NetworkSpec, *, opset: int, static: Shape | None) -> ir.Model:
        key = (tuple(_described(network)), repr(spec), opset, static, torch.onnx.export)
        if key not in known:
            if len(known) == _MOST:
                del known[next(iter(known))]
            known[key] = exporter(network, spec, opset=opset, static=static)
        return known[key].clone()

    return export


def _described(network: nn.Module) -> Iterator[Hashable]:
    """Everything that what a network computes can depend on."""
    for name, module in network.named_modules():
        kind = type(module)
        code = tuple(item for item in vars(kind).values() if isinstance(item, Hashable))
        yield name, kind, code, getattr(module.forward, "__func__", module.forward)
        yield tuple(sorted((key, repr(value)) for key, value in vars(module).items() if isinstance(value, _PLAIN)))
    for name, value in (*network.named_parameters(), *network.named_buffers()):
        # The bytes themselves and not their hash: nothing can be mistaken for another.
        yield name, value.dtype, tuple(value.shape), value.detach().cpu().contiguous().numpy().tobytes()


_PLAIN: tuple[Any, ...] = (bool, int, float, str, tuple, list, type(None))
