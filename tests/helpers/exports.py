"""What PyTorch gave for a network, kept for the next test that asks for the very same: exports and trained outputs.

An export of a tiny network takes two seconds, its outputs for all cases half of one, and most tests that need them need
those of the same network. PyTorch itself is what runs the first time, and wherever anything that it could depend on is
another: weights, attributes or code of any module, the opset, the shape, the input, how it is run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from aether_deploy.arrays import Array, Shape
from aether_deploy.network.family import NetworkSpec
from aether_deploy.pictures.sizes import run_fitted
from aether_deploy.proof.cases import Case
from aether_deploy.proof.verdict import Reference
from aether_deploy.runners.pytorch import TorchRunner

__all__ = ["kept", "outputs_kept"]

type Exporter = Callable[..., ir.Model]

# So many are kept; large ones would fill the memory otherwise.
_MOST = 64
_MOST_OUTPUTS = 2000


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


def outputs_kept(capture: Callable[..., Reference]) -> Callable[..., Reference]:
    """`verdict.capture` of a `TorchRunner`, which runs each different network on each different input once."""
    known: dict[Hashable, Array] = {}

    def captured(run: Any, cases: Iterable[Case], *limits: Any) -> Reference:
        fits = isinstance(run, functools.partial)
        runner = run.args[0] if fits else run.__self__
        how = tuple(sorted((name, repr(value)) for name, value in vars(runner).items() if name != "_network"))
        who = tuple(_described(runner._network)), how, TorchRunner.run, fits and run_fitted

        def once(lr: Array) -> Array:
            key = (who, lr.shape, lr.tobytes())
            if key not in known:
                if len(known) == _MOST_OUTPUTS:
                    del known[next(iter(known))]
                known[key] = run(lr)
            return known[key].copy()

        return capture(once, cases, *limits)

    return captured


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
