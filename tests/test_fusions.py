"""Every rule of `fusions`: equal in float64 where it applies, silent where it would not be, and refused when wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aether_deploy.fusions import batch_norm, consecutive, parallel_branches
from aether_deploy.fusions.kernels import beside, chained
from aether_deploy.fusions.merging import FUSIONS, fuse_layers
from aether_deploy.proof.cases import Case
from aether_deploy.proof.verdict import ParityError, ParityReport, capture, verify
from aether_deploy.runners.pytorch import TorchRunner

NORM, BRANCHES, ROW = list(FUSIONS)[1:]


class RepVGG(nn.Module):
    """3x3, 1x1 and the identity, each with a batch norm but the 1x1, and their sum."""

    def __init__(self, channels: int, *, groups: int = 1, kernel: int = 3) -> None:
        super().__init__()
        self.dense = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.dense_norm = nn.BatchNorm2d(channels)
        self.point = nn.Conv2d(channels, channels, 1, groups=groups)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.act(self.dense_norm(self.dense(x)) + self.point(x) + self.norm(x))
        return result


class Residual(nn.Module):
    """x + depthwise 5x5, as a position embedding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.conv(x)
        return result


class LooksAtSizes(nn.Module):
    """Cannot be traced as a whole; its part can."""

    def __init__(self) -> None:
        super().__init__()
        self.part = RepVGG(3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.part(x if x.shape[2] > 2 else x * 2)
        return result


def row(padding: int, *, bias: bool = True) -> nn.Module:
    """1x1 to more channels, 3x3, 1x1, as between activations."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 1, bias=bias), nn.Conv2d(12, 9, 3, padding=padding), nn.Conv2d(9, 5, 1), nn.ReLU()
    )


def randomised(network: nn.Module) -> nn.Module:
    """In float64, so that what is left of a difference is the algebra's."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.1, 0.5)
    return network.double().eval()


def report(before: nn.Module, after: nn.Module) -> ParityReport:
    """Both on a small picture in float64, at the limit that fusing is held to."""
    image = np.random.default_rng(0).random((1, 3, 14, 11), dtype=np.float32)
    with torch.no_grad():
        found = capture(TorchRunner(before, in_chans=3, scale=1, double=True).run, [Case("noise", image, drawn=True)])
    return verify(found, TorchRunner(after, in_chans=3, scale=1, double=True).run, "fp64")


CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "convolution and norm": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU()), {NORM: 1}),
    "norm without affine": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False)), {NORM: 1}),
    "RepVGG": (lambda: RepVGG(3), {NORM: 1, BRANCHES: 2}),
    "RepVGG, depthwise, 7x7": (lambda: RepVGG(3, groups=3, kernel=7), {NORM: 1, BRANCHES: 2}),
    "residual depthwise": (lambda: nn.Sequential(Residual(3), nn.ReLU()), {BRANCHES: 1}),
    "row without padding": (lambda: row(0), {ROW: 2}),
    "row whose first has no bias": (lambda: row(1, bias=False), {ROW: 2}),
    "a part of what cannot be traced": (LooksAtSizes, {NORM: 1, BRANCHES: 2}),
    "padded row": (lambda: row(1), {ROW: 1}),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_merged_is_equal(name: str) -> None:
    make, counts = CASES[name]
    before = randomised(make())
    after, found = fuse_layers(copy.deepcopy(before))
    assert found == counts
    report(before, after).require(name)
    x = torch.rand(2, 3, 9, 16, dtype=torch.float64)
    torch.testing.assert_close(after(x), before(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "network",
    [
        # A bottleneck has fewer weights than what it is merged to.
        nn.Sequential(nn.Conv2d(3, 1, 1), nn.Conv2d(1, 32, 3)),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8)),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False)),
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), nn.Conv2d(8, 3, 1)),
        nn.Sequential(nn.Conv2d(3, 8, 3, dilation=2), nn.Conv2d(8, 3, 1)),
    ],
    ids=["bottleneck", "activation between", "statistics of the batch", "reflected", "dilated"],
)
def test_what_is_left_alone(network: nn.Module) -> None:
    network = network.eval()
    after, found = fuse_layers(network)
    assert found == {}
    assert after is network


def test_a_convolution_that_two_read_is_left_alone() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            features = self.first(x)
            result: Tensor = self.second(features) * features.mean()
            return result

    assert fuse_layers(Shared().eval())[1] == {}


def test_at_the_border_a_padded_row_is_not_one_convolution() -> None:
    """Equal inside, different where the second pads with zeros; and the limit of float64 says so."""
    first, second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 3, padding=1)
    before = randomised(nn.Sequential(first, second))
    assert not consecutive.border_is_exact(first, second)
    after = consecutive.merged(first, second)
    x = torch.rand(1, 3, 9, 8, dtype=torch.float64)
    difference = (after(x) - before(x)).abs()[0].amax(0)
    assert difference[1:-1, 1:-1].max() < 1e-12
    assert min(difference[side].min() for side in (0, -1)) > 1e-3
    with pytest.raises(ParityError):
        report(before, nn.Sequential(after)).require("merged")


def _without_branch(branches: Any) -> Any:
    return beside(branches[:-1])


def _without_bias(*args: Any) -> Any:
    kernel, bias = chained(*args)
    return kernel, bias * 0


def _shifted(*args: Any) -> Any:
    kernel, bias = chained(*args)
    return kernel.roll(1, -1), bias


def _shifted_beside(branches: Any) -> Any:
    kernel, bias = beside(branches)
    return kernel.roll(1, -2), bias


def _unshifted(norm: Any) -> Any:
    affine = SCALE_AND_SHIFT(norm)
    return affine and (affine[0], affine[1] * 0)


SCALE_AND_SHIFT = batch_norm.scale_and_shift


@pytest.mark.parametrize(
    ("module", "name", "wrong", "case"),
    [
        (parallel_branches, "beside", _without_branch, "RepVGG"),
        (parallel_branches, "beside", _shifted_beside, "residual depthwise"),
        (consecutive, "chained", _without_bias, "row without padding"),
        (consecutive, "chained", _shifted, "row whose first has no bias"),
        (batch_norm, "scale_and_shift", _unshifted, "convolution and norm"),
    ],
)
def test_a_wrong_rule_is_refused(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, wrong: Any, case: str
) -> None:
    before = randomised(CASES[case][0]())
    monkeypatch.setattr(module, name, wrong)
    after, _ = fuse_layers(copy.deepcopy(before))
    with pytest.raises(ParityError):
        report(before, after).require(case)
