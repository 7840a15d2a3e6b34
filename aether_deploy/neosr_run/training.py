"""A neosr training run in a subprocess, from its options file to its newest checkpoint."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aether_deploy.errors import ConfigError, NeosrError
from aether_deploy.neosr_run.neosr import Neosr, Receipt, run_neosr
from aether_deploy.network.checkpoint import read_neosr_options
from aether_deploy.network.experiment import newest_checkpoint

__all__ = ["Trained", "train"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trained:
    """A completed training run.

    Attributes:
        experiment: neosr's folder experiments/<name>.
        checkpoint: the newest one in it.
        receipt: of the run.
    """

    experiment: Path
    checkpoint: Path
    receipt: Receipt


def train(options: Path, neosr: Neosr, *, root: Path | None = None, resume: bool = False) -> Trained:
    """Trains as the options file says.

    Args:
        options: neosr's training options file; its relative paths start from the current folder.
        neosr: which one to run.
        root: where the installed package puts `experiments`; by default the current folder.
        resume: continue from the newest training state; only a checkout's train.py can.
    Raises:
        ConfigError: not training options, or `resume` or `accumulate` with the installed package.
        NeosrError: the run ended early, trained no AetherNet though it should have, or wrote no checkpoint.
    """
    stated = read_neosr_options(options)
    if "train" not in stated or "name" not in stated:
        raise ConfigError(f"{options}: no [train] table or no name; give neosr's training options")
    if resume and neosr.checkout is None:
        raise ConfigError(
            "--resume needs --neosr PATH: the installed neosr has no train.py, and this one cannot resume"
        )
    if neosr.checkout is None and stated.get("datasets", {}).get("train", {}).get("accumulate", 1) != 1:
        raise ConfigError(f"{options}: accumulate needs --neosr PATH; with the installed neosr take it out")
    root = (root or Path.cwd()) if neosr.checkout is None else neosr.checkout
    _require_photos(stated, root, options)
    experiments = Path(stated.get("path", {}).get("experiments_root") or root / "experiments")
    experiment = experiments / str(stated["name"])
    experiments.mkdir(parents=True, exist_ok=True)
    # Beside the experiment's folder, not in it: neosr renames an existing folder of that name when it starts.
    log = experiments / f"{stated['name']}.log"
    logger.warning("neosr's output goes to %s", log)
    began = time.time()
    receipt = run_neosr(neosr, "train", options, log, root=root, arguments=("--auto_resume",) if resume else ())
    ours = str(stated["network_g"].get("type")).startswith("aether")
    if ours and not receipt.forwards:
        raise NeosrError(f"neosr's training run never ran an AetherNet; is it the type in [network_g] of {options}?")
    checkpoint = newest_checkpoint(experiment)
    # The receipt counts AetherNet's passes alone; of another network a checkpoint of this run is the evidence.
    if not ours and checkpoint.stat().st_mtime < began:
        raise NeosrError(f"neosr's training run wrote no checkpoint; {checkpoint.name} is older; see {log}")
    return Trained(experiment, checkpoint, receipt)


def _require_photos(stated: dict[str, Any], root: Path, options: Path) -> None:
    """Raises ConfigError for a folder of photos that is not there; neosr would only fail after it has begun."""
    for name, dataset in stated.get("datasets", {}).items():
        for key, folder in dataset.items() if isinstance(dataset, dict) else ():
            if key.startswith("dataroot") and not (root / str(folder)).exists():
                raise ConfigError(
                    f"{options}: datasets.{name}.{key} is {str(folder)!r}, which is not there; "
                    "give the folder of your photos"
                )
