"""What an engine file says about itself, read without TensorRT and without a GPU.

NVIDIA does not document the header. This layout was measured on TensorRT-RTX 1.7.1, one engine for each compute
capability, so what it gives is advice; the proof of a file is its sha256 in the manifest.

    offset  bytes
    0       4      magic, `vtrt`
    16      8      size of the file
    24      4      version, one byte for each part: 1, 7, 1, 116
    32      4      compute capabilities, one bit each, in the order of `targets.RTX_CAPABILITIES`
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aether_deploy.engines.targets import RTX_CAPABILITIES, ComputeCapability
from aether_deploy.errors import EngineError

__all__ = ["PLAN_MAGICS", "EngineHeader", "read_header"]

RTX_MAGIC = b"vtrt"
# Plans of data-center TensorRT, whose layout was not measured.
PLAN_MAGICS = (b"ftrt", b"ptrt")

_HEADER = struct.Struct("<4s12xQ4B4xI")


@dataclass(frozen=True, slots=True)
class EngineHeader:
    """The first bytes of an engine.

    Attributes:
        magic: the first four characters.
        version: such as `1.7.1.116`; "" if the layout is unknown.
        size: of the file, in bytes; 0 if unknown.
        capabilities: those that it was built for; empty if unknown.
    """

    magic: str
    version: str
    size: int
    capabilities: tuple[ComputeCapability, ...]

    def as_dict(self) -> dict[str, Any]:
        """A dict for JSON."""
        return {
            "magic": self.magic,
            "version": self.version,
            "bytes": self.size,
            "compute_capabilities": [str(capability) for capability in self.capabilities],
        }


def read_header(path: Path, *, name: str | None = None) -> EngineHeader:
    """Reads the header and compares its size with the file's.

    Args:
        path: the file.
        name: of the file in messages, where `path` is temporary.
    Raises:
        EngineError: the file cannot be read, is not an engine, or is cut off.
    """
    what = name or str(path)
    try:
        with path.open("rb") as file:
            data = file.read(_HEADER.size)
        actual = path.stat().st_size
    except OSError as error:
        raise EngineError(f"{what}: cannot be read ({error.strerror}); check the path") from error
    magic = data[:4]
    if magic in PLAN_MAGICS:
        return EngineHeader(magic.decode(), "", 0, ())
    if magic != RTX_MAGIC or len(data) < _HEADER.size:
        raise EngineError(
            f"{what}: no TensorRT engine ({actual} bytes that begin with {magic!r}, expected {RTX_MAGIC!r} or one of "
            f"{PLAN_MAGICS}); some tools put metadata before the engine, and aether_deploy never does"
        )
    _, size, *version, mask = _HEADER.unpack(data)
    if size != actual:
        raise EngineError(f"{what}: its header says {size} bytes, the file has {actual}: cut off; copy it again")
    capabilities = tuple(item for bit, item in enumerate(RTX_CAPABILITIES) if mask >> bit & 1)
    return EngineHeader(magic.decode(), ".".join(map(str, version)), size, capabilities)
