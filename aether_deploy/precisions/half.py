"""What fp16 and bf16 share: how the pass that makes them is called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aether_deploy.precisions.choices import AUTO, IO, POLICIES, TRIED

if TYPE_CHECKING:
    import onnx_ir as ir

    from aether_deploy.graphs.conversion import Conversion
    from aether_deploy.network.family import Roles

__all__ = ["convert_to"]


def convert_to(name: str, storage: str, graph: ir.Model, roles: Roles, io: str, islands: str) -> Iterator[Conversion]:
    """A strongly typed graph for each policy to try: the given one, or those of `TRIED`, cheapest first.

    Args:
        name: of the precision.
        storage: ONNX's name for the type.
        graph: in fp32; not changed.
        roles: of the network's family.
        io: fp32 or fp16, the type of input and output.
        islands: a key of `POLICIES`, or `auto`.
    Raises:
        ExportError: see `to_half`.
    """
    import onnx_ir as ir

    from aether_deploy.graphs.half_precision import to_half

    for policy in TRIED if islands == AUTO else (islands,):
        yield to_half(
            graph,
            ir.DataType[storage],
            name=name,
            roles=roles,
            policy=policy,
            kept=POLICIES[policy],
            io=ir.DataType[IO[io]],
        )
