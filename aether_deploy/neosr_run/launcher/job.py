"""One neosr run, described by a job file.

The job (see `neosr_run.neosr.run_neosr`): mode "test" or "train", the options file, further arguments, the checkout's
script or null for the pip-installed package, the root folder, the network file to inject, the folder for captured
floats or null, and the path of the receipt. The receipt is written only after the run has returned normally: neosr
exits with code 0 after a missing checkpoint, wrong weights or a wrong scale, so the exit code proves nothing.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import runpy
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from . import pipelines
from .capture import Capture
from .cpu_shim import cpu_instead_of_cuda

__all__ = ["main"]

ARCH_MODULE = "neosr.archs.aether_arch"


def main(job_file: Path) -> None:
    """Runs the job and writes its receipt.

    Raises:
        SystemExit: neosr exited early, with whatever code; or the network file cannot be loaded.
    """
    job = json.loads(job_file.read_text(encoding="utf-8"))
    script = Path(job["script"]) if job["script"] else None
    # neosr parses sys.argv when its modules are imported.
    sys.argv = [str(script or f"neosr-{job['mode']}"), "-opt", job["options"], *job["arguments"]]
    if script is not None:
        sys.path.insert(0, str(script.parent))

    cuda = torch.cuda.is_available()
    with contextlib.ExitStack() as stack:
        if not cuda:
            stack.enter_context(cpu_instead_of_cuda(script))
        arch = _inject(Path(job["arch"]))
        folder = Path(job["floats"]) if job["floats"] else None
        capture = stack.enter_context(Capture(arch.AetherNet, folder))
        try:
            _run(job["mode"], script, Path(job["root"]))
        except SystemExit as early:
            # Including `exit(0)`, which is how neosr reports most of its failures.
            sys.stdout.flush()
            sys.exit(f"neosr left its pipeline early with exit code {early.code}")
    receipt = {"mode": job["mode"], "cuda": cuda, "torch": torch.__version__, **_neosr(), **_network(capture)}
    _write(Path(job["receipt"]), receipt)


def _run(mode: str, script: Path | None, root: Path) -> None:
    if script is not None:
        runpy.run_path(str(script), run_name="__main__")
        return
    (pipelines.test if mode == "test" else pipelines.train)(root)


def _inject(path: Path) -> ModuleType:
    """Loads our network as a module of neosr, so that neosr's scan finds it already imported; no file is copied."""
    import neosr  # noqa: F401  (its logger and random state first, as in neosr's own scripts)

    spec = importlib.util.spec_from_file_location(ARCH_MODULE, path)
    if spec is None or spec.loader is None:
        sys.exit(f"cannot load the network from {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[ARCH_MODULE] = module
    spec.loader.exec_module(module)
    return module


def _neosr() -> dict[str, str]:
    """The neosr that ran: the folder of its package, and its version."""
    import neosr

    folder = Path(str(neosr.__file__)).parent
    project = folder.parent / "pyproject.toml"
    if project.is_file():
        version = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {}).get("version", "unknown")
    else:
        version = importlib.metadata.version("neosr")
    return {"neosr": str(folder), "neosr_version": version}


def _network(capture: Any) -> dict[str, Any]:
    network = capture.network
    return {
        "forwards": capture.forwards,
        "network_class": None if network is None else f"{type(network).__module__}.{type(network).__qualname__}",
        "fused": None if network is None else bool(network.fused_init),
        "scale": None if network is None else int(network.scale),
    }


def _write(path: Path, receipt: dict[str, Any]) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(receipt, indent=2), encoding="utf-8")
    temporary.replace(path)
