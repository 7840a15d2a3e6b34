"""neosr's `experiments/<name>` folder: which checkpoint in it is the newest. Needs no torch."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from aether_deploy.errors import CheckpointError

__all__ = ["SUFFIXES", "newest_checkpoint"]

logger = logging.getLogger(__name__)

# Of checkpoints.
SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")


def newest_checkpoint(folder: Path) -> Path:
    """The newest generator in a neosr experiment: the highest iteration, or `latest` if its mtime is no older.

    Args:
        folder: experiments/<name>, or its `models`.
    Raises:
        CheckpointError: there is no `net_g_<iteration>` or `net_g_latest`.
    """
    models = folder / "models" if (folder / "models").is_dir() else folder
    found = [file for file in models.glob("net_g_*") if file.suffix in SUFFIXES and "_archived_" not in file.name]
    numbered = [(int(match[1]), file) for file in found if (match := re.fullmatch(r"net_g_(\d+)", file.stem))]
    latest = next((file for file in found if file.stem == "net_g_latest"), None)
    newest = max(numbered)[1] if numbered else latest
    if newest is None:
        raise CheckpointError(
            f"{folder}: no net_g_<iteration>.pth or net_g_latest.pth in {models}; "
            "give a checkpoint, or a neosr folder experiments/<name>"
        )
    if latest is not None and latest.stat().st_mtime >= newest.stat().st_mtime:
        newest = latest
    logger.warning("took %s, the newest of %d checkpoints in %s", newest.name, len(found), models)
    return newest
