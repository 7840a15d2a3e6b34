"""onnxruntime-web, fetched once by npm and checked against a hash that stands here."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from aether_deploy.errors import ExportError
from aether_deploy.files import replacing, scratch

__all__ = ["NODE_FILES", "RUNTIME_FILES", "VERSION", "write_runtime"]

logger = logging.getLogger(__name__)

VERSION = "1.30.0"
# npm's own "integrity" of the package.
_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
_PACKAGE = f"onnxruntime-web-{VERSION}.tgz"
# The program, and its code for WebGPU and WebAssembly.
RUNTIME_FILES = ("ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm")

# The same without WebGPU.
NODE_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")


def write_runtime(folder: Path, names: Sequence[str] = RUNTIME_FILES) -> None:
    """Writes files of the package into a folder.

    Raises:
        ExportError: the package is not in the cache, and npm cannot fetch it; or it is not the right one.
    """
    package = platformdirs.user_cache_path("aether_deploy") / _PACKAGE
    if not package.is_file():
        _fetch(package)
    with package.open("rb") as file:
        found = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if found != _SHA512:
        raise ExportError(f"{package}: not onnxruntime-web {VERSION} as it was published (sha512); delete it")
    with tarfile.open(package) as archive:
        for name in names:
            source = archive.extractfile(f"package/dist/{name}")
            assert source is not None  # the hash says which package it is
            with source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)


def _fetch(package: Path) -> None:
    logger.info("fetching onnxruntime-web %s, 33 MB, once", VERSION)
    by_hand = f"where npm works, run: npm pack onnxruntime-web@{VERSION}, and put the file into {package.parent}"
    npm = shutil.which("npm")
    if npm is None:
        raise ExportError(f"onnxruntime-web is fetched by npm, which is not here; {by_hand}")
    with scratch("npm") as folder:
        environment = {**os.environ, "npm_config_update_notifier": "false"}
        ran = subprocess.run(
            [npm, "pack", f"onnxruntime-web@{VERSION}", "--silent"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        if ran.returncode != 0 or not (folder / _PACKAGE).is_file():
            said = (ran.stderr.strip() or "no file").splitlines()[-1]
            raise ExportError(f"npm cannot fetch onnxruntime-web {VERSION} ({said}); {by_hand}")
        with replacing(package) as temporary:
            shutil.copyfile(folder / _PACKAGE, temporary)
