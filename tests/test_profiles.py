"""Profiles: defaults, combinations, and what is refused before a build."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from aether_deploy.arrays import Shape
from aether_deploy.engines.memory import GIB, activation_bytes, describe_bytes
from aether_deploy.engines.profiles import DEFAULT_BUDGET, Profile, default_profile, make_profiles
from aether_deploy.errors import EngineError
from aether_deploy.network.aether_spec import AetherSpec
from aether_deploy.network.definition import arch


def _spec(variant: str = "aether_small", scale: int = 2) -> AetherSpec:
    values: dict[str, Any] = dict(arch.PRESETS[variant])
    hidden = int(values["embed_dim"] * values.pop("mlp_ratio"))
    return AetherSpec(variant, scale, 3, hidden=hidden, fused=True, **values)


def _make(
    minima: Sequence[Shape] = (),
    optima: Sequence[Shape] = (),
    maxima: Sequence[Shape] = (),
    static: Shape | None = None,
) -> tuple[Profile, ...]:
    return make_profiles(minima, optima, maxima, spec=_spec(), precision="fp16", static=static)


@pytest.mark.parametrize(
    ("variant", "scale", "precision", "largest"),
    [
        ("aether_small", 2, "fp16", (1080, 1920)),
        ("aether_small", 2, "fp32", (1080, 1920)),
        ("aether_medium", 2, "fp16", (1080, 1920)),
        ("aether_large", 2, "fp16", (1080, 1920)),
        ("aether_large", 2, "fp32", (720, 1280)),
        ("aether_small", 4, "fp16", (720, 1280)),
        ("aether_large", 8, "fp32", (360, 640)),
    ],
)
def test_defaults(variant: str, scale: int, precision: str, largest: tuple[int, int]) -> None:
    spec = _spec(variant, scale)
    profile = default_profile(spec, precision)
    assert profile == Profile((1, 3, 32, 32), (1, 3, 256, 256), (1, 3, *largest))
    assert activation_bytes(spec, precision, profile.max) <= DEFAULT_BUDGET


def test_turing_keeps_more_so_its_default_is_smaller() -> None:
    profile = default_profile(_spec("aether_large"), "fp16", turing=True)
    assert profile.max == (1, 3, 720, 1280)


def test_a_shape_that_is_not_given_follows_those_that_are() -> None:
    (profile,) = _make(maxima=[(1, 3, 128, 96)])
    assert profile == Profile((1, 3, 32, 32), (1, 3, 128, 96), (1, 3, 128, 96))
    (profile,) = _make(maxima=[(4, 3, 16, 512)])
    assert profile == Profile((1, 3, 16, 32), (1, 3, 16, 256), (4, 3, 16, 512))
    (profile,) = _make(optima=[(1, 3, 2000, 3000)])
    assert profile == Profile((1, 3, 32, 32), (1, 3, 2000, 3000), (1, 3, 2000, 3000))


def test_several_profiles() -> None:
    profiles = _make([(1, 3, 32, 32)] * 2, [(1, 3, 64, 64), (1, 3, 270, 480)], [(1, 3, 64, 64), (1, 3, 540, 960)])
    assert [profile.opt for profile in profiles] == [(1, 3, 64, 64), (1, 3, 270, 480)]


def test_static() -> None:
    (profile,) = _make(static=(1, 3, 64, 48))
    assert profile == Profile(*[(1, 3, 64, 48)] * 3)
    with pytest.raises(EngineError, match="--static fixes the shape"):
        _make(maxima=[(1, 3, 64, 64)], static=(1, 3, 64, 48))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"minima": [(1, 3, 300, 32)], "optima": [(1, 3, 256, 256)]},
            r"height is 300 / 256 / \d+, expected min <= opt",
        ),
        ({"optima": [(1, 3, 64, 64)], "maxima": [(1, 3, 64, 32)]}, "width is 32 / 64 / 32"),
        ({"maxima": [(1, 4, 64, 64)]}, "--max-shape 1x4x64x64 has 4 channels, the network has 3"),
        ({"maxima": [(1, 64, 64, 3)]}, "NxCxHxW, not NxHxWxC"),
        ({"minima": [(1, 3, 8, 8)] * 2, "maxima": [(1, 3, 64, 64)]}, "--max-shape was given 1 times for 2 profiles"),
    ],
)
def test_refused(given: dict[str, list[Shape]], said: str) -> None:
    with pytest.raises(EngineError, match=said):
        _make(given.get("minima", ()), given.get("optima", ()), given.get("maxima", ()))


def test_takes() -> None:
    profile = Profile((1, 3, 32, 32), (1, 3, 64, 64), (1, 3, 64, 96))
    assert profile.takes((1, 3, 37, 53))
    assert not profile.takes((2, 3, 64, 64))
    assert not profile.takes((1, 3, 64, 97))
    assert not profile.takes((3, 64, 64))


def test_memory_grows_as_measured() -> None:
    # Bisected at 256x256, see benchmarks/engine_memory.py: 2263 and 6829 bytes a pixel.
    pixels = 256 * 256
    for scale, measured in ((2, 2263), (4, 6829)):
        estimate = activation_bytes(_spec(scale=scale), "fp16", (1, 3, 256, 256)) / pixels
        assert 0.95 * measured <= estimate <= 1.45 * measured
    assert describe_bytes(3 * GIB // 2) == "1.5 GiB"
    assert describe_bytes(1 << 21) == "2.0 MiB"
