"""The passes over fp32 graphs, and how they are run: a broken precondition or postcondition is an ExportError."""

from __future__ import annotations

import onnx_ir as ir

from aether_deploy.errors import ExportError
from aether_deploy.graphs.channels_last_sum import ChannelsLastSum
from aether_deploy.graphs.ffn_as_convolutions import ConvolutionalFFN
from aether_deploy.graphs.fold_norms import FoldedNorms
from aether_deploy.graphs.row_means import RowMeans
from aether_deploy.graphs.shuffle_last import ShuffleLast

__all__ = ["AFTER_8_BITS", "PASSES", "applied"]

# Name -> pass over an fp32 graph that leaves the function unchanged; a family names those that suit it.
PASSES: dict[str, type[ir.passes.InPlacePass]] = {
    "ffn_as_convolutions": ConvolutionalFFN,
    "row_means": RowMeans,
    "shuffle_last": ShuffleLast,
    "channels_last_sum": ChannelsLastSum,
    "fold_norms": FoldedNorms,
}
# A folded layer has no norm of its own whose scale could take up a factor; what stays in fp32 is folded later.
AFTER_8_BITS = frozenset({"fold_norms"})


def applied(model: ir.Model, *passes: ir.passes.PassBase) -> ir.Model:
    """A copy of the model with the passes applied in order; the given model is not changed.

    Raises:
        ExportError: the graph breaks a precondition or a postcondition of a pass.
    """
    if not passes:
        return model.clone()
    try:
        return ir.passes.functionalize(ir.passes.Sequential(*passes))(model).model
    except ir.passes.PassError as error:
        # Sequential wraps whatever a pass raises; anything but a broken condition is a bug and stays one.
        if not isinstance(error.__cause__, ir.passes.InvariantError):
            raise
        raise ExportError(str(error.__cause__)) from error
