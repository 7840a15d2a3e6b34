"""Forms of one file, written and judged one after the other until one passes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aether_deploy.artifacts.onnx_check import check_onnx
from aether_deploy.errors import ExportError
from aether_deploy.proof.verdict import ParityReport

if TYPE_CHECKING:
    from aether_deploy.graphs.conversion import Conversion

__all__ = ["first_that_passes"]


def first_that_passes[Made: Conversion, Found](
    candidates: Iterable[Made], path: Path, judge: Callable[[Made], tuple[ParityReport, Found]]
) -> tuple[Made, ParityReport, Found, list[dict[str, Any]]]:
    """Writes each candidate, reads it back and judges it; stops at the first that passes, which stays on disk.

    Args:
        candidates: graphs, at least one.
        path: the ONNX file to write; the last candidate stays there even if none passes.
        judge: of the file on disk: the report, and whatever else was found.
    Returns:
        the last candidate, its report, what else was found, and each one's figures for the manifest.
    Raises:
        ExportError: a file that is no valid ONNX; or see `candidates`.
    """
    from aether_deploy.graphs.exporter import save_onnx

    measured: list[dict[str, Any]] = []
    for made in candidates:
        made.model.metadata_props["aether_deploy.fp32_islands"] = json.dumps(made.as_dict())
        save_onnx(made.model, path)
        check_onnx(path)
        report, found = judge(made)
        measured.append({"policy": made.policy, "casts": made.casts, **report.summary()})
        if report.passed:
            break
    if not measured:
        raise ExportError(f"{path.name}: there is no form of it to try")
    return made, report, found, measured
