"""PyTorch's exporter, called and quietened."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch

from aether_deploy.arrays import Shape
from aether_deploy.errors import ExportError
from aether_deploy.graphs.shapes import INPUT, OUTPUT
from aether_deploy.network.families import family_of

if TYPE_CHECKING:
    from torch import nn

    from aether_deploy.network.family import NetworkSpec, Sizes

__all__ = ["quiet_exporters", "traced"]


# (N, H, W), each at least 2: the exporter specialises a size of 1, for the batch too.
_EXAMPLE = (2, 32, 48)


def traced(network: nn.Module, spec: NetworkSpec, *, opset: int, static: Shape | None) -> ir.Model:
    """What PyTorch's exporter gives; args and errors are those of `export_onnx`, and whatever the exporter raises."""
    free = static is None and family_of(spec).operators is None
    example = torch.zeros(static or (_EXAMPLE[0], spec.in_chans, *spec.sizes.fit(*_EXAMPLE[1:])))
    try:
        with torch.no_grad(), quiet_exporters():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=_free(spec.sizes) if free else None,
                verbose=False,
            )
    except Exception as error:
        if interruption := _interruption(error):
            raise interruption from None
        raise
    if program is None:
        raise ExportError("torch.onnx.export gave no program")
    return program.model


def _interruption(error: BaseException) -> BaseException | None:
    """The Ctrl-C or SIGTERM behind an error: PyTorch's exporter turns both into errors of its own."""
    cause: BaseException | None = error
    while cause is not None and isinstance(cause, Exception):
        cause = cause.__cause__ or cause.__context__
    return cause


def _free(sizes: Sizes) -> tuple[dict[int, Any], ...]:
    """Batch, height and width as symbols for the export.

    Not needed for a family whose operators are known: none of them depends on a size, so the export of one size is the
    same graph, and takes 0.4 times as long.
    """
    least = max(1, sizes.minimum // sizes.multiple)
    batch = torch.export.Dim("batch", min=1)
    height, width = (torch.export.Dim(name, min=least) for name in ("height", "width"))
    # A multiple of 1 is written as the symbol itself, which the exporter reads in another way than 1 * symbol.
    sides = [height, height if sizes.square else width]
    if sizes.multiple > 1:
        sides = [sizes.multiple * side for side in sides]
    return ({0: batch, 2: sides[0], 3: sides[1]},)


@contextlib.contextmanager
def quiet_exporters() -> Iterator[None]:
    """Silences PyTorch's exporters, which report internals and warn about opset 17; the checks here cover both."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [item.level for item in loggers]
    for item in loggers:
        item.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for item, level in zip(loggers, levels, strict=True):
            item.setLevel(level)
