"""What everything else asks of a network: its spec, and of a kind of networks: its row in the table of families."""

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
    """Channels of the tensors whose size decides how much memory a run takes.

    Attributes:
        body: of the residual stream, at the input's size.
        hidden: of what is widest inside a block, at the input's size.
        tail: between the body and the last convolution, at the output's size.
        last_factor: of the last PixelShuffle; 1 without one.
    """

    body: int
    hidden: int
    tail: int
    last_factor: int


class NetworkSpec(Protocol):
    """A network without its weights; a value, equal to another of the same network.

    Attributes:
        family: the name of its row in `FAMILIES`.
        variant: the name that its makers gave to these sizes.
        scale: output pixels for each input pixel, along one side.
        in_chans: channels of the image.
        fused: in its deployed form.
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
        """The distance, in input pixels, beyond which no input pixel has an influence; None if not known."""
        ...

    @property
    def widths(self) -> Widths:
        """What the memory of a run is estimated from."""
        ...

    def as_fused(self) -> Self:
        """The same network in its fused form."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """For JSON and metadata; `families.spec_from_dict` is the inverse."""
        ...

    def describe(self) -> str:
        """One line for people."""
        ...

    def build(self) -> nn.Module:
        """The network in eval mode, with weights as freshly initialised; the global RNG is left as it was."""
        ...

    def fuse(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict of the fused network; the given one is not changed.

        Raises:
            ReparameterizationError: branches that are not one convolution.
        """
        ...

    def with_img_range(self, img_range: float) -> Self:
        """The same network with the one value that the weights do not show."""
        ...

    def network_options(self) -> dict[str, Any]:
        """[network_g] of a neosr options file that builds this network; neosr adds the scale itself."""
        ...

    def check_options(self, options: Mapping[str, Any], source: Path) -> None:
        """Compares [network_g] of a neosr options file with these weights.

        Raises:
            ConfigError: names the first value that the weights contradict.
        """
        ...

    def flops(self, shape: Shape) -> int:
        """Floating-point operations of one run, a multiply-add counting two; biases, norms and GELU are left out."""
        ...

    def bytes_moved(self, shape: Shape, *, width_of_value: int = 4) -> int:
        """The least that has to be read and written if each layer's kernel touches memory once."""
        ...


@dataclass(frozen=True, slots=True)
class Roles:
    """Which operators of a family's graph play which part for islands in fp32.

    Attributes:
        norm: operators whose squares overflow fp16.
        ends: the operator that ends the head, which is what precedes the first of it, and begins the tail, which is the
            last of it and what follows.
    """

    norm: frozenset[str] = frozenset({"LayerNormalization"})
    ends: str = "Conv"


class Family(Protocol):
    """A kind of networks: one file, and one line in `families.FAMILIES`.

    Attributes:
        name: in manifests.
        title: for people.
        operators: all that its ONNX graphs consist of; None if that is not known.
        roles: of those operators.
        passes: names in `graphs.passes.PASSES`, of what makes its fp32 files faster.
    """

    name: str
    title: str
    operators: frozenset[str] | None
    roles: Roles
    passes: tuple[str, ...]

    def recognises(self, keys: Collection[str]) -> bool:
        """Whether a state dict with these keys is one of this family, perhaps an incomplete one.

        Raises:
            CheckpointError: a relative that is not supported, by name.
        """
        ...

    def read(self, state_dict: Mapping[str, Tensor], *, img_range: float = 1.0) -> NetworkSpec:
        """The spec, read off keys and shapes.

        Raises:
            CheckpointError: keys that are missing, surplus or of a wrong shape.
        """
        ...

    def spec_from_dict(self, values: Mapping[str, Any]) -> NetworkSpec:
        """The inverse of `NetworkSpec.as_dict`; keys that are no fields are left out."""
        ...
