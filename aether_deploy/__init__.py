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
    from aether_deploy.artifacts.fused_checkpoint import fuse_checkpoint
    from aether_deploy.artifacts.model import Artifact, ExportOptions
    from aether_deploy.artifacts.opening import open_runner
    from aether_deploy.artifacts.pipeline import export_model
    from aether_deploy.errors import AetherDeployError
    from aether_deploy.network.checkpoint import Checkpoint, load_checkpoint
    from aether_deploy.network.fusion import fuse_aether, fuse_state_dict
    from aether_deploy.network.spec import NetworkSpec
    from aether_deploy.proof.verdict import ParityError, ParityReport, compare
    from aether_deploy.runners.protocol import Runner

_MODULES = {
    "AetherDeployError": "errors",
    "Artifact": "artifacts.model",
    "Checkpoint": "network.checkpoint",
    "EngineOptions": "engines.plan",
    "ExportOptions": "artifacts.model",
    "NetworkSpec": "network.spec",
    "ParityError": "proof.report",
    "ParityReport": "proof.report",
    "Runner": "runners.protocol",
    "compare": "proof.report",
    "export_model": "artifacts.pipeline",
    "fuse_aether": "network.fusion",
    "fuse_checkpoint": "artifacts.fused_checkpoint",
    "fuse_state_dict": "network.fusion",
    "load_checkpoint": "network.checkpoint",
    "open_runner": "artifacts.opening",
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
