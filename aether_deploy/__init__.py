"""Deploys AetherNet checkpoints: fuse, prove, export, run.

    from pathlib import Path
    from aether_deploy import ExportOptions, export_model, load_checkpoint

    artifacts = export_model(load_checkpoint(Path("net_g_latest.pth")), ExportOptions())
    print(artifacts[0].path, artifacts[0].report.overall.max_abs)

Names are imported when they are first used, so `import aether_deploy` waits for no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aether_deploy.checkpoint import Checkpoint, load_checkpoint
    from aether_deploy.errors import AetherDeployError, ParityError
    from aether_deploy.fuse import fuse_aether, fuse_checkpoint, fuse_state_dict
    from aether_deploy.parity import ParityReport, compare
    from aether_deploy.pipeline import Artifact, ExportOptions, export_model
    from aether_deploy.runners import Runner, open_runner
    from aether_deploy.spec import NetworkSpec

_MODULES = {
    "AetherDeployError": "errors",
    "Artifact": "pipeline",
    "Checkpoint": "checkpoint",
    "EngineOptions": "engines.plan",
    "ExportOptions": "pipeline",
    "NetworkSpec": "spec",
    "ParityError": "errors",
    "ParityReport": "parity",
    "Runner": "runners",
    "compare": "parity",
    "export_model": "pipeline",
    "fuse_aether": "fuse",
    "fuse_checkpoint": "fuse",
    "fuse_state_dict": "fuse",
    "load_checkpoint": "checkpoint",
    "open_runner": "runners",
}

__all__ = [
    "AetherDeployError",
    "Artifact",
    "Checkpoint",
    "EngineOptions",
    "ExportOptions",
    "NetworkSpec",
    "ParityError",
    "ParityReport",
    "Runner",
    "compare",
    "export_model",
    "fuse_aether",
    "fuse_checkpoint",
    "fuse_state_dict",
    "load_checkpoint",
    "open_runner",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
