"""Lets a graph take any size whose network asks for some: mirrored and cropped inside the file, a pass on onnx-ir."""

from __future__ import annotations

import onnx_ir as ir

from aether_deploy.graphs.new_nodes import NewNodes
from aether_deploy.network.family import Sizes

__all__ = ["AnySize"]


class AnySize(ir.passes.InPlacePass):
    """Image -> mirrored at the right and the bottom up to the next size that is taken -> network -> cropped.

    It mirrors as `pictures.sizes.run_fitted` does, as often as needed: row y of the enlarged image is row
    min(m, 2H - 1 - m) of the image, m = y mod 2H. Only Gather and Slice touch the image; the rest are integers.

    Args:
        sizes: that the network takes.
        scale: output pixels for each input pixel along one side.
    """

    def __init__(self, sizes: Sizes, scale: int) -> None:
        self._sizes = sizes
        self._scale = scale

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes the model in place."""
        if self._sizes.any:
            return ir.passes.PassResult(model, False)
        graph = model.graph
        (image,), (result,) = graph.inputs, graph.outputs
        readers, made = list(image.uses()), NewNodes(graph, "any_size")
        # (H, W)
        given = made.add("Shape", image, start=2, end=4)
        wanted = self._fitted(made, given)
        mirrored = image
        for axis in range(2):
            length, enough = (made.add("Gather", sides, made.one(axis)) for sides in (given, wanted))
            mirrored = _mirrored(made, mirrored, axis, length, enough)
        graph.insert_before(graph[0], made.taken())
        for use in readers:
            use.node.replace_input_with(use.idx, mirrored)
        size = made.add("Mul", given, made.several(self._scale))
        cropped = made.add("Slice", result, made.several(0, 0), size, made.several(2, 3))
        last = result.producer()
        assert last is not None
        graph.insert_after(last, made.taken())
        cropped.type, cropped.shape, result.shape = result.type, result.shape, None
        graph.outputs[0] = cropped
        name, result.name = str(result.name), f"{result.name}_uncropped"
        cropped.name = name
        return ir.passes.PassResult(model, True)

    def _fitted(self, made: NewNodes, given: ir.Value) -> ir.Value:
        """`Sizes.fit`, of a tensor of two integers."""
        sizes, multiple = self._sizes, self._sizes.multiple
        wanted = made.add("Max", given, made.several(sizes.minimum))
        raised = made.add("Add", wanted, made.several(multiple - 1))
        wanted = made.add("Mul", made.add("Div", raised, made.several(multiple)), made.several(multiple))
        if sizes.square:
            height, width = (made.add("Gather", wanted, made.one(axis)) for axis in range(2))
            wanted = made.add("Max", wanted, made.add("Max", height, width))
        return wanted


def _mirrored(made: NewNodes, image: ir.Value, axis: int, length: ir.Value, wanted: ir.Value) -> ir.Value:
    """The image, enlarged along height (0) or width (1)."""
    place = made.add("Range", made.one(0), wanted, made.one(1))
    period = made.add("Mul", length, made.one(2))
    place = made.add("Mod", place, period)
    last = made.add("Sub", period, made.one(1))
    return made.add("Gather", image, made.add("Min", place, made.add("Sub", last, place)), axis=2 + axis)
