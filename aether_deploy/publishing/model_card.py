"""README.md of a release, as Hugging Face reads it; every figure in it comes from a manifest in the same folder."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from aether_deploy.network.families import family_of
from aether_deploy.network.family import NetworkSpec
from aether_deploy.proof.manifest import Manifest
from aether_deploy.proof.words import in_levels
from aether_deploy.publishing.before_after import BeforeAfter
from aether_deploy.publishing.details import Details
from aether_deploy.text import printable

__all__ = ["hub_license", "render_card"]

# Hugging Face's names of licences: SPDX in lower case, but without `-only` and `-or-later`. What it does not know is
# `other`, with a name and a link.
_HUB_LICENSES = frozenset(
    re.findall(
        r"\S+",
        """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 cc-by-2.0
    cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0
    cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 ecl-2.0 epl-1.0
    epl-2.0 eupl-1.1 eupl-1.2 gpl-2.0 gpl-3.0 isc lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0 ms-pl ncsa ofl-1.1 osl-3.0
    postgresql unlicense wtfpl zlib
""",
    )
)


def hub_license(spdx: str) -> str:
    """A licence's name on Hugging Face; `other` if it has none there."""
    name = re.sub(r"-(only|or-later)$", "", spdx.lower())
    return name if name in _HUB_LICENSES else "other"


def render_card(
    spec: NetworkSpec,
    details: Details,
    *,
    title: str,
    description: str,
    files: Sequence[Manifest],
    pictures: Sequence[BeforeAfter],
    report: str,
) -> str:
    """The card's text.

    Args:
        spec: of the fused network.
        details: of the author.
        title: of the model, with its scale.
        description: Markdown.
        files: manifests of what is published: the fused checkpoints, at least one ONNX file in fp32, and others.
        pictures: of the release.
        report: name of the HTML report.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown; what comes from outside goes through `md` or `yaml`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "md": _md,
        "code": _code,
        "yaml": json.dumps,
        "levels": _levels,
        "allowed": _allowed,
        "psnr": _psnr,
    }
    onnx = [file for file in files if file.artifact["kind"] == "onnx"]
    text = environment.get_template("model_card.md").render(
        spec=spec,
        details=details,
        title=title,
        description=description,
        files=files,
        pictures=pictures,
        report=report,
        source=files[0].source,
        hub_license=hub_license(details.license),
        fp32=_first(onnx, lambda variant: not variant.row.rounds),
        half=_first(onnx, lambda variant: variant.row.half and not variant.row.quantizes and variant.io == "fp32"),
        half_ends=_first(onnx, lambda variant: variant.io != "fp32"),
        fused=_first([file for file in files if file.artifact["kind"] == "checkpoint"], lambda variant: True),
        neosr_options=_options(spec) if family_of(spec).shown_by_weights else "",
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def _first(files: Sequence[Manifest], wanted: Any) -> str:
    return next((str(file.artifact["file"]) for file in files if wanted(file.variant)), "")


def _options(spec: NetworkSpec) -> str:
    """[network_g] of a neosr options file."""
    return "\n".join(
        ["[network_g]", *(f"{key} = {json.dumps(value)}" for key, value in spec.network_options().items())]
    )


def _md(text: object) -> str:
    """Text without meaning in Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>()#|!&])", r"\\\1", printable(text))


def _code(text: object) -> str:
    """Text between backticks, where nothing can be escaped."""
    return printable(text).replace("`", "'").replace("|", "/")


def _levels(parity: dict[str, Any]) -> str:
    return in_levels(parity["figures"]["max_abs"], bare=True)


def _allowed(parity: dict[str, Any]) -> str:
    photos, drawn = parity["tolerance"]["max_abs"], parity["tolerance"]["drawn"]
    shown = in_levels(photos, bare=True)
    return shown if drawn == 1 else f"{shown}; noise and patterns {in_levels(photos * drawn, bare=True)}"


def _psnr(parity: dict[str, Any]) -> str:
    psnr = parity["figures"]["psnr"]
    return "equal" if psnr is None else f"{psnr:.1f}"
