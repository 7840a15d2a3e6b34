"""The field's other networks as a family: spandrel recognises, defines and loads them; here they are only measured."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from aether_deploy.errors import CheckpointError
from aether_deploy.extras import install_extra, is_installed
from aether_deploy.network.family import Roles, Sizes
from aether_deploy.network.spandrel_spec import Cost, SpandrelSpec
from aether_deploy.text import in_one_line

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Spandrel"]

# Of the pictures on which a network is measured and run twice, in pixels; what its size must be comes on top.
_SIDE, _SMALL_SIDE = 64, 16
# Until it is measured.
_UNKNOWN = Cost(0, 0, 0, 1, 1)


class Spandrel:
    """Their row in `families.FAMILIES`; see `Family`. It comes last, since it takes whatever spandrel knows."""

    name = "spandrel"
    title = "network that spandrel knows"
    operators: frozenset[str] | None = None
    roles = Roles(
        norm=frozenset({"LayerNormalization", "InstanceNormalization", "GroupNormalization", "ReduceMean"}),
        lengths=frozenset({"ReduceL2"}),
    )
    passes: tuple[str, ...] = ("row_means", "shuffle_last", "channels_last_sum")
    shown_by_weights = False
    counts = True

    def recognises(self, keys: Collection[str]) -> bool:
        """Whether spandrel is installed: `read` asks it.

        Raises:
            CheckpointError: it is not installed.
        """
        if not is_installed("spandrel"):
            shown = ", ".join(list(keys)[:3]) or "none"
            raise CheckpointError(
                f"no AetherNet: its keys are those of another network (first: {shown}); for ESRGAN, SPAN, Compact "
                f"and their kin: {install_extra('spandrel')}"
            )
        return True

    def read(self, state_dict: Mapping[str, Tensor]) -> tuple[SpandrelSpec, Mapping[str, Tensor]]:
        """The network as spandrel loads it, and its own state dict.

        Raises:
            CheckpointError: spandrel does not know it or cannot load it, or it is not one image to one image.
        """
        from spandrel import MAIN_REGISTRY, ImageModelDescriptor, UnsupportedModelError

        from aether_deploy.fusions.merging import fuse_layers
        from aether_deploy.network.spandrel_network import called
        from aether_deploy.network.weights import building_limit

        try:
            with building_limit(state_dict.values()):
                # It changes the dict that it is given.
                found: Any = MAIN_REGISTRY.load({name: _exact(value) for name, value in state_dict.items()})
        except UnsupportedModelError as error:
            shown = ", ".join(list(state_dict)[:3]) or "none"
            raise CheckpointError(
                f"no AetherNet, and none of the {len(MAIN_REGISTRY)} architectures of spandrel (first keys: {shown})"
            ) from error
        # Of any type: the shapes are a stranger's.
        except Exception as error:
            raise CheckpointError(
                f"spandrel cannot load it ({type(error).__name__}: {in_one_line(error)}); is the checkpoint complete?"
            ) from error
        name = found.architecture.id
        if not isinstance(found, ImageModelDescriptor) or found.input_channels != found.output_channels:
            raise CheckpointError(
                f"{name} takes {found.input_channels} channels and a mask or gives {found.output_channels}; "
                "expected a network from one image to one image"
            )
        network = called(found.model.eval(), found)
        fused, merged = fuse_layers(copy.deepcopy(network))
        wants = found.size_requirements
        spec = SpandrelSpec(
            architecture=name,
            network=type(found.model).__name__,
            options=_options(getattr(found.model, "hyperparameters", {})),
            scale=found.scale,
            in_chans=found.input_channels,
            fused=not merged,
            sizes=Sizes(max(1, wants.minimum), wants.multiple_of, wants.square),
            tiling=found.tiling.name.lower(),
            half=found.supports_half,
            bfloat16=found.supports_bfloat16,
            cost=_UNKNOWN,
            fused_cost=_UNKNOWN,
        )
        _require_repeatable(network, spec)
        cost = _measured(network, spec)
        fused_cost = _measured(fused, spec) if merged else cost
        return dataclasses.replace(spec, cost=cost, fused_cost=fused_cost), network.state_dict()

    def spec_from_dict(self, values: Mapping[str, Any]) -> SpandrelSpec:
        """See `SpandrelSpec.from_dict`."""
        return SpandrelSpec.from_dict(values)


def _options(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON can hold of them; the classes and functions that are left out are always spandrel's defaults."""
    kept = {}
    for name, value in hyperparameters.items():
        with contextlib.suppress(TypeError):
            kept[name] = json.loads(json.dumps(value))
    return kept


def _exact(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _measured(network: nn.Module, spec: SpandrelSpec) -> Cost:
    """What running a picture takes.

    Raises:
        CheckpointError: it does not run, or gives another size than its scale says.
    """
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    height, width = spec.sizes.fit(_SIDE, _SIDE)
    pixels, moved, widest, at_input = height * width, 0, 1, 1

    def count(module: nn.Module, given: Any, result: Any) -> None:
        nonlocal moved, widest, at_input
        for tensor in (*given, result):
            if isinstance(tensor, torch.Tensor):
                moved += tensor.numel()
        if isinstance(result, torch.Tensor):
            channels = math.ceil(result.numel() / pixels)
            widest = max(widest, channels)
            if isinstance(module, nn.Conv2d):
                at_input = max(at_input, module.out_channels)

    hooks = [module.register_forward_hook(count) for module in network.modules() if not list(module.children())]
    try:
        with FlopCounterMode(display=False) as counter:
            output = _output(network, spec, _SIDE)
    finally:
        for hook in hooks:
            hook.remove()
    wanted = (1, spec.in_chans, height * spec.scale, width * spec.scale)
    if not isinstance(output, torch.Tensor) or tuple(output.shape) != wanted:
        seen = "x".join(map(str, output.shape)) if isinstance(output, torch.Tensor) else type(output).__name__
        raise CheckpointError(
            f"{spec.architecture} x{spec.scale} gives {seen} for 1x{spec.in_chans}x{height}x{width}; "
            f"expected {'x'.join(map(str, wanted))}"
        )
    return Cost(
        flops=counter.get_total_flops() // pixels,
        values=moved // pixels,
        parameters=sum(value.numel() for value in network.parameters()),
        body=at_input,
        hidden=max(at_input, min(widest, 8 * at_input)),
    )


def _require_repeatable(network: nn.Module, spec: SpandrelSpec) -> None:
    """Raises CheckpointError unless the network gives the same picture twice: AuraSR adds noise to what it is given."""
    import torch

    first, second = (_output(network, spec, _SMALL_SIDE) for _ in range(2))
    if isinstance(first, torch.Tensor) and not torch.allclose(first, second, rtol=0, atol=1e-4, equal_nan=True):
        raise CheckpointError(
            f"{spec.architecture} gives another picture each time it is run, as one that draws random numbers does; "
            "nothing can be proved of it"
        )


def _output(network: nn.Module, spec: SpandrelSpec, side: int) -> Any:
    """What the network makes of a black picture of about this size.

    Raises:
        CheckpointError: it does not run.
    """
    import torch

    height, width = spec.sizes.fit(side, side)
    try:
        with torch.no_grad():
            return network(torch.zeros(1, spec.in_chans, height, width))
    # Of any type: it is a stranger's network.
    except Exception as error:
        raise CheckpointError(
            f"{spec.architecture} does not run on {width}x{height} pixels: {type(error).__name__}, {in_one_line(error)}"
        ) from error
