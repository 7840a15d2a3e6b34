"""What can go wrong, as one hierarchy. A command prints one line and exits with `exit_code`.

AetherDeployError            1   anything known
├── CheckpointError              a file that cannot be read as an AetherNet checkpoint
├── ReparameterizationError      two branches that are not one convolution
├── ConfigError                  an options or configuration file with wrong content
├── ImageError                   a picture or video that cannot be read or written
├── ExportError                  a network that could not be written as ONNX
├── RunnerError                  an artifact that cannot be run here, or not with the given shape
│   └── OutOfMemoryError         an input that needs more memory than there is; a smaller one may run
├── ManifestError                an artifact that is not the one its manifest describes
├── EngineError                  a TensorRT engine that could not be built or loaded
├── NeosrError                   a neosr run that failed, or that left no receipt
└── ParityError              3   outputs that differ by more than the tolerance
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "AetherDeployError",
    "CheckpointError",
    "ConfigError",
    "EngineError",
    "ExportError",
    "ImageError",
    "ManifestError",
    "NeosrError",
    "OutOfMemoryError",
    "ReparameterizationError",
    "RunnerError",
]


class AetherDeployError(Exception):
    """Base of all known errors; the message says what was seen, what was expected, and what to do.

    Attributes:
        exit_code: of the command that it ends.
        facts: what `--json` prints besides `error` and `exit_code`.
    """

    exit_code = 1

    def __init__(self, message: str, *, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.facts = dict(facts or {})


class CheckpointError(AetherDeployError):
    """A file that cannot be read as an AetherNet checkpoint."""


class ReparameterizationError(AetherDeployError):
    """Two branches that are not one convolution."""


class ConfigError(AetherDeployError):
    """An options or configuration file with wrong content."""


class ImageError(AetherDeployError):
    """A picture or video that cannot be read or written."""


class ExportError(AetherDeployError):
    """A network that could not be written as ONNX."""


class RunnerError(AetherDeployError):
    """An artifact that cannot be run here, or not with the given shape."""


class OutOfMemoryError(RunnerError):
    """An input that needs more memory than there is; a smaller one may run."""


class ManifestError(AetherDeployError):
    """An artifact that is not the one its manifest describes."""


class EngineError(AetherDeployError):
    """A TensorRT engine that could not be built or loaded."""


class NeosrError(AetherDeployError):
    """A neosr run that failed, or that left no receipt."""
