"""The request -> what will be built: targets, profiles and names, checked before anything is exported."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from aether_deploy.arrays import Shape
from aether_deploy.engines.build import BuildRequest
from aether_deploy.engines.gpus import Driver, read_driver
from aether_deploy.engines.memory import activation_bytes, describe_bytes
from aether_deploy.engines.process import FLAVOURS
from aether_deploy.engines.profiles import Profile, make_profiles
from aether_deploy.engines.targets import DEFAULT_GPUS, SM75, ComputeCapability, check_rtx, parse_gpus
from aether_deploy.errors import EngineError
from aether_deploy.network.family import NetworkSpec
from aether_deploy.precisions.variant import Variant

__all__ = ["EngineOptions", "EnginePlan", "plan_engine"]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine needs beyond the ONNX file that it is built from.

    Attributes:
        min_shapes, opt_shapes, max_shapes: (N, C, H, W) of each profile; see `profiles.make_profiles`.
        gpus: names of the GPUs that an RTX engine is for, see `targets.parse_gpus`; `DEFAULT_GPUS` by default.
        workspace: limit of activation memory in bytes; by default all the memory there is.
    """

    min_shapes: tuple[Shape, ...] = ()
    opt_shapes: tuple[Shape, ...] = ()
    max_shapes: tuple[Shape, ...] = ()
    gpus: tuple[str, ...] = ()
    workspace: int | None = None

    @property
    def given(self) -> list[str]:
        """The flags that were given, so that they can be refused where they do not apply."""
        names = [field.name for field in dataclasses.fields(self) if getattr(self, field.name) not in ((), None)]
        return [f"--{name.removesuffix('s').replace('_', '-')}" for name in names]


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """One engine to be built.

    Attributes:
        request: for `build.build_engine`.
        tag: part of the file name, after the precision: `trtrtx1.7_sm86+sm89`.
        notes: what the user should know before the build.
    """

    request: BuildRequest
    tag: str
    notes: tuple[str, ...] = ()

    @property
    def variant(self) -> Variant:
        """The form of the ONNX file that it is built from."""
        return self.request.variant

    @property
    def memory(self) -> list[dict[str, int]]:
        """Estimated bytes of activations at each profile's opt and max shape."""
        return [{"opt": opt, "max": largest} for opt, largest in self.request.estimates]


def plan_engine(
    flavour: str,
    spec: NetworkSpec,
    variant: Variant,
    options: EngineOptions,
    *,
    version: str,
    driver: Driver | None = None,
) -> EnginePlan:
    """Checks and completes the request.

    Args:
        flavour: `tensorrt` or `tensorrt-rtx`.
        spec: of the network.
        variant: the requested form of the ONNX file; for sm75 its FFN becomes 1x1 convolutions.
        options: of the engine.
        version: of TensorRT.
        driver: of this machine; read by default.
    Raises:
        EngineError: an impossible target, profile or flag.
    """
    driver = driver or read_driver()
    capabilities = _capabilities(flavour, options, driver)
    notes: list[str] = []
    turing = flavour == "tensorrt-rtx" and SM75 in capabilities
    for capability in capabilities:
        if variant.row.least_capability and (capability.major, capability.minor) < variant.row.least_capability:
            raise EngineError(
                f"{capability} has no {variant.precision}; take another --precision, or leave {capability} out of --gpu"
            )
    if turing and variant.ffn != "conv1x1":
        notes.append("sm75 builds no MatMul: the FFN becomes 1x1 convolutions (--ffn conv1x1)")
        variant = dataclasses.replace(variant, ffn="conv1x1")
    if flavour == "tensorrt-rtx":
        check_rtx(capabilities, ffn=variant.ffn)
    profiles = make_profiles(
        options.min_shapes,
        options.opt_shapes,
        options.max_shapes,
        spec=spec,
        precision=variant.precision,
        turing=turing,
        static=variant.static,
    )
    estimates = tuple(
        (
            activation_bytes(spec, variant.precision, profile.opt, turing=turing),
            activation_bytes(spec, variant.precision, profile.max, turing=turing),
        )
        for profile in profiles
    )
    request = BuildRequest(flavour, profiles, capabilities, variant, options.workspace, estimates)
    need = max(at_max for _, at_max in estimates)
    if options.workspace is not None and options.workspace < need:
        # Only an estimate, so the build decides.
        had = describe_bytes(options.workspace)
        notes.append(f"the largest shape needs about {describe_bytes(need)} of activations, --workspace allows {had}")
    return EnginePlan(request, _tag(request, version, options), tuple(notes))


def _capabilities(flavour: str, options: EngineOptions, driver: Driver) -> tuple[ComputeCapability, ...]:
    current = driver.current
    if flavour == "tensorrt-rtx":
        return parse_gpus(options.gpus or DEFAULT_GPUS, current=current.capability if current else None)
    if options.gpus and options.gpus != ("current",):
        raise EngineError("--gpu is for --format tensorrt-rtx; a TensorRT plan is built on the GPU that it is for")
    if current is None:
        raise EngineError(
            f"--format tensorrt builds on the GPU that the plan is for: {driver.problem}; "
            "--format tensorrt-rtx --gpu ... builds without one"
        )
    return (current.capability,)


def _tag(request: BuildRequest, version: str, options: EngineOptions) -> str:
    major_minor = ".".join(version.split(".")[:2])
    targets = "+".join(map(str, request.capabilities))
    asked = options.min_shapes or options.opt_shapes or options.max_shapes
    shapes = f"_max{'+'.join(map(_short, request.profiles))}" if asked else ""
    return f"{FLAVOURS[request.flavour].tag}{major_minor}_{targets}{shapes}"


def _short(profile: Profile) -> str:
    n, _, height, width = profile.max
    return f"{n}x{height}x{width}" if n > 1 else f"{height}x{width}"
