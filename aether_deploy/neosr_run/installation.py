"""Puts the network's file into a neosr for training there, whole or not at all, and removes it again.

Validation does not need this (`neosr_run` injects the network); training with neosr's own train.py does.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
from pathlib import Path

from aether_deploy.errors import NeosrError
from aether_deploy.files import replacing

__all__ = ["FILE_NAME", "MARKER", "find_archs", "install", "marked", "other_registrations", "uninstall"]


FILE_NAME = "aether_arch.py"

# The first line of an installed file begins with this; the sha256 is of everything below that line.
MARKER = b"# Installed by aether-deploy install-arch; sha256 of what follows: "


def find_archs(root: Path | None = None) -> Path:
    """The `archs` folder of a neosr.

    Args:
        root: a checkout, a folder that holds the package `neosr`, or that package itself; None finds the neosr
            installed in this environment, without importing it.
    Raises:
        NeosrError: no neosr was found.
    """
    if root is None:
        spec = importlib.util.find_spec("neosr")
        if spec is None or spec.origin is None:
            raise NeosrError("no neosr in this environment: pip install neosr, or give the root of a checkout")
        root = Path(spec.origin).parent
    for archs in (root / "neosr" / "archs", root / "archs"):
        # `archs/__init__.py` holds neosr's scan of the folder; our own repository has none.
        if (archs / "__init__.py").is_file():
            return archs
    raise NeosrError(f"{root}: no neosr there (no neosr/archs/__init__.py); give the root of a neosr checkout")


def install(archs: Path) -> bool:
    """Writes our file, marked, into `archs`; False if it was already there.

    Raises:
        NeosrError: a file of that name is not ours or was edited, another file registers our names, or `archs` cannot
            be written.
    """
    from aether_deploy.network.definition import ARCH_FILE

    source = ARCH_FILE.read_bytes()
    content = marked(source)
    target = archs / FILE_NAME
    if others := other_registrations(archs):
        file, names = next(iter(others.items()))
        raise NeosrError(
            f"{file} registers {', '.join(names)} already, and neosr stops when two files register one name; "
            "move that file away first"
        )
    _refuse_foreign(target, source)
    if target.is_file() and target.read_bytes() == content:
        return False
    if not os.access(archs, os.W_OK):
        raise NeosrError(f"{archs}: no permission to write there; run this as the user who installed that neosr")
    with replacing(target) as temporary:
        temporary.write_bytes(content)
    return True


def uninstall(archs: Path) -> bool:
    """Removes our file from `archs`; False if there was none.

    Raises:
        NeosrError: the file of that name is not ours, or was edited after it was installed.
    """
    from aether_deploy.network.definition import ARCH_FILE

    target = archs / FILE_NAME
    if not target.is_file():
        return False
    _refuse_foreign(target, ARCH_FILE.read_bytes())
    target.unlink()
    return True


def marked(source: bytes) -> bytes:
    """Our file as it is installed: its first line says so and gives the sha256 of the rest."""
    return MARKER + hashlib.sha256(source).hexdigest().encode() + b"\n" + source


def other_registrations(archs: Path) -> dict[Path, list[str]]:
    """Other `*_arch.py` files that register one of our names, read without running them.

    Returns:
        file -> the names that clash; empty if none do.
    """
    from aether_deploy.network.definition import arch

    ours = {"aether", *arch.PRESETS}
    clashes: dict[Path, list[str]] = {}
    for file in sorted(archs.glob("*_arch.py")):
        if file.name == FILE_NAME:
            continue
        found = sorted(ours & _registered(file))
        if found:
            clashes[file] = found
    return clashes


def _registered(file: Path) -> set[str]:
    """Names of the functions and classes that a file registers in ARCH_REGISTRY, by decorator or by call."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return set()  # neosr cannot import it either, and says so itself
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if any(_is_register(decorator) for decorator in node.decorator_list):
                names.add(node.name)
        elif isinstance(node, ast.Call) and _is_register(node):
            names |= {argument.id for argument in node.args if isinstance(argument, ast.Name)}
    return names


def _is_register(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith("ARCH_REGISTRY.register")


def _refuse_foreign(target: Path, source: bytes) -> None:
    """Raises unless `target` is absent, an unmarked copy of `source`, or ours with a marker that still matches."""
    if not target.exists():
        return
    content = target.read_bytes()
    if content == source:
        return
    first, _, rest = content.partition(b"\n")
    if not first.startswith(MARKER):
        raise NeosrError(f"{target} was not put there by aether-deploy, so it is left alone; move it away first")
    if first.removeprefix(MARKER).strip() != hashlib.sha256(rest).hexdigest().encode():
        raise NeosrError(f"{target} was edited after it was installed, so it is left alone; move it away first")
