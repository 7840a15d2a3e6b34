"""Means over a whole picture: as exact in ONNX Runtime as in PyTorch, in the file and in what it is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from aether_deploy.arrays import Array
from aether_deploy.graphs.exporter import export_onnx, save_onnx
from aether_deploy.graphs.passes import applied
from aether_deploy.graphs.row_means import RowMeans
from aether_deploy.network.checkpoint import Checkpoint, load_checkpoint
from aether_deploy.network.fusion import fuse_network
from aether_deploy.runners.onnx_runtime import OnnxRunner
from aether_deploy.runners.pytorch import TorchRunner
from tests.helpers.spandrel_networks import save_random
from tests.helpers.variations import first_of

# Where a million numbers are added one after the other, errors are ten times the least here and more.
SIDE = 1024


class Norms(nn.Module):
    """Every kind of mean over a picture that PyTorch's exporter writes."""

    def __init__(self) -> None:
        super().__init__()
        self.group, self.instance = nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)
        for value in self.parameters():
            nn.init.uniform_(value, 0.5, 1.5)

    def forward(self, image: Tensor) -> Tensor:
        several = image.repeat(1, 4, 1, 1) * 2 + 3
        normed = self.group(several) + self.instance(several)
        means = normed.mean((2, 3), keepdim=True) + nn.functional.adaptive_avg_pool2d(several, 1)
        result: Tensor = (normed * means).mean(1, keepdim=True)
        return result


def _graph(opset: int) -> ir.Model:
    torch.manual_seed(0)
    sides = {0: torch.export.Dim("n"), 2: torch.export.Dim("h"), 3: torch.export.Dim("w")}
    program = torch.onnx.export(
        Norms().eval(),
        (torch.zeros(2, 1, 16, 24),),
        dynamo=True,
        opset_version=opset,
        input_names=["input"],
        output_names=["output"],
        dynamic_shapes=(sides,),
        verbose=False,
    )
    assert program is not None
    return program.model


def _run(model: ir.Model, folder: Path, image: Array) -> Array:
    save_onnx(model, folder / "x.onnx")
    with OnnxRunner(folder / "x.onnx") as runner:
        return runner.run(image)


@pytest.mark.parametrize("opset", first_of([20, 22]))
def test_every_kind_of_mean(tmp_path: Path, opset: int) -> None:
    graph = _graph(opset)
    assert {"ReduceMean"} < {node.op_type for node in graph.graph}
    torch.manual_seed(0)
    network = Norms().double().eval()
    errors = []
    for size in ((2, 1, 5, 7), (1, 1, SIDE, SIDE)):
        image = np.random.default_rng(0).random(size, dtype=np.float32)
        expected = network(torch.from_numpy(image).double()).detach().numpy()
        for model in (graph, applied(graph, RowMeans())):
            errors.append(float(np.abs(_run(model, tmp_path, image) - expected).max() / np.abs(expected).max()))
    small, small_rows, large, large_rows = errors
    assert max(small, small_rows, large_rows) < 4e-6
    assert large > 10 * large_rows


def test_a_graph_without_them_is_left_alone() -> None:
    image = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, 3, "h", "w"]))
    node = ir.node("ReduceMean", [image], {"keepdims": 1}, name="over_all")
    model = ir.Model(ir.Graph([image], node.outputs, nodes=[node], opset_imports={"": 17}, name="g"), ir_version=9)
    assert [node.op_type for node in applied(model, RowMeans()).graph] == ["ReduceMean"]


@pytest.mark.slow
class TestRealPLKSR:
    """Each of its blocks ends in a GroupNorm over the whole picture."""

    @pytest.fixture(scope="class")
    @staticmethod
    def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
        path = tmp_path_factory.mktemp("plksr") / "2x_p.pth"
        return load_checkpoint(save_random(path, "PLKSR", "RealPLKSR", dim=16, n_blocks=1, upscaling_factor=2))

    IMAGE = np.random.default_rng(0).random((1, 3, 256, 256), dtype=np.float32)

    @pytest.fixture(scope="class")
    @staticmethod
    def exact(checkpoint: Checkpoint) -> Array:
        """Its output in float64."""
        return TorchRunner.from_checkpoint(checkpoint, double=True).run(TestRealPLKSR.IMAGE)

    def test_the_reference_is_exact(self, checkpoint: Checkpoint, exact: Array) -> None:
        """Not so in PyTorch's own channels-last layout."""
        asked = TorchRunner.from_checkpoint(checkpoint, channels_last=True)
        last = TorchRunner(checkpoint.build(), in_chans=3, scale=2, channels_last=True)
        assert np.abs(asked.run(self.IMAGE) - exact).max() < 2e-6
        assert np.abs(last.run(self.IMAGE) - exact).max() > 4e-6

    @pytest.mark.long
    def test_the_file_is_exact(self, checkpoint: Checkpoint, exact: Array, tmp_path: Path) -> None:
        network = fuse_network(checkpoint.build(), checkpoint.spec)
        graph = export_onnx(network, checkpoint.spec)
        assert np.abs(_run(applied(graph, RowMeans()), tmp_path, self.IMAGE) - exact).max() < 2e-6
        # What is mended.
        assert np.abs(_run(graph, tmp_path, self.IMAGE) - exact).max() > 4e-6
