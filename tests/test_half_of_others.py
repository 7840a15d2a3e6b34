"""Half precision of what other networks have: lengths that divide, sizes computed in floats, integers that scale."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from aether_deploy.errors import ExportError
from aether_deploy.graphs.half_precision import to_half
from aether_deploy.graphs.only_rounded import require_only_rounded
from aether_deploy.graphs.types import tensor_types
from aether_deploy.network.spandrel import Spandrel
from aether_deploy.precisions.choices import POLICIES
from aether_deploy.runners.onnx_reading import OnnxModel
from aether_deploy.runners.rounded import RoundedRunner

# normalize(image) * (height as a float) of as many rows as there are, a number that is computed in floats; between
# convolutions that change nothing.
TEXT = """
<ir_version: 9, opset_import: ["" : 20]>
others (float[n, 3, h, w] input) => (float[n, 3, oh, ow] output)
<int64[1] axis = {1}, float least = {1e-12}, float all = {1.0}, int64[1] zero = {0}, int64[1] rows = {2},
 float[3, 3, 1, 1] same = {1, 0, 0, 0, 1, 0, 0, 0, 1}>
{
  image = Conv (input, same)
  length = ReduceL2 <keepdims = 1> (image, axis)
  kept = Clip (length, least)
  size = Shape (input)
  wide = Expand (kept, size)
  unit = Div (image, wide)
  height = Shape <start = 2, end = 3> (input)
  floating = Cast <to = 1> (height)
  middle = Mul (floating, all)
  row = Cast <to = 7> (middle)
  cut = Slice (unit, zero, row, rows)
  factor = Cast <to = 1> (height)
  scaled = Mul (cut, factor)
  output = Conv (scaled, same)
}
"""
PARTS = {"kept": POLICIES["all-norms"], "roles": Spandrel.roles}


def _model(text: str = TEXT) -> ir.Model:
    model = ir.from_proto(onnx.parser.parse_model(text))
    for node in model.graph:
        node.name = node.outputs[0].name
    return model


def _half(model: ir.Model) -> ir.Model:
    return to_half(model, ir.DataType.FLOAT16, name="fp16", policy="all-norms", **PARTS).model  # type: ignore[arg-type]


def test_each_computes_in_the_type_that_it_needs() -> None:
    made = _half(_model())
    types = {str(value.name): kind for value, kind in tensor_types(made.graph).items()}
    wide, narrow = ir.DataType.FLOAT, ir.DataType.FLOAT16
    wanted = {
        **dict.fromkeys(("length", "kept", "wide", "unit", "floating", "middle"), wide),
        **dict.fromkeys(("image", "cut", "factor", "scaled", "output_uncast"), narrow),
    }
    assert {name: types[name] for name in wanted} == wanted
    onnx.checker.check_model(ir.to_proto(made), full_check=True)


def test_black_is_not_divided_by_nothing(tmp_path: Path) -> None:
    """In fp16 the least length would be 0."""
    for height in (8, 4098):
        with RoundedRunner(tmp_path / "x.onnx", ranges=True, model=OnnxModel.of(_half(_model()))) as runner:
            result = runner.outputs(np.zeros((1, 3, height, 4), np.float32))[0]
        # More rows than fp16 can count.
        assert result.shape == (1, 3, height, 4)
        assert not result.any()


def _in_half(name: str) -> Callable[[ir.Graph], None]:
    def damage(graph: ir.Graph) -> None:
        node = next(node for node in graph if node.name == name)
        types = tensor_types(graph)
        for index, value in enumerate(node.inputs):
            if value is not None and types.get(value) == ir.DataType.FLOAT:
                cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT16.value})
                cast.outputs[0].name = f"{value.name}_narrowed"
                graph.insert_before(node, cast)
                node.replace_input_with(index, cast.outputs[0])

    return damage


def _dropped(graph: ir.Graph) -> None:
    row = next(node for node in graph if node.name == "row")
    floor = ir.node("Cast", row.inputs, {"to": ir.DataType.INT32.value})
    floor.outputs[0].name = "row32"
    graph.insert_before(row, floor)
    row.replace_input_with(0, floor.outputs[0])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_in_half("unit"), "Div unit computes in FLOAT16"),
        (_in_half("middle"), "Mul middle computes in FLOAT16"),
        (_dropped, "has 15 operators, the fp32 one 14"),
    ],
)
def test_another_graph_is_refused(damage: Callable[[ir.Graph], None], said: str) -> None:
    made = _half(_model())
    require_only_rounded(_model(), made, ir.DataType.FLOAT16, **PARTS)  # type: ignore[arg-type]
    damage(made.graph)
    with pytest.raises(ExportError, match=said):
        require_only_rounded(_model(), made, ir.DataType.FLOAT16, **PARTS)  # type: ignore[arg-type]


def test_a_cast_between_floats_is_refused() -> None:
    narrow = "d = Cast <to = 11> (cut)\n  c = Cast <to = 1> (d)\n  scaled = Mul (c, factor)"
    text = TEXT.replace("scaled = Mul (cut, factor)", narrow)
    with pytest.raises(ExportError, match="casts already"):
        _half(_model(text))
