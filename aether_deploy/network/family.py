"""What a network and a kind of network must provide: its spec, and its row in the table of families."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from torch import Tensor, nn

    from aether_deploy.arrays import Shape

__all__ = ["Family", "NetworkSpec", "Roles", "Widths"]


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


class NetworkSpec(Protocol):
    """A network without its weights, as a value: two specs of the same network are equal.

    Attributes:
        family: the name of its row in `FAMILIES`.
        variant: the name that its makers gave to these sizes.
        scale: output pixels for each input pixel along one side.
        in_chans: channels of the image.
        fused: whether it is in its deployed form.
        img_range: the one value that the weights do not show.
    """

    @property
    def family(self) -> str: ...
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
        ends: the operator that separates the parts: the head is everything before the first one, the tail is the last
            one and everything after it.
    """

    norm: frozenset[str] = frozenset({"LayerNormalization"})
    ends: str = "Conv"


class Family(Protocol):
    """A kind of network: one file, and one line in `families.FAMILIES`.

    Attributes:
        name: in manifests.
        title: shown to people.
        operators: all operators that its ONNX graphs consist of; None if unknown.
        roles: of those operators.
        passes: names in `graphs.passes.PASSES` of the passes that make its fp32 files faster.
    """

    name: str
    title: str
    operators: frozenset[str] | None
    roles: Roles
    passes: tuple[str, ...]

    def recognises(self, keys: Collection[str]) -> bool:
        """Whether a state dict with these keys is of this family, even an incomplete one.

        Raises:
            CheckpointError: an unsupported relative, which the message names.
        """
        ...

    def read(self, state_dict: Mapping[str, Tensor], *, img_range: float = 1.0) -> NetworkSpec:
        """The spec, read from keys and shapes.

        Raises:
            CheckpointError: keys that are missing, surplus or of a wrong shape.
        """
        ...

    def spec_from_dict(self, values: Mapping[str, Any]) -> NetworkSpec:
        """The inverse of `NetworkSpec.as_dict`; keys that are not fields are ignored."""
        ...
