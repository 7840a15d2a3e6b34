"""The network's file into a neosr, for training there: installed whole or not at all, and taken out again.

A validation needs none of this (`neosr_run` injects the network); a training with neosr's own train.py does.
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

# The first line of an installed file; the sha256 is that of everything below it.
MARKER = b"# Installed by aether-deploy install-arch; sha256 of what follows: "


def find_archs(root: Path | None = None) -> Path:
    """The `archs` folder of a neosr.

    Args:
        root: a checkout, a folder that holds the package `neosr`, or that package itself; None looks for the
            installed neosr of this environment, without importing it.
    Raises:
        NeosrError: there is no neosr.
    """
    if root is None:
        spec = importlib.util.find_spec("neosr")
        if spec is None or spec.origin is None:
            raise NeosrError("no neosr in this environment: pip install neosr, or give the root of a checkout")
        root = Path(spec.origin).parent
    for archs in (root / "neosr" / "archs", root / "archs"):
        # `archs/__init__.py` is what neosr's scan of the folder is in; our own repository has none.
        if (archs / "__init__.py").is_file():
            return archs
    raise NeosrError(f"{root}: no neosr there (no neosr/archs/__init__.py); give the root of a neosr checkout")


def install(archs: Path) -> bool:
    """Writes our file, marked, into `archs`; True unless it was there already.

    Raises:
        NeosrError: a file of that name is not ours or was edited, or another file registers our names.
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
    """Removes our file from `archs`; True unless there was none.

    Raises:
        NeosrError: the file of that name is not ours, or was edited since.
    """
    from aether_deploy.network.definition import ARCH_FILE

    target = archs / FILE_NAME
    if not target.is_file():
        return False
    _refuse_foreign(target, ARCH_FILE.read_bytes())
    target.unlink()
    return True


def marked(source: bytes) -> bytes:
    """A file of ours as it is installed: its first line says so, and what the rest must hash to."""
    return MARKER + hashlib.sha256(source).hexdigest().encode() + b"\n" + source


def other_registrations(archs: Path) -> dict[Path, list[str]]:
    """Other `*_arch.py` files that register one of our names, read without running them.

    Returns:
        File -> the names that clash; empty if none does.
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
    """Names of the functions and classes that a file hands to ARCH_REGISTRY, as decorator or as call."""
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
    """Ours is a file with a marker that still holds, or an unmarked copy of the very file that we have."""
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
