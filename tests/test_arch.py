"""neosr/archs/aether_arch.py: keys, values, warnings, and that it is the only definition."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from aether_deploy.network.definition import ARCH_FILE, arch
from tests.helpers.networks import tiny

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [("aether_small", 1_388_963), ("aether_medium", 4_554_115), ("aether_large", 18_268_127)],
)
def test_variants_have_the_parameters_of_the_format(variant: str, parameters: int) -> None:
    with torch.device("meta"):
        network = getattr(arch, variant)(scale=2)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_keys_of_the_format() -> None:
    shapes = {key: tuple(value.shape) for key, value in tiny(scale=4).state_dict().items()}
    block = {
        "conv.lk_conv.weight": (12, 1, 7, 7),
        "conv.sk_conv.weight": (12, 1, 3, 3),
        "conv.lk_bias": (12,),
        "conv.sk_bias": (12,),
        "norm.weight": (12,),
        "norm.bias": (12,),
        "ffn.fc1_gate.weight": (24, 12),
        "ffn.fc1_gate.bias": (24,),
        "ffn.fc1_main.weight": (24, 12),
        "ffn.fc1_main.bias": (24,),
        "ffn.fc2.weight": (12, 24),
        "ffn.fc2.bias": (12,),
    }
    expected: dict[str, tuple[int, ...]] = {
        "conv_first.weight": (12, 3, 3, 3),
        "conv_first.bias": (12,),
        "norm.weight": (12,),
        "norm.bias": (12,),
        "conv_after_body.weight": (12, 12, 3, 3),
        "conv_after_body.bias": (12,),
        "conv_before_upsample.0.weight": (64, 12, 3, 3),
        "conv_before_upsample.0.bias": (64,),
        "upsample.0.weight": (256, 64, 3, 3),
        "upsample.0.bias": (256,),
        "upsample.2.weight": (256, 64, 3, 3),
        "upsample.2.bias": (256,),
        "conv_last.weight": (3, 64, 3, 3),
        "conv_last.bias": (3,),
    }
    for prefix in ("layers.0.0", "layers.1.0", "layers.1.1"):
        expected |= {f"{prefix}.{key}": shape for key, shape in block.items()}
    assert shapes == expected


def test_fused_keys() -> None:
    fused, unfused = tiny(fused_init=True).state_dict(), tiny().state_dict()
    assert tuple(fused["layers.0.0.conv.fused_conv.weight"].shape) == (12, 1, 7, 7)
    assert {key for key in fused if ".conv." not in key} == {key for key in unfused if ".conv." not in key}
    assert not any("lk_" in key or "sk_" in key for key in fused)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 7, 5)])
def test_output_shape(scale: int, shape: tuple[int, ...]) -> None:
    n, c, h, w = shape
    with torch.no_grad():
        assert tiny(scale=scale)(torch.rand(shape)).shape == (n, c, h * scale, w * scale)


def _by_hand(network: Any, x: torch.Tensor) -> Any:
    """The forward pass in the words of the format, with nothing but functions and the state dict."""
    f = torch.nn.functional
    p = network.state_dict()

    def conv(name: str, y: torch.Tensor) -> torch.Tensor:
        return f.conv2d(y, p[f"{name}.weight"], p[f"{name}.bias"], padding="same")

    def norm(name: str, y: torch.Tensor, eps: float) -> Any:
        mean, var = y.mean(1, keepdim=True), y.var(1, unbiased=False, keepdim=True)
        weight, bias = (p[f"{name}.{k}"].view(1, -1, 1, 1) for k in ("weight", "bias"))
        return (y - mean) / torch.sqrt(var + eps) * weight + bias

    def pointwise(name: str, y: torch.Tensor) -> torch.Tensor:
        return f.conv2d(y, p[f"{name}.weight"][:, :, None, None], p[f"{name}.bias"])

    first = y = conv("conv_first", (x - 0.5) * network.img_range)
    for block in ("layers.0.0", "layers.1.0", "layers.1.1"):
        lk, sk = p[f"{block}.conv.lk_conv.weight"], p[f"{block}.conv.sk_conv.weight"]
        z = f.conv2d(y, lk, p[f"{block}.conv.lk_bias"], padding="same", groups=12)
        z = z + f.conv2d(y, sk, p[f"{block}.conv.sk_bias"], padding="same", groups=12)
        z = norm(f"{block}.norm", z, 1e-6)
        gate = pointwise(f"{block}.ffn.fc1_gate", z)
        gate = gate * 0.5 * (1 + torch.erf(gate / 2**0.5))
        y = y + pointwise(f"{block}.ffn.fc2", gate * pointwise(f"{block}.ffn.fc1_main", z))
    y = conv("conv_after_body", norm("norm", y, 1e-5)) + first
    y = conv("conv_before_upsample.0", y)
    y = torch.where(y > 0, y, 0.01 * y)
    y = f.pixel_shuffle(conv("upsample.0", y), 2)
    return conv("conv_last", y) / network.img_range + 0.5


@pytest.mark.parametrize("img_range", [1.0, 255.0])
def test_forward_is_the_one_of_the_format(img_range: float) -> None:
    network = tiny(img_range=img_range).double()
    x = torch.rand(2, 3, 9, 13, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(network(x), _by_hand(network, x), rtol=0, atol=1e-12)


def test_mean_is_zero_without_rgb_and_in_no_state_dict() -> None:
    network = tiny(in_chans=1)
    assert float(network.mean.abs().max()) == 0
    assert "mean" not in network.state_dict()


def test_variants_take_every_override_as_list_or_tuple() -> None:
    network: Any = arch.aether_medium(scale=2, embed_dim=8, depths=[1, 1], mlp_ratio=1.5, lk_kernel=5, sk_kernel=1)
    assert network.conv_first.weight.shape[0] == 8
    assert [len(stage) for stage in network.layers] == [1, 1]
    small: Any = arch.aether_small(scale=2, embed_dim=8, depths=(1,))
    assert small.layers[0][0].conv.lk_conv.kernel_size == (11, 11)


def test_unknown_keyword_warns_and_names_the_nearest() -> None:
    with pytest.warns(UserWarning, match="fused_int.*fused_init"):
        tiny(fused_int=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scale": 5}, "1, 2, 3, 4, 8"),
        ({"scale": None}, "no scale given"),
        ({"lk_kernel": 10}, "odd"),
        ({"sk_kernel": 4}, "odd"),
        ({"lk_kernel": 3, "sk_kernel": 5}, "up to lk_kernel, 3"),
        ({"depths": []}, "one or more"),
        ({"depths": [2, 0]}, "at least 1"),
        ({"depths": 4}, "list"),
        ({"embed_dim": 0}, "at least 1"),
        ({"mlp_ratio": 0.001}, "mlp_ratio"),
        ({"in_chans": True}, "in_chans"),
        ({"drop_rate": 1.0}, "below 1"),
        ({"drop_path_rate": -0.1}, "below 1"),
        ({"img_range": 0}, "above 0"),
    ],
)
def test_wrong_values_say_what_is_allowed(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        arch.AetherNet(**{"scale": 2, **options})


def test_drop_path_is_linear_and_only_while_training() -> None:
    network: Any = arch.AetherNet(scale=2, embed_dim=4, depths=(2, 3), drop_path_rate=0.4)
    rates = [block.drop_path.rate for stage in network.layers for block in stage]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        network.eval()
        assert torch.equal(network(x), network(x))
        torch.manual_seed(0)
        network.train()
        assert any(not torch.equal(network(x), network(x)) for _ in range(10))


def test_loaded_by_us_it_touches_no_neosr() -> None:
    code = (
        "import sys; import aether_deploy.network.definition as n;"
        "assert n.arch.AetherNet.__module__ in sys.modules;"
        "sys.exit(any(name.partition('.')[0] == 'neosr' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_only_one_definition() -> None:
    ours = [path for path in ROOT.rglob("*.py") if not path.relative_to(ROOT).parts[0].startswith(".")]
    found = [path for path in ours if _defines_the_network(path)]
    assert found == [ARCH_FILE]


def _defines_the_network(path: Path) -> bool:
    return re.search(r"^class AetherNet\b", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


def test_known_keywords_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny(drop_rate=0.1, drop_path_rate=0.2)
