"""Fusing: the arithmetic, the caller's network, the file, and that the gate closes."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from aether_deploy.artifacts.checkpoint_file import fuse_checkpoint
from aether_deploy.artifacts.opening import known_file
from aether_deploy.errors import ManifestError, ReparameterizationError
from aether_deploy.files import sha256_of
from aether_deploy.network import aether_spec
from aether_deploy.network.aether import fuse_aether
from aether_deploy.network.aether_spec import fuse_state_dict
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.fusion import merge_branches
from aether_deploy.proof.manifest import manifest_path, read_manifest
from tests.helpers.commands import Ran, error_line
from tests.helpers.networks import save, source_file, tiny

pytestmark = pytest.mark.slow

SHAPES = [(1, 3, 1, 1), (2, 3, 9, 14), (1, 3, 17, 5)]


@pytest.mark.parametrize("kernels", [(11, 3), (13, 5), (7, 7), (3, 1), (1, 1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_in_float64(kernels: tuple[int, int], shape: tuple[int, ...]) -> None:
    network = tiny(lk_kernel=kernels[0], sk_kernel=kernels[1]).double()
    x = torch.rand(shape, dtype=torch.float64)
    with torch.no_grad():
        # 1e-13: float64 sums in another order.
        assert torch.allclose(fuse_aether(network)(x), network(x), rtol=0, atol=1e-13)


def test_sums_in_float64() -> None:
    """1 + 2^-24 is 1 in float32 when each step is rounded, so the order of the sum would show."""
    large, small = torch.full((1, 1, 1, 1), 1.0), torch.full((1, 1, 1, 1), 2.0**-24)
    kernel, bias = merge_branches(large.double(), small.double(), torch.zeros(1), torch.zeros(1))
    assert kernel.item() == 1 + 2.0**-24
    half = merge_branches(large.half(), small.half() + 2.0**-12, torch.zeros(1), torch.zeros(1))[0]
    assert half.dtype == torch.float16
    assert bias.dtype == torch.float64


@pytest.mark.parametrize("kernels", [(3, 5), (5, 2)])
def test_kernels_that_are_not_one_convolution(kernels: tuple[int, int]) -> None:
    large, small = (torch.ones(2, 1, k, k) for k in kernels)
    with pytest.raises(ReparameterizationError, match="kernels of"):
        merge_branches(large, small, torch.ones(2), torch.ones(2))


def test_leaves_the_callers_network_untouched() -> None:
    network = tiny().train()
    before = copy.deepcopy(network.state_dict())
    fused = fuse_aether(network)
    fused.conv_first.weight.data.zero_()
    assert network.training
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())


def test_keeps_type_and_img_range() -> None:
    fused = fuse_aether(tiny(img_range=255.0).to(torch.bfloat16))
    assert fused.img_range == 255.0
    assert fused.conv_first.weight.dtype == torch.bfloat16


def test_a_fused_network_is_copied() -> None:
    network = tiny(fused_init=True)
    again = fuse_aether(network)
    assert again is not network
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in again.state_dict().items())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_file_loads_strictly_in_the_fused_form(
    tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path, suffix: str
) -> None:
    target = tmp_path / f"out{suffix}"
    ran = call("fuse", checkpoint_file, "-o", target, "--json")
    assert ran.code == 0
    assert ran.json["parity"]["passed"]
    fused = load_checkpoint(target)
    assert fused.spec.fused
    network, x = tiny(fused_init=True), torch.rand(1, 3, 8, 9)
    network.load_state_dict(fused.state_dict, strict=True)
    with torch.no_grad():
        assert torch.allclose(network(x), tiny()(x), rtol=0, atol=1e-5)
    manifest = read_manifest(target)
    assert manifest is not None
    assert manifest.artifact["sha256"] == sha256_of(target)
    assert manifest.source["sha256"] == sha256_of(checkpoint_file)


def test_lands_beside_the_input_and_says_what_is_next(call: Callable[..., Ran], checkpoint_file: Path) -> None:
    ran = call("fuse", checkpoint_file)
    target = checkpoint_file.with_name("2x_Tiny_fused.pth")
    assert ran.code == 0
    assert target.is_file()
    assert ran.out.splitlines()[-1] == f"next: python -m aether_deploy.export {target}"


def test_fusing_a_fused_one_says_so_and_copies(tmp_path: Path, call: Callable[..., Ran]) -> None:
    source = save(tiny(fused_init=True), tmp_path / "net.pth")
    ran = call("fuse", source, "-o", tmp_path / "again.pth")
    assert ran.code == 0
    assert "fused already" in ran.out
    assert (tmp_path / "again.pth").read_bytes() == source.read_bytes()
    assert call("fuse", source, "-o", source).code == 0


def test_a_copy_over_an_artifact_takes_its_own_manifest_along(tmp_path: Path, call: Callable[..., Ran]) -> None:
    """What was there before leaves nothing that contradicts the copy."""
    source, old, new = (tmp_path / f"{name}.pth" for name in ("net", "old", "new"))
    assert call("fuse", save(tiny(depths=(1, 1)), source), "-o", old).code == 0
    assert call("fuse", save(tiny(), source), "-o", new).code == 0
    assert call("fuse", new, "-o", old, "--overwrite").code == 0
    assert old.read_bytes() == new.read_bytes()
    assert known_file(old).matches
    ours, theirs = read_manifest(old), read_manifest(new)
    assert ours is not None and theirs is not None
    assert ours == dataclasses.replace(theirs, artifact={**theirs.artifact, "file": "old.pth"})
    assert call("inspect", old, "--json").json["manifest"] == "sha256 matches"
    assert call("parity", new, old).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "net.pth",
        "new.pth",
        "new.pth.json",
        "old.pth",
        "old.pth.json",
    ]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_copy_without_a_manifest_removes_the_one_of_what_it_replaces(
    tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path, suffix: str
) -> None:
    target = tmp_path / f"target{suffix}"
    assert call("fuse", checkpoint_file, "-o", target).code == 0
    assert manifest_path(target).is_file()
    source = save(tiny(fused_init=True, depths=(1, 1)), tmp_path / "source.pth")
    ran = call("fuse", source, "-o", target, "--overwrite")
    assert ran.code == 0, ran.err
    assert not manifest_path(target).exists()
    assert known_file(target).manifest is None
    assert call("parity", source, target).code == 0


def test_a_manifest_of_another_file_is_not_taken_along(
    tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path
) -> None:
    source = tmp_path / "source.pth"
    assert call("fuse", checkpoint_file, "-o", source).code == 0
    save(tiny(fused_init=True, depths=(1, 1)), source)
    with pytest.raises(ManifestError, match="not the file that was proved"):
        known_file(source)
    assert call("fuse", source, "-o", tmp_path / "copy.pth").code == 0
    assert known_file(tmp_path / "copy.pth").manifest is None


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_twice_is_byte_identical_whatever_the_file_is_called(
    tmp_path: Path, checkpoint_file: Path, suffix: str
) -> None:
    first, second = (
        fuse_checkpoint(checkpoint_file, tmp_path / name / f"{name}{suffix}").output.read_bytes()
        for name in ("one", "another")
    )
    assert first == second


def test_never_replaces_its_input(call: Callable[..., Ran], checkpoint_file: Path) -> None:
    before = checkpoint_file.read_bytes()
    ran = call("fuse", checkpoint_file, "-o", checkpoint_file)
    assert ran.code == 1
    assert "is the input itself" in error_line(ran)
    assert checkpoint_file.read_bytes() == before


def test_a_folder_that_cannot_be_written(tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path) -> None:
    (tmp_path / "file").touch()
    ran = call("fuse", checkpoint_file, "-o", tmp_path / "file" / "out.pth")
    assert ran.code == 1
    assert "cannot be written" in error_line(ran)


State = dict[str, torch.Tensor]
BLOCK = "layers.0.0"


def _drop_small_kernel(state: State) -> State:
    return fuse_state_dict({**state, f"{BLOCK}.conv.sk_conv.weight": 0 * state[f"{BLOCK}.conv.sk_conv.weight"]})


def _shift_small_kernel(state: State) -> State:
    small = torch.roll(state[f"{BLOCK}.conv.sk_conv.weight"], 1, -1)
    return fuse_state_dict({**state, f"{BLOCK}.conv.sk_conv.weight": small})


def _forget_a_bias(state: State) -> State:
    return fuse_state_dict({**state, f"{BLOCK}.conv.sk_bias": 0 * state[f"{BLOCK}.conv.sk_bias"]})


def _swap_gate_and_main(state: State) -> State:
    fused, ffn = fuse_state_dict(state), f"{BLOCK}.ffn"
    for kind in ("weight", "bias"):
        gate, main = f"{ffn}.fc1_gate.{kind}", f"{ffn}.fc1_main.{kind}"
        fused[gate], fused[main] = fused[main], fused[gate]
    return fused


def _nudge_a_weight(state: State) -> State:
    fused = fuse_state_dict(state)
    fused[f"{BLOCK}.conv.fused_conv.weight"][0, 0, 0, 0] += 1e-3
    return fused


def _half_kernels(state: State) -> State:
    fused, key = fuse_state_dict(state), f"{BLOCK}.conv.fused_conv.weight"
    return {**fused, key: fused[key].half().float()}


def _a_thousandth_more(state: State) -> State:
    fused = fuse_state_dict(state)
    weight = fused[f"{BLOCK}.conv.fused_conv.weight"].view(-1)
    weight[weight.abs().argmax()] *= 1.001
    return fused


WRONG = [
    _drop_small_kernel,
    _shift_small_kernel,
    _forget_a_bias,
    _swap_gate_and_main,
    _nudge_a_weight,
    _half_kernels,
    _a_thousandth_more,
]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("trained", [False, True], ids=["random", "sample"])
def test_the_gate_closes(
    tmp_path: Path,
    call: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
    wrong: Callable[[State], State],
    trained: bool,
) -> None:
    source = source_file(tmp_path, trained=trained)
    monkeypatch.setattr(aether_spec, "fuse_state_dict", wrong)
    ran = call("fuse", source, "--json")
    assert ran.code == 3
    assert "in float64 is not the network as it was trained" in error_line(ran)
    assert ran.json["parity"]["gate"] == "fp64"
    assert not ran.json["parity"]["passed"]
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_merged_kernel_has_the_dtype_of_the_large_one(dtype: torch.dtype) -> None:
    large, small = torch.ones(4, 1, 7, 7, dtype=dtype), torch.ones(4, 1, 3, 3, dtype=dtype)
    kernel, bias = merge_branches(large, small, torch.ones(4, dtype=dtype), torch.ones(4, dtype=dtype))
    assert (kernel.dtype, bias.dtype) == (dtype, dtype)
