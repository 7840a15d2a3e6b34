"""Optimization profiles: the range of input shapes that an engine takes, checked before a build."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aether_deploy.arrays import Shape
from aether_deploy.engines.memory import GIB, activation_bytes
from aether_deploy.errors import EngineError
from aether_deploy.network.family import NetworkSpec

__all__ = ["Profile", "default_profile", "make_profiles"]

MIN_SIZE = (32, 32)
OPT_SIZE = (256, 256)
# The first that fits is taken: 1080p for 2x in fp16, 720p for 4x.
MAX_SIZES = ((1080, 1920), (720, 1280), (540, 960), (360, 640), (256, 256))
# What a profile's largest shape may need by default: a 12 GB GPU keeps room for weights, frames and a desktop.
DEFAULT_BUDGET = 8 * GIB


@dataclass(frozen=True, slots=True)
class Profile:
    """Smallest, most common and largest (N, C, H, W) of the input."""

    min: Shape
    opt: Shape
    max: Shape

    def __str__(self) -> str:
        return " / ".join("x".join(map(str, shape)) for shape in self.shapes)

    @property
    def shapes(self) -> tuple[Shape, Shape, Shape]:
        """(min, opt, max)."""
        return self.min, self.opt, self.max

    def as_dict(self) -> dict[str, list[int]]:
        """A dict for JSON."""
        return {"min": list(self.min), "opt": list(self.opt), "max": list(self.max)}

    def takes(self, shape: Sequence[int]) -> bool:
        """Whether a shape lies between min and max in every dimension."""
        return len(shape) == 4 and all(
            low <= size <= high for low, size, high in zip(self.min, shape, self.max, strict=True)
        )

    def check(self, in_chans: int) -> None:
        """Refuses a profile that TensorRT would refuse late, or build into something else.

        Args:
            in_chans: channels of the network.
        Raises:
            EngineError: not NCHW, another number of channels, or not min <= opt <= max.
        """
        for name, shape in zip(("min", "opt", "max"), self.shapes, strict=True):
            text = "x".join(map(str, shape))
            if shape[1] != in_chans:
                hint = "; the order is NxCxHxW, not NxHxWxC" if shape[3] == in_chans else ""
                raise EngineError(
                    f"--{name}-shape {text} has {shape[1]} channels, the network has {in_chans}; "
                    f"expected Nx{in_chans}xHxW{hint}"
                )
        for index, dimension in enumerate(("batch", "channels", "height", "width")):
            low, usual, high = (shape[index] for shape in self.shapes)
            if not low <= usual <= high:
                raise EngineError(
                    f"profile {self}: {dimension} is {low} / {usual} / {high}, expected min <= opt <= max; "
                    "change --min-shape, --opt-shape or --max-shape"
                )


def default_profile(spec: NetworkSpec, precision: str, *, turing: bool = False) -> Profile:
    """1x3x32x32 / 1x3x256x256 / the largest of `MAX_SIZES` that needs at most `DEFAULT_BUDGET`; batch 1.

    Batch is fixed at 1, which vs-mlrt requires.
    """
    height, width = next(
        (
            size
            for size in MAX_SIZES
            if activation_bytes(spec, precision, (1, spec.in_chans, *size), turing=turing) <= DEFAULT_BUDGET
        ),
        MAX_SIZES[-1],
    )
    channels = spec.in_chans
    return Profile((1, channels, *MIN_SIZE), (1, channels, *OPT_SIZE), (1, channels, height, width))


def make_profiles(
    minima: Sequence[Shape],
    optima: Sequence[Shape],
    maxima: Sequence[Shape],
    *,
    spec: NetworkSpec,
    precision: str,
    turing: bool = False,
    static: Shape | None = None,
) -> tuple[Profile, ...]:
    """The checked profiles of an engine, one for each set of shapes given.

    Args:
        minima, optima, maxima: (N, C, H, W) of each profile, in order. A kind given for no profile comes from the
            default profile, widened or clipped so that min <= opt <= max.
        spec, precision, turing: of the network and its targets, for channels and the default.
        static: the shape of a static export, which is then the only profile.
    Raises:
        EngineError: different numbers of shapes, or see `Profile.check`.
    """
    if static is not None:
        if minima or optima or maxima:
            raise EngineError("--static fixes the shape; leave --min-shape, --opt-shape and --max-shape out")
        profiles = [Profile(static, static, static)]
    else:
        profiles = _combine(minima, optima, maxima, default_profile(spec, precision, turing=turing))
    for profile in profiles:
        profile.check(spec.in_chans)
    return tuple(profiles)


def _combine(
    minima: Sequence[Shape], optima: Sequence[Shape], maxima: Sequence[Shape], default: Profile
) -> list[Profile]:
    count = max(len(minima), len(optima), len(maxima), 1)
    for name, given in (("min", minima), ("opt", optima), ("max", maxima)):
        if given and len(given) != count:
            raise EngineError(
                f"--{name}-shape was given {len(given)} times for {count} profiles; give it for each or for none"
            )
    profiles = []
    for index in range(count):
        low = minima[index] if minima else None
        opt = optima[index] if optima else None
        high = maxima[index] if maxima else None
        if low is None:
            low = _each(min, default.min, opt or high or default.min)
        if high is None:
            high = _each(max, default.max, opt or low)
        profiles.append(Profile(low, opt or _each(min, _each(max, default.opt, low), high), high))
    return profiles


def _each(choose: Callable[[int, int], int], a: Shape, b: Shape) -> Shape:
    n, c, h, w = (choose(x, y) for x, y in zip(a, b, strict=True))
    return n, c, h, w
