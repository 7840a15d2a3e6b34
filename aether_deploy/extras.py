"""How to install what is missing, as a line that works for this copy: a clone, or a wheel file.

aether-deploy is on no package index, so its name alone installs nothing.
"""

from __future__ import annotations

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = [
    "ONNXRUNTIMES",
    "clashing_onnxruntimes",
    "install_extra",
    "install_provider",
    "is_installed",
    "onnxruntime_gpu",
    "repair_onnxruntime",
]

_NAME = "aether-deploy"
# They share a folder: the second that is installed overwrites the first, and removing one leaves half of the other.
ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu")


def install_extra(extra: str) -> str:
    """The line that installs an extra of this copy.

    In a clone it is `pip install -e '.[tensorrt-rtx]'`, with the clone's folder if that is not the current one; for a
    wheel the file's name, with its folder if that is known.
    """
    origin, editable = _origin()
    if editable:
        folder = "." if origin is not None and origin == Path.cwd() else str(origin or ".")
        return f"pip install -e {shlex.quote(f'{folder}[{extra}]')}"
    wheel = str(origin) if origin is not None else f"aether_deploy-{_version()}-py3-none-any.whl"
    return f"pip install {shlex.quote(f'{wheel}[{extra}]')}"


def install_provider(package: str) -> str:
    """The line that brings an execution provider of ONNX Runtime."""
    return onnxruntime_gpu() if package == "onnxruntime-gpu" else f"pip install {package}"


def onnxruntime_gpu() -> str:
    """The line that brings ONNX Runtime's CUDA providers, whatever is installed."""
    installed = [name for name in ONNXRUNTIMES if is_installed(name)]
    if installed == ["onnxruntime-gpu"]:
        return "pip install 'onnxruntime-gpu[cuda,cudnn]', and a driver"
    return repair_onnxruntime()


def repair_onnxruntime() -> str:
    """The lines that leave ONNX Runtime once, with its CUDA providers."""
    return f"pip uninstall -y {' '.join(ONNXRUNTIMES)} && pip install onnxruntime-gpu"


def clashing_onnxruntimes() -> bool:
    """Whether both kinds of ONNX Runtime are installed, which destroy each other."""
    return all(map(is_installed, ONNXRUNTIMES))


def _origin() -> tuple[Path | None, bool]:
    """(folder of the clone or path of the wheel that this was installed from, if known; whether it is a clone)."""
    try:
        text = distribution(_NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        return Path(__file__).resolve().parents[1], True  # run out of a clone, not installed at all
    if text is None:
        return None, False
    values = json.loads(text)
    parts = urlsplit(str(values.get("url", "")))
    path = Path(unquote(parts.path)) if parts.scheme == "file" else None
    return path, bool(values.get("dir_info", {}).get("editable", False))


def _version() -> str:
    try:
        return version(_NAME)
    except PackageNotFoundError:
        return "VERSION"


def is_installed(name: str) -> bool:
    """Whether a distribution of this name is installed."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
