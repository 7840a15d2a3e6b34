"""neosr on a machine without a GPU: the CPU answers every request for CUDA.

neosr has "cuda" hard-coded, with no switch. Nothing here is active where `torch.cuda.is_available()`. AMP becomes
float32 (torch itself disables it), so a run under this shim is labelled "without CUDA" wherever it is reported.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["CudaToCpu", "cpu_instead_of_cuda"]


class CudaToCpu(TorchFunctionMode):
    """Maps every CUDA device or device string among the arguments of a torch call to the CPU.

    It sees `torch.device("cuda")` itself, and thus `set_default_device` and `map_location` too. The class lives in an
    imported module because torch resolves it by module name, which fails for `__main__`.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return func(*_to_cpu(args), **_to_cpu(kwargs or {}))


@contextlib.contextmanager
def cpu_instead_of_cuda(script: Path | None) -> Iterator[None]:
    """Runs its body with the CPU in place of CUDA, for a neosr test or training.

    Args:
        script: the neosr script that will run, if any. Only calls from that file are told that CUDA is available:
            train.py refuses to start otherwise, and torch must still be told the truth.
    """
    cuda: Any = torch.cuda
    tensor: Any = torch.Tensor
    replaced = {
        (cuda, "is_available"): _available_for(script, cuda.is_available),
        (cuda, "Stream"): _Stream,
        (cuda, "stream"): lambda stream: contextlib.nullcontext(),
        (cuda, "current_stream"): lambda device=None: _Stream(),
        (cuda, "get_device_name"): lambda device=None: "CPU (no CUDA device)",
        (cuda, "get_device_capability"): lambda device=None: (0, 0),
        (torch, "Generator"): _Generator,
        (tensor, "cpu"): _copying_for_saving(tensor.cpu),
    }
    originals = {place: getattr(*place) for place in replaced}
    for (owner, name), value in replaced.items():
        setattr(owner, name, value)
    try:
        with CudaToCpu():
            yield
    finally:
        for (owner, name), value in originals.items():
            setattr(owner, name, value)


class _Stream:
    """Stands in for a CUDA stream; there is nothing to wait for."""

    def wait_stream(self, other: object) -> None:
        return None


class _Generator(torch.Generator):
    """A generator on the CPU: `torch.Generator` is not a torch function, so the mode does not see its device."""

    def __new__(cls, device: object = "cpu") -> _Generator:
        return super().__new__(cls, device="cpu")  # type: ignore[call-arg]


def _available_for(script: Path | None, truth: Callable[[], bool]) -> Callable[[], bool]:
    def is_available() -> bool:
        caller = Path(sys._getframe(1).f_code.co_filename)
        return (script is not None and caller == script) or truth()

    return is_available


def _copying_for_saving(cpu: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A `Tensor.cpu` that copies when save_network calls it, as on a GPU; here it would return the live tensor.

    A schedule-free optimizer would then change the weights after save_network has collected and before it has written
    them. Elsewhere it does not copy: neosr 1.0.0's tensor2img relies on cpu() returning the same tensor, which it
    clamps in place; with a copy, values above 1 wrap around in the PNG.
    """

    def copying_cpu(self: torch.Tensor, memory_format: torch.memory_format = torch.preserve_format) -> torch.Tensor:
        result = cpu(self, memory_format=memory_format)
        saving = sys._getframe(1).f_code.co_name == "save_network"
        return result.clone() if saving and result is self else result

    return copying_cpu


def _to_cpu(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu") if value.type == "cuda" else value
    if isinstance(value, str):
        return "cpu" if value == "cuda" or value.startswith("cuda:") else value
    if isinstance(value, dict):
        return {key: _to_cpu(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_to_cpu(item) for item in value)
    return value
