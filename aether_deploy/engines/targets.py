"""GPU names -> compute capabilities, and what each flavour of TensorRT can build for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from aether_deploy.errors import EngineError

__all__ = [
    "CURRENT",
    "DEFAULT_GPUS",
    "NAMES",
    "RTX_CAPABILITIES",
    "SM75",
    "ComputeCapability",
    "check_names",
    "check_rtx",
    "parse_gpus",
]


@dataclass(frozen=True, slots=True, order=True)
class ComputeCapability:
    """A generation of NVIDIA GPUs, such as (8, 6), the RTX 30 series."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"sm{self.major}{self.minor}"

    @property
    def dotted(self) -> str:
        """As on NVIDIA's pages: `8.6`."""
        return f"{self.major}.{self.minor}"


SM75 = ComputeCapability(7, 5)

CURRENT = "current"

# GPU families as users know them. Hopper and data-center Blackwell are listed so that they are refused by name.
NAMES: dict[str, ComputeCapability] = {
    "turing": SM75,
    "gtx16": SM75,
    "rtx20": SM75,
    "a100": ComputeCapability(8, 0),
    "ampere": ComputeCapability(8, 6),
    "rtx30": ComputeCapability(8, 6),
    "ada": ComputeCapability(8, 9),
    "rtx40": ComputeCapability(8, 9),
    "hopper": ComputeCapability(9, 0),
    "h100": ComputeCapability(9, 0),
    "h200": ComputeCapability(9, 0),
    "b200": ComputeCapability(10, 0),
    "blackwell": ComputeCapability(12, 0),
    "rtx50": ComputeCapability(12, 0),
    "gb10": ComputeCapability(12, 1),
}

# What TensorRT-RTX 1.7 supports, in the order of the bits in an engine's header (measured: one engine for each).
RTX_CAPABILITIES = (
    SM75,
    ComputeCapability(8, 0),
    ComputeCapability(8, 6),
    ComputeCapability(8, 9),
    ComputeCapability(12, 0),
    ComputeCapability(12, 1),
)

# The three series that most users have. Turing is left out: it needs another form of the FFN.
DEFAULT_GPUS = ("sm86", "sm89", "sm120")


def parse_gpus(names: Iterable[str], *, current: ComputeCapability | None = None) -> tuple[ComputeCapability, ...]:
    """GPU names, or comma-separated lists of them -> compute capabilities, each once, ascending.

    Args:
        names: `sm86`, `rtx30,rtx40`, `turing`, `current` ...
        current: capability of the GPU in this machine; None if there is none.
    Raises:
        EngineError: no name, an unknown one, or `current` without a GPU.
    """
    found = {_capability(name, current) for name in _split(names)}
    if not found:
        raise EngineError(f"no GPU named; expected some of {_known()}")
    return tuple(sorted(found))


def check_names(names: Iterable[str]) -> None:
    """Refuses unknown GPU names; `current` may be missing here and is looked at later.

    Raises:
        EngineError: an unknown name; the message lists the known ones.
    """
    for name in _split(names):
        if name != "current":
            _capability(name, None)


def _split(names: Iterable[str]) -> list[str]:
    return [name.strip().lower() for item in names for name in item.split(",") if name.strip()]


def check_rtx(capabilities: Iterable[ComputeCapability], *, ffn: str) -> None:
    """Refuses what TensorRT-RTX cannot build, before anything is exported.

    Args:
        capabilities: of the engine.
        ffn: the FFN's form in the ONNX, `linear` (MatMul) or `conv1x1`.
    Raises:
        EngineError: a compute capability that RTX does not support, or Turing with the FFN as MatMul.
    """
    for capability in capabilities:
        if capability not in RTX_CAPABILITIES:
            available = ", ".join(map(str, RTX_CAPABILITIES))
            raise EngineError(f"TensorRT-RTX has no {capability} (it has {available}); {_instead(capability)}")
    if SM75 in capabilities and ffn != "conv1x1":
        raise EngineError(
            "TensorRT-RTX cannot build the FFN's MatMul for sm75 (Turing: 'FP32 GEMM is not supported'); "
            "add --ffn conv1x1, the same network with 1x1 convolutions, or leave sm75 out of --gpu"
        )


def _capability(name: str, current: ComputeCapability | None) -> ComputeCapability:
    if name == CURRENT:
        if current is None:
            raise EngineError(
                "--gpu current: no GPU with a driver is here (`python -m aether_deploy.doctor` says more); "
                f"name the GPU that the engine is for, some of {_known()}"
            )
        return current
    if name in NAMES:
        return NAMES[name]
    digits = name.removeprefix("sm").lstrip("_").replace(".", "")
    if digits.isdecimal() and 2 <= len(digits) <= 3:
        return ComputeCapability(int(digits[:-1]), int(digits[-1]))
    nearest = difflib.get_close_matches(name, [*NAMES, CURRENT, *map(str, RTX_CAPABILITIES)], n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {_known()}"
    raise EngineError(f"no GPU {name!r}; {hint}")


def _instead(capability: ComputeCapability) -> str:
    if capability.major in (9, 10):
        return (
            "data-center GPUs take --format tensorrt, built on that GPU itself, "
            "or --format onnx with ONNX Runtime's CUDA execution provider"
        )
    if capability < SM75:
        return "GPUs before Turing take --format onnx with ONNX Runtime's CUDA or DirectML execution provider"
    return "take --format onnx with ONNX Runtime's CUDA execution provider, or a newer TensorRT-RTX"


def _known() -> str:
    return ", ".join([*map(str, RTX_CAPABILITIES), "rtx20", "rtx30", "rtx40", "rtx50", "turing", CURRENT])
