"""Files that take any size of a network that asks for some: mirrored inside as `upscale` mirrors, and proved so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from PIL import Image

from aether_deploy.graphs import any_size
from aether_deploy.graphs.any_size import AnySize
from aether_deploy.graphs.new_nodes import NewNodes
from aether_deploy.graphs.passes import applied
from aether_deploy.network.family import Sizes
from aether_deploy.samples import SAMPLE
from tests.helpers.commands import Ran, error_line
from tests.helpers.spandrel_networks import save_random

NAME = "2x_s_fp32_op20_pad.onnx"


def _negation() -> ir.Model:
    image = ir.Value(name="input", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["batch", 3, "h", "w"]))
    node = ir.node("Neg", [image], name="negated")
    result = node.outputs[0]
    result.name, result.type, result.shape = "output", image.type, image.shape
    graph = ir.Graph([image], [result], nodes=[node], opset_imports={"": 17}, name="negation")
    return ir.Model(graph, ir_version=9)


@pytest.mark.parametrize("sizes", [Sizes(16, 8), Sizes(1, 4, square=True), Sizes(40, 4)])
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (16, 24), (17, 53)])
def test_mirrored_as_numpy_does_and_cropped(sizes: Sizes, size: tuple[int, int]) -> None:
    model = applied(_negation(), AnySize(sizes, 1))
    inside = next(value for node in model.graph for value in node.outputs if value.name == "output_uncropped")
    inside.type = ir.TensorType(ir.DataType.FLOAT)
    model.graph.outputs.append(inside)
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).random((2, 3, *size), dtype=np.float32)
    cropped, whole = session.run(None, {"input": image})
    height, width = sizes.fit(*size)
    rows, columns = height - size[0], width - size[1]
    np.testing.assert_array_equal(cropped, -image)
    np.testing.assert_array_equal(whole, -np.pad(image, ((0, 0), (0, 0), (0, rows), (0, columns)), mode="symmetric"))


def test_a_network_that_takes_any_size_is_left_alone() -> None:
    model = applied(_negation(), AnySize(Sizes(), 2))
    assert [node.op_type for node in model.graph] == ["Neg"]


def test_where_it_is_refused(call: Callable[..., Ran]) -> None:
    assert "takes every size as it is" in error_line(call("export", SAMPLE, "--pad"))
    assert "leave --static or --pad out" in error_line(call("export", SAMPLE, "--pad", "--static", "1x3x32x32"))


@pytest.mark.slow
class TestExport:
    @pytest.fixture(scope="class")
    @staticmethod
    def made(tmp_path_factory: pytest.TempPathFactory, call: Callable[..., Ran]) -> Path:
        """A network for multiples of 8, and its file for any size."""
        folder = tmp_path_factory.mktemp("padded")
        options = {"dim": 8, "n_blocks": 1, "ffn_scale": 2.0, "upscaling_factor": 2}
        checkpoint = save_random(folder / "2x_s.pth", "SAFMN", "SAFMN", **options)
        ran = call("export", checkpoint, "--pad", "--json")
        assert ran.code == 0, ran.err
        (artifact,) = ran.json["artifacts"]
        # A single pixel among them, of which the file makes 64.
        assert {"noise 1x3x1x1", "noise 1x3x37x53"} < {case["case"] for case in artifact["parity"]["cases"]}
        return folder

    def test_it_says_so(self, made: Path, call: Callable[..., Ran]) -> None:
        found = call("inspect", made / NAME, "--json").json
        assert found["metadata"]["aether_deploy.pad"] == "mirror"
        sizes = json.loads(found["metadata"]["aether_deploy.network"])["sizes"]
        assert sizes == {"minimum": 1, "multiple": 1, "square": False}
        assert call("verify", made / NAME).code == 0

    def test_against_the_checkpoint_on_odd_sizes(self, made: Path, call: Callable[..., Ran]) -> None:
        ran = call("parity", made / "2x_s.pth", made / NAME, "--json")
        assert ran.code == 0, ran.err
        assert "noise 1x3x37x53" in {case["case"] for case in ran.json["cases"]}
        assert call("locate", made / "2x_s.pth", made / NAME, "--json").json["first"] is None

    def test_a_picture_is_what_upscale_makes_of_the_checkpoint(
        self, made: Path, tmp_path: Path, call: Callable[..., Ran]
    ) -> None:
        levels = np.random.default_rng(0).integers(0, 255, (21, 33, 3), np.uint8)
        Image.fromarray(levels).save(tmp_path / "a.png")
        pictures = []
        for model in (made / "2x_s.pth", made / NAME):
            assert call("upscale", model, tmp_path / "a.png", "-o", tmp_path / f"{model.stem}.png").code == 0
            pictures.append(np.asarray(Image.open(tmp_path / f"{model.stem}.png"), np.int16))
        assert pictures[0].shape == (42, 66, 3)
        assert np.abs(pictures[0] - pictures[1]).max() <= 1

    def test_the_gate_closes_on_another_padding(
        self, made: Path, tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The last row repeated instead of the picture mirrored."""

        def repeated(made: NewNodes, image: ir.Value, axis: int, length: ir.Value, wanted: ir.Value) -> ir.Value:
            place = made.add("Range", made.one(0), wanted, made.one(1))
            last = made.add("Sub", length, made.one(1))
            return made.add("Gather", image, made.add("Min", place, last), axis=2 + axis)

        monkeypatch.setattr(any_size, "_mirrored", repeated)
        ran = call("export", made / "2x_s.pth", "--pad", "-o", tmp_path)
        assert ran.code == 3
        assert "not the network as it was trained" in error_line(ran)
        assert not list(tmp_path.iterdir())
