"""`python -m aether_deploy.doctor`: what this machine can do, and the commands that install what is missing."""

from __future__ import annotations

import dataclasses
import platform
from typing import TYPE_CHECKING, Any

import click

from aether_deploy import cli

if TYPE_CHECKING:
    from aether_deploy.artifacts.formats import Finding

__all__ = ["command"]

PACKAGES = (
    "aether-deploy",
    "torch",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "polygraphy",
    "numpy",
)


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


@click.command(cls=cli.Command, example="doctor", name="doctor")
@cli.json_option
def command(as_json: bool) -> None:
    """Show what works on this machine, and how to install what does not."""
    with cli.progress("doctor"):
        from aether_deploy.artifacts.examination import examine

        found = examine()
        versions = {package: version for package in PACKAGES if (version := _version(package))}
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    out = cli.console(stderr=as_json)
    out.print(f"{system}; {', '.join(f'{name} {version}' for name, version in versions.items())}")
    out.print()
    for finding in found:
        out.print(cli.mark(finding.works), f"{finding.name}: {finding.detail}")
        if finding.remedy and finding.remedy not in finding.detail:
            out.print(f"  {finding.remedy}")
    if as_json:
        cli.print_json(_as_json(system, versions, found))
    cli.next_command(*_next(found), as_json=as_json)


def _as_json(system: str, versions: dict[str, str], found: list[Finding]) -> dict[str, Any]:
    rows = [dataclasses.asdict(row) for row in found]
    return {"system": system, "versions": versions, "findings": rows}


def _next(found: list[Finding]) -> tuple[str, ...]:
    """The export command for the best format that works here, or the command that installs one."""
    works = {finding.name for finding in found if finding.works}
    export = ("python", "-m", "aether_deploy.export", "CHECKPOINT", "--precision", "fp16", "--format")
    if "TensorRT" in works and any(finding.topic == "gpu" for finding in found):
        return (*export, "tensorrt")
    if "TensorRT-RTX" in works:
        return (*export, "tensorrt-rtx")
    return ("pip", "install", "aether-deploy[tensorrt-rtx]")


if __name__ == "__main__":
    command(prog_name="python -m aether_deploy.doctor")
