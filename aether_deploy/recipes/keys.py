"""What a step depends on, as one hash: contents of files, settings and tools, never times."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from aether_deploy.errors import ConfigError
from aether_deploy.files import sha256_of
from aether_deploy.proof.manifest import tool_versions
from aether_deploy.samples import PHOTOS

__all__ = ["content", "key_of", "photos", "tools"]

_PACKAGE = Path(__file__).resolve().parents[1]
_TOOLS = (
    "torch numpy onnx onnx-ir onnxscript onnxruntime onnxruntime-gpu pillow safetensors jinja2 neosr tensorrt-cu13 "
    "tensorrt-rtx-cu13 polygraphy"
)


def key_of(*parts: Any) -> str:
    """A hash of values that JSON can hold; the order of a dict's keys does not matter."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def content(path: Path) -> str:
    """sha256 of a file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path in the recipe") from error


def photos(folder: str) -> dict[str, str]:
    """Name -> sha256 of everything in a folder of pictures; of the packaged photos for "".

    Raises:
        ConfigError: it is no folder.
    """
    path = Path(folder) if folder else PHOTOS
    try:
        return {file.name: sha256_of(file) for file in sorted(path.iterdir()) if file.is_file()}
    except OSError as error:
        raise ConfigError(f"{path}: no folder of pictures ({error.strerror}); check the path in the recipe") from error


@functools.cache
def tools() -> dict[str, str]:
    """Versions of what takes part, and a hash of this package's own code, which changes between versions too."""
    code = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*")):
        if path.suffix in (".py", ".html", ".md", ".css", ".js") and path.is_file():
            code.update(f"{path.relative_to(_PACKAGE)}\0".encode() + path.read_bytes() + b"\0")
    return {**tool_versions(*_TOOLS.split()), "code": code.hexdigest()}
