"""The inputs of a parity check: photos, noise and drawn patterns, in shapes that show what one alone would hide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aether_deploy.arrays import Array, Shape
from aether_deploy.network.family import Sizes
from aether_deploy.pictures.sizes import fitted, with_channels

__all__ = ["Case", "parity_cases"]


@dataclass(frozen=True, slots=True)
class Case:
    """An input: `lr` is (N, C, H, W) float32, about [0, 1]; `drawn` is True for noise and patterns, not for photos."""

    name: str
    lr: Array
    drawn: bool = False

    def __str__(self) -> str:
        return f"{self.name} {'x'.join(map(str, self.lr.shape))}"


# Shapes of noise, (N, H, W): batch 2, odd, non-square, a single pixel.
_NOISES = ((1, 48, 64), (2, 40, 24), (1, 37, 53), (1, 1, 1))
# Shape of the patterns, and of the photo whose values go beyond [0, 1].
_PATTERN = (1, 24, 32)
_ANY = Sizes()

# Arrays of all channels, rows and columns -> values. One-pixel stripes err most in half precision, coloured ones most
# of all: up to 0.40 of a level, where the checkerboard has 0.34.
_PATTERNS: dict[str, Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], NDArray[np.generic]]] = {
    "black": lambda c, y, x: 0 * c,
    "white": lambda c, y, x: 0 * c + 1,
    "step edge": lambda c, y, x: x >= x.shape[2] // 2,
    "checkerboard": lambda c, y, x: (y + x) % 2,
    "stripes": lambda c, y, x: x % 2,
    "coloured stripes": lambda c, y, x: (x + c) % 3 == 0,
}


def parity_cases(
    photos: Sequence[tuple[str, Array]] = (),
    *,
    in_chans: int = 3,
    static: Shape | None = None,
    shapes: Sequence[tuple[int, int, int]] = (),
    sizes: Sizes = _ANY,
) -> tuple[Case, ...]:
    """Photos, noise and patterns; batch 2, odd, non-square and 1x1; and a photo beyond [0, 1], as in videos.

    Args:
        photos: (name, (1, 3, H, W) in [0, 1]); see `with_channels` for networks of other than 3 channels.
        in_chans: C.
        static: the only (N, C, H, W) that an artifact takes; every case then has this shape, photos being mirrored
            and cropped to it.
        shapes: further (N, H, W) of noise, such as those of an optimization profile.
        sizes: what the network takes; cases of other sizes are enlarged to the next one that it does.
    """
    noises, pattern = [(n, *sizes.fit(*size)) for n, *size in (*_NOISES, *shapes)], (1, *sizes.fit(*_PATTERN[1:]))
    if not sizes.any:
        photos = [(name, fitted(lr, 1, *sizes.fit(*lr.shape[2:]))) for name, lr in photos]
    if static is not None:
        n, in_chans, height, width = static
        photos = [(name, fitted(lr, n, height, width)) for name, lr in photos]
        noises, pattern = [(n, height, width)], (n, height, width)
    photos = [(name, with_channels(lr, in_chans)) for name, lr in photos]
    return (
        *(Case(name, lr) for name, lr in photos),
        *_noises(noises, in_chans),
        *_patterns(pattern, in_chans),
        *_beyond(photos[:1], pattern),
    )


def _noises(shapes: Sequence[tuple[int, int, int]], channels: int) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    for n, height, width in shapes:
        yield Case("noise", rng.random((n, channels, height, width), dtype=np.float32), drawn=True)


def _patterns(shape: tuple[int, int, int], channels: int) -> Iterator[Case]:
    n, height, width = shape
    places = np.indices((channels, height, width))
    for name, draw in _PATTERNS.items():
        image = np.asarray(draw(*places), np.float32)
        yield Case(name, np.array(np.broadcast_to(image, (n, channels, height, width))), drawn=True)


def _beyond(photos: Sequence[tuple[str, Array]], shape: tuple[int, int, int]) -> Iterator[Case]:
    """Photos stretched to -0.25 to 1.25, the range of videos whose colours leave the RGB cube."""
    n, height, width = shape
    for name, lr in photos:
        wide = fitted(lr[:1], n, height, width) * np.float32(1.5) - np.float32(0.25)
        yield Case(f"{name} beyond 0 to 1", wide, drawn=True)
