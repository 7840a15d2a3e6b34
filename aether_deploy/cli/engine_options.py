"""The export command's options for engines, and what it prints about them; imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from aether_deploy.engines.plan import EnginePlan
    from aether_deploy.proof.manifest import Manifest

__all__ = ["SizeType", "engine_options", "show_engine", "show_plan"]

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class SizeType(click.ParamType[int]):
    """`4GiB`, `512M` or a number of bytes -> bytes; a unit is a power of 1024."""

    name = "SIZE"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Fails as a usage error unless it is a number, with or without K, M or G, of at least 1 byte."""
        match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?)\s*([KMG]?)(?:i?B)?", str(value).strip(), re.IGNORECASE)
        size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
        if size < 1:
            self.fail(f"{value!r}; expected a size as in 4GiB, 512MiB or 1073741824", param, ctx)
        return size


def engine_options(shape: click.ParamType[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds --min-shape, --opt-shape, --max-shape, --gpu and --workspace to a command function."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        function = click.option(
            "--workspace",
            type=SizeType(),
            help="Engines: the most activation memory, such as 4GiB; all by default.",
            show_default=False,
        )(function)
        function = click.option(
            "--gpu",
            "gpus",
            multiple=True,
            metavar="NAMES",
            help="RTX engines: sm86,sm89 or rtx30,rtx50, turing, current; sm86,sm89,sm120 by default.",
            show_default=False,
        )(function)
        for which, default in (
            ("max", "1x3x1080x1920, or what fits in 8 GiB"),
            ("opt", "1x3x256x256"),
            ("min", "1x3x32x32"),
        ):
            function = click.option(
                f"--{which}-shape",
                f"{which}_shapes",
                type=shape,
                multiple=True,
                help=f"Engines: of a profile, repeatable for several profiles; {default} by default.",
                show_default=False,
            )(function)
        return function

    return decorate


def show_plan(plan: EnginePlan, out: Console) -> None:
    """Prints a dry run of an engine: its profiles, and the memory that they are expected to need."""
    from aether_deploy.engines.memory import describe_bytes

    for profile, memory in zip(plan.request.profiles, plan.memory, strict=True):
        needs = ", ".join(f"{describe_bytes(count)} at {which}" for which, count in memory.items())
        out.print(f"  profile {profile}: activations about {needs}")


def show_engine(manifest: Manifest, out: Console) -> None:
    """Prints what was built, and says plainly whether it was run."""
    from aether_deploy.engines.memory import describe_bytes

    engine = manifest.engine
    assert engine is not None  # it is an engine's manifest
    network = engine.network
    for profile in engine.profiles:
        shapes = " / ".join("x".join(map(str, profile[which])) for which in ("min", "opt", "max"))
        needs = ", ".join(f"{describe_bytes(count)} at {which}" for which, count in profile["activation_bytes"].items())
        out.print(f"profile {shapes}: activations about {needs}")
    types = ", ".join(f"{count} {name}" for name, count in sorted(network["types"].items()))
    ends = " -> ".join(
        f"{end['name']} {end['dtype']} {_dims(end['shape'])}" for end in (*network["inputs"], *network["outputs"])
    )
    out.print(f"network {ends}; {network['layers']} layers, strongly typed: {types}")
    targets = "+".join(engine.header["compute_capabilities"]) or "+".join(engine.compute_capabilities)
    out.print(f"engine  {engine.flavour} {engine.version} for {targets}, built in {engine.build_seconds:.1f} s")
    if not engine.executed:
        out.print(f"proof   of {engine.onnx['file']}, which it was built from; no GPU for it is here: not executed")
        return
    if engine.device:
        out.print(f"proof   run on {engine.device['gpu']}")
    for row in engine.latency or ():
        out.print(f"latency {_dims(row['shape'])}: median {row['median_ms']:.2f} ms, p99 {row['p99_ms']:.2f} ms")
    memory = ", ".join(map(describe_bytes, engine.device_memory or ()))
    out.print(f"memory  {memory} of activations, as the engine says")


def _dims(shape: list[int]) -> str:
    return "x".join("?" if size == -1 else str(size) for size in shape)
