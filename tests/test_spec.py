"""Reading the network off its weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from aether_deploy.errors import CheckpointError
from aether_deploy.network.aether import Aether, read_spec
from aether_deploy.network.aether_spec import AetherSpec
from aether_deploy.network.definition import arch
from aether_deploy.network.families import recognise, spec_from_dict
from tests.helpers.networks import tiny

NETWORKS: list[dict[str, Any]] = [
    {},
    {"scale": 1},
    {"scale": 3, "in_chans": 1},
    {"scale": 4, "depths": (2, 1, 1), "lk_kernel": 13, "sk_kernel": 5},
    {"scale": 8, "mlp_ratio": 2.5, "img_range": 255.0},
    {"fused_init": True},
    {"lk_kernel": 1, "sk_kernel": 1, "fused_init": True},
    # int(49 * (122 / 49)) is 121: the ratio must be chosen with care.
    {"embed_dim": 49, "mlp_ratio": 2.5},
]


@pytest.mark.parametrize("options", NETWORKS, ids=str)
def test_rebuilds_the_network_from_its_weights(options: dict[str, Any]) -> None:
    network = tiny(**options)
    spec = read_spec(network.state_dict(), img_range=network.img_range)
    rebuilt = spec.build()
    rebuilt.load_state_dict(network.state_dict(), strict=True)
    x = torch.rand(1, spec.in_chans, 6, 9)
    with torch.no_grad():
        assert torch.equal(rebuilt(x), network(x))


@pytest.mark.parametrize("options", NETWORKS, ids=str)
def test_survives_json(options: dict[str, Any]) -> None:
    spec = read_spec(tiny(**options).state_dict())
    assert AetherSpec.from_dict(spec.as_dict()) == spec


@pytest.mark.parametrize("hidden", range(1, 400))
def test_every_hidden_size_has_a_ratio_that_gives_it_back(hidden: int) -> None:
    for embed_dim in (1, 3, 49, 96, 107, 180):
        spec = AetherSpec("aether", 2, 3, embed_dim, (1,), hidden, 3, 3, False)
        assert int(embed_dim * spec.mlp_ratio) == hidden


@pytest.mark.parametrize("variant", arch.PRESETS)
@pytest.mark.parametrize("fused", [False, True])
def test_names_the_variant(variant: str, fused: bool) -> None:
    with torch.device("meta"):
        network = getattr(arch, variant)(scale=2, fused_init=fused)
    spec = read_spec(network.state_dict())
    assert spec.variant == variant
    assert spec.network_options()["type"] == variant


def test_another_small_kernel_is_no_preset() -> None:
    with torch.device("meta"):
        network = arch.aether_small(scale=2, sk_kernel=5)
    assert read_spec(network.state_dict()).variant == "aether"


def test_building_leaves_the_global_rng() -> None:
    spec = read_spec(tiny().state_dict())
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    spec.build()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("key", list(tiny().state_dict()))
def test_every_single_missing_key_is_named(key: str) -> None:
    state_dict = tiny().state_dict()
    del state_dict[key]
    with pytest.raises(CheckpointError, match=key.replace(".", r"\.")):
        read_spec(state_dict)


def _renamed(state_dict: dict[str, torch.Tensor], old: str, new: str) -> dict[str, torch.Tensor]:
    return {key.replace(old, new): value for key, value in state_dict.items()}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: _renamed(s, "layers.", "stages."), "second generation"),
        (lambda s: {**s, "quant.scale": torch.ones(1)}, "quantization"),
        (lambda s: {**s, "conv_first.activation_post_process.min_val": torch.ones(1)}, "quantization"),
        (lambda s: {"body.weight": torch.ones(1)}, "no AetherNet"),
        (lambda s: {}, "no AetherNet"),
        (lambda s: {**s, "extra.weight": torch.ones(1)}, "not part of the network.*extra"),
        (lambda s: _renamed(s, "layers.1.", "layers.5."), r"stages are numbered \[0, 5\]"),
        (lambda s: {**s, "upsample.0.weight": torch.ones(100, 64, 3, 3)}, "256 or 576"),
        (lambda s: {**s, "norm.weight": torch.ones(5)}, "wrong shape"),
        (lambda s: {**s, "conv_first.weight": torch.ones(12)}, "4 dimensions"),
    ],
)
def test_other_networks_are_refused_by_name(change: Any, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        state_dict = change(dict(tiny().state_dict()))
        recognise(state_dict).read(state_dict)


def test_img_range_is_one_unless_it_is_said() -> None:
    spec = read_spec(tiny().state_dict())
    assert spec.with_img_range(255.0).img_range == 255.0
    values = spec.with_img_range(255.0).as_dict()
    assert spec_from_dict(values) == spec.with_img_range(255.0)
    del values["img_range"]
    assert spec_from_dict(values).img_range == 1.0


def test_one_key_of_a_block_is_recognised() -> None:
    assert Aether().recognises({"layers.0.0.norm.weight"})
    assert Aether().recognises({"layers.3.11.conv.lk_bias"})
    # ESRGAN's and SwinIR's.
    assert not Aether().recognises({"conv_first.weight", "layers.0.residual_group.blocks.0.norm1.weight"})


def test_fused_it_is_the_spec_of_the_fused_network() -> None:
    assert read_spec(tiny().state_dict()).as_fused() == read_spec(tiny(fused_init=True).state_dict())
    assert read_spec(tiny().state_dict(), img_range=255.0).img_range == 255.0
    assert Aether().read(tiny().state_dict())[0].img_range == 1.0
