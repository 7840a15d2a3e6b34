"""A class of spandrel's -> a network from one image to one image."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from aether_deploy.errors import CheckpointError
from aether_deploy.extras import install_extra, is_installed
from aether_deploy.text import in_one_line

__all__ = ["OneImage", "build_network", "called", "network_class"]


class OneImage(nn.Module):
    """A network that takes or gives more than one image, called as spandrel does.

    Args:
        network: spandrel's.
        call: (network, (N, C, H, W) image) -> (N, C, scale * H, scale * W) image.
    """

    def __init__(self, network: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.network = network
        self._call = call

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, scale * H, scale * W)."""
        return self._call(self.network, image)


def build_network(architecture: str, network: str, options: Mapping[str, Any]) -> nn.Module:
    """The network as spandrel defines it, unfused, in eval mode.

    Args:
        architecture: spandrel's name of it.
        network: the class in `spandrel.architectures.<architecture>`.
        options: of that class.
    Raises:
        CheckpointError: spandrel is missing, or has no such network.
    """
    if not is_installed("spandrel"):
        raise CheckpointError(f"this network is spandrel's: {install_extra('spandrel')}")
    from spandrel import MAIN_REGISTRY

    try:
        made = network_class(architecture, network)(**options).eval()
        # Only the descriptor that belongs to weights says how they are called.
        weights = {name: value.clone() for name, value in made.state_dict().items()}
        return called(made, MAIN_REGISTRY[architecture].architecture.load(weights))
    # Of any type: the options are a stranger's.
    except Exception as error:
        raise CheckpointError(
            f"spandrel cannot build {network} of {architecture} ({type(error).__name__}: {in_one_line(error)}); "
            "is it the version that this file was made with?"
        ) from error


def network_class(architecture: str, network: str) -> Any:
    """The class, wherever spandrel keeps it below `spandrel.architectures.<architecture>`."""
    package = f"spandrel.architectures.{architecture}"
    importlib.import_module(package)
    for name, module in list(sys.modules.items()):
        found = getattr(module, network, None) if name.startswith(f"{package}.") else None
        if isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == name:
            return found
    raise CheckpointError(f"no such class in {package}")


def called(network: nn.Module, descriptor: Any) -> nn.Module:
    """The network as spandrel's descriptor calls it: itself, or a `OneImage` where its class takes or gives more."""
    call: Callable[[nn.Module, Tensor], Tensor] = descriptor._call_fn
    own = call.__module__ != "spandrel.__helpers.model_descriptor"
    return OneImage(network, call).eval() if own else network
