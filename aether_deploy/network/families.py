"""The families of networks that can be read. A new one is a file beside `aether` and a line here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from aether_deploy.errors import CheckpointError
from aether_deploy.network.aether import Aether
from aether_deploy.network.family import Family, NetworkSpec
from aether_deploy.network.spandrel import Spandrel

__all__ = ["FAMILIES", "family_of", "recognise", "spec_from_dict"]

FAMILIES: dict[str, Family] = {family.name: family for family in (Aether(), Spandrel())}


def family_of(spec: NetworkSpec) -> Family:
    """The family that a network belongs to."""
    return FAMILIES[spec.family]


def recognise(keys: Collection[str]) -> Family:
    """The family of a state dict with these canonical keys.

    Raises:
        CheckpointError: the family is unknown, or it is an unsupported relative of a known one.
    """
    found = next((family for family in FAMILIES.values() if family.recognises(keys)), None)
    if found is None:
        titles, shown = " or ".join(family.title for family in FAMILIES.values()), ", ".join(list(keys)[:3]) or "none"
        raise CheckpointError(f"no {titles}: its keys are those of another network (first: {shown})")
    return found


def spec_from_dict(values: Mapping[str, Any]) -> NetworkSpec:
    """The inverse of `NetworkSpec.as_dict`; manifests older than the families are AetherNet's.

    Raises:
        CheckpointError: the family is unknown, or it has no such network.
    """
    name = values.get("family", "aether")
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        shown = ascii(name[:40]) if isinstance(name, str) else f"of type {type(name).__name__}"
        raise CheckpointError(f"network of family {shown}; known here: {', '.join(FAMILIES)}")
    return family.spec_from_dict(values)
