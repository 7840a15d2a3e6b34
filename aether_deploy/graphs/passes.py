"""Running passes on a graph; what a pass requires and ensures becomes an error of ours."""

from __future__ import annotations

import onnx_ir as ir

from aether_deploy.errors import ExportError

__all__ = ["applied"]


def applied(model: ir.Model, *passes: ir.passes.PassBase) -> ir.Model:
    """A copy of the model after the passes, one after the other; the given model is not changed.

    Raises:
        ExportError: a graph that a pass does not take, or one that it left other than it ensures.
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
