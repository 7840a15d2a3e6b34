"""What a network and a kind of network must provide: its spec, and its row in the table of families."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from torch import Tensor, nn

    from aether_deploy.arrays import Shape

__all__ = ["Family", "NetworkSpec", "Roles", "Sizes", "Widths"]


@dataclass(frozen=True, slots=True)
class Widths:
    """Channels of the tensors whose size determines how much memory a run takes.

    Attributes:
        body: of the residual stream, at the input's size.
        hidden: of the widest tensor inside a block, at the input's size.
        tail: between the body and the last convolution, at the output's size.
        last_factor: factor of the last PixelShuffle; 1 without one.
    """

    body: int
    hidden: int
    tail: int
    last_factor: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """The pictures that a network takes.

    Attributes:
        minimum: least height and width, in pixels.
        multiple: what height and width must be multiples of.
        square: whether height and width must be equal.
    """

    minimum: int = 1
    multiple: int = 1
    square: bool = False

    @property
    def any(self) -> bool:
        """Whether every size is taken."""
        return self == Sizes()

    def fit(self, height: int, width: int) -> tuple[int, int]:
        """The least size that is taken and has room for (height, width)."""
        height, width = (-(-max(side, self.minimum) // self.multiple) * self.multiple for side in (height, width))
        return (max(height, width),) * 2 if self.square else (height, width)

    def describe(self) -> str:
        """What is asked for, for people; "" for nothing."""
        wants = [f"at least {self.minimum}"] if self.minimum > 1 else []
        wants += [f"multiples of {self.multiple}"] if self.multiple > 1 else []
        return ", ".join(wants + (["square"] if self.square else []))


class NetworkSpec(Protocol):
    """A network without its weights, as a value: two specs of the same network are equal.

    Attributes:
        family: the name of its row in `FAMILIES`.
        architecture: the name that catalogues of models give to its kind.
        variant: the name that its makers gave to these sizes.
        scale: output pixels for each input pixel along one side.
        in_chans: channels of the image.
        fused: whether it is in its deployed form.
        img_range: the one value that the weights do not show.
    """

    @property
    def family(self) -> str: ...
    @property
    def architecture(self) -> str: ...
    @property
    def variant(self) -> str: ...
    @property
    def scale(self) -> int: ...
    @property
    def in_chans(self) -> int: ...
    @property
    def fused(self) -> bool: ...
    @property
    def img_range(self) -> float: ...

    @property
    def sizes(self) -> Sizes:
        """The pictures that it takes."""
        ...

    @property
    def tiling(self) -> str:
        """Whether its output depends on what is near alone: supported, discouraged, or internal if it cuts itself."""
        ...

    @property
    def receptive_field(self) -> int | None:
        """The distance, in input pixels, beyond which an input pixel has no influence; None if unknown."""
        ...

    @property
    def widths(self) -> Widths:
        """The channel counts from which the memory of a run is estimated."""
        ...

    def as_fused(self) -> Self:
        """The same network in its fused form."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """A dict for JSON and metadata; `families.spec_from_dict` is the inverse."""
        ...

    def describe(self) -> str:
        """One line for people."""
        ...

    def build(self) -> nn.Module:
        """The network in eval mode, freshly initialised; the global RNG is left as it was."""
        ...

    def fuse(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict of the fused network; the given one is not changed.

        Raises:
            ReparameterizationError: the branches are not equal to one convolution.
        """
        ...

    def with_img_range(self, img_range: float) -> Self:
        """The same network with this img_range, the one value that its weights do not show."""
        ...

    def network_options(self) -> dict[str, Any]:
        """[network_g] of a neosr options file that builds this network; neosr adds the scale itself."""
        ...

    def check_options(self, options: Mapping[str, Any], source: Path) -> None:
        """Compares [network_g] of a neosr options file with these weights.

        Raises:
            ConfigError: a value contradicts the weights; the message names the first.
        """
        ...

    def flops(self, shape: Shape) -> int:
        """Floating-point operations of one run, counting a multiply-add as two; without biases, norms and GELU."""
        ...

    def bytes_moved(self, shape: Shape, *, width_of_value: int = 4) -> int:
        """The fewest bytes to be read and written in one run if each layer's kernel touches memory once."""
        ...


@dataclass(frozen=True, slots=True)
class Roles:
    """Which operators delimit the parts of a family's graph that can stay in fp32.

    Attributes:
        norm: operators whose squares overflow fp16.
        lengths: operators whose result, kept away from 0 and enlarged, divides what they measured; all up to the Div is
            a norm, since half precision has no number as small as what keeps it away from 0.
        ends: the operator that separates the parts: the head is everything before the first one, the tail is the last
            one and everything after it.
    """

    norm: frozenset[str] = frozenset({"LayerNormalization"})
    lengths: frozenset[str] = frozenset()
    ends: str = "Conv"


class Family(Protocol):
    """A kind of network: one file, and one line in `families.FAMILIES`.

    Attributes:
        name: in manifests.
        title: shown to people.
        operators: all operators that its ONNX graphs consist of; None if unknown.
        roles: of those operators.
        passes: names in `graphs.passes.PASSES` of the passes that make its fp32 files faster.
        shown_by_weights: whether a fused state dict alone shows what network it is.
        counts: whether its state dicts hold integers too, such as indices and numbers of batches.
    """

    name: str
    title: str
    operators: frozenset[str] | None
    roles: Roles
    passes: tuple[str, ...]
    shown_by_weights: bool
    counts: bool

    def recognises(self, keys: Collection[str]) -> bool:
        """Whether a state dict with these keys is of this family, even an incomplete one.

        Raises:
            CheckpointError: an unsupported relative, which the message names.
        """
        ...

    def read(self, state_dict: Mapping[str, Tensor]) -> tuple[NetworkSpec, Mapping[str, Tensor]]:
        """The spec, read from keys and shapes, and the tensors below the names that the network built from it has.

        Raises:
            CheckpointError: keys that are missing, surplus or of a wrong shape.
        """
        ...

    def spec_from_dict(self, values: Mapping[str, Any]) -> NetworkSpec:
        """The inverse of `NetworkSpec.as_dict`; keys that are not fields are ignored."""
        ...
