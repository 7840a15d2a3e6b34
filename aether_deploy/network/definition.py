"""The network classes, loaded from `neosr/archs/aether_arch.py`: the only definition.

A wheel carries the file inside the package; a checkout (and an editable install) has it where neosr users look for it.
It is loaded under a name of our own, so neosr is neither imported nor needed.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neosr.archs import aether_arch as arch

__all__ = ["ARCH_FILE", "arch"]

_PACKAGE = Path(__file__).resolve().parents[1]
_CANDIDATES = (
    _PACKAGE / "neosr_arch" / "aether_arch.py",  # a wheel
    _PACKAGE.parent / "neosr" / "archs" / "aether_arch.py",  # a checkout
)

ARCH_FILE: Path = next((path for path in _CANDIDATES if path.is_file()), _CANDIDATES[0])


def _load() -> ModuleType:
    name = "aether_deploy.aether_arch"
    spec = importlib.util.spec_from_file_location(name, ARCH_FILE)
    if spec is None or spec.loader is None or not ARCH_FILE.is_file():
        raise ImportError(f"the network's definition is missing: {ARCH_FILE}; reinstall aether-deploy")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


if not TYPE_CHECKING:
    arch = _load()
