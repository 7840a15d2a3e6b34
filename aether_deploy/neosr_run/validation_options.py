"""neosr options files for a test run: written from the network, or the user's own with the paths changed."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from aether_deploy.errors import ConfigError
from aether_deploy.network.checkpoint import Checkpoint

__all__ = ["PlannedRun", "adapted_options", "planned_options"]

DATASET = "images"

# What a user's own options must not contain, and why: the floats of the two runs could not be compared.
_REFUSED = (
    ("", "use_amp", True, "half precision hides what is compared"),
    ("", "compile", True, "a compiled network's floats cannot be captured"),
    ("path", "strict_load_g", False, "weights that do not fit would stay random"),
    ("val", "save_img", False, "the images are part of the report"),
)


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One of the two runs.

    Attributes:
        name: of the run, part of neosr's file names; it must not contain "debug", which changes what neosr does.
        checkpoint: the weights.
        results: neosr's results_root.
        images: folder of LQ images; None keeps the datasets in the user's options.
        gt: folder of ground truth with the same file names, or None.
    """

    name: str
    checkpoint: Checkpoint
    results: Path
    images: Path | None
    gt: Path | None


def planned_options(run: PlannedRun) -> str:
    """The TOML for a neosr test run: strict loading, float32, whole images."""
    dataset: dict[str, Any] = {"name": DATASET, "type": "single", "dataroot_lq": str(run.images)}
    validation: dict[str, Any] = {"pbar": False}
    if run.gt is not None:
        dataset |= {"type": "paired", "dataroot_gt": str(run.gt)}
        validation["metrics"] = {name: {"type": f"calculate_{name}"} for name in ("psnr", "ssim")}
    options = {
        "name": run.name,
        "model_type": "image",
        "scale": run.checkpoint.spec.scale,
        "network_g": run.checkpoint.spec.network_options(),
        "path": {
            "pretrain_network_g": str(run.checkpoint.path.resolve()),
            "strict_load_g": True,
            "results_root": str(run.results),
        },
        "datasets": {"test_1": dataset},
        "val": validation,
    }
    return "# Written by aether-deploy validate; neosr runs it as it is.\n\n" + tomlkit.dumps(options)


def adapted_options(own: Path, run: PlannedRun) -> str:
    """The user's own test options with the name, paths and `fused_init` of `run`, and everything else unchanged.

    Raises:
        ConfigError: not TOML, no test dataset, or a setting under which floats cannot be compared.
    """
    try:
        options = tomlkit.parse(own.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{own}: cannot be read ({error}); give neosr's test options") from error
    except TOMLKitError as error:
        raise ConfigError(f"{own}: no TOML ({error}); neosr's options files are TOML") from error
    _refuse(own, options)
    options["val"].pop("suffix", None)  # it would change the file names, which identify the images
    options["name"] = run.name
    options["network_g"]["fused_init"] = run.checkpoint.spec.fused
    path = options.setdefault("path", tomlkit.table())
    path["pretrain_network_g"] = str(run.checkpoint.path.resolve())
    path["results_root"] = str(run.results)
    path["strict_load_g"] = True
    datasets = _datasets(own, options)
    if run.images is not None:
        if len(datasets) != 1:
            raise ConfigError(
                f"{own}: {len(datasets)} datasets, but one --images; leave --images out or keep one dataset"
            )
        (dataset,) = datasets
        dataset["dataroot_lq"] = str(run.images)
        if dataset.get("type") == "paired":
            if run.gt is None:
                raise ConfigError(f"{own}: its dataset is paired, but only --images is given; give --gt too")
            dataset["dataroot_gt"] = str(run.gt)
    return tomlkit.dumps(options)


def _refuse(own: Path, options: MutableMapping[str, Any]) -> None:
    if not isinstance(options.get("network_g"), MutableMapping) or "val" not in options:
        raise ConfigError(f"{own}: no [network_g] or no [val] table; give neosr's test options")
    for table, key, value, why in _REFUSED:
        holder = options.get(table, {}) if table else options
        if holder.get(key) == value:
            shown = f"{key} = {str(value).lower()}" + (f" in [{table}]" if table else "")
            raise ConfigError(f"{own}: {shown}: {why}; take that line out")
    if options["val"].get("tile", -1) != -1:
        raise ConfigError(f"{own}: tile in [val] changes neosr's output or stops it; take that line out")


def _datasets(own: Path, options: MutableMapping[str, Any]) -> list[MutableMapping[str, Any]]:
    """The tables below [datasets]; a test run takes all of them, so none may be for training."""
    datasets = options.get("datasets", {})
    wrong = [name for name in datasets if name.split("_")[0] not in ("test", "val")]
    if wrong or not datasets:
        seen = f"[datasets.{wrong[0]}]" if wrong else "no [datasets] table"
        raise ConfigError(f"{own}: {seen}; expected [datasets.test_1], as in export_configs/test_validate.toml")
    return list(datasets.values())
