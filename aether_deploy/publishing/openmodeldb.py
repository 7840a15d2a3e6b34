"""An entry for OpenModelDB, in the form in which that project keeps its models: `data/models/<id>.json`.

Written from that project's `src/lib/schema.ts`, `model-props.ts` and `schema-util.ts` of August 2026. Authors,
architectures and tags must be known there: a new author or architecture is added with the same pull request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from aether_deploy.network.family import NetworkSpec
from aether_deploy.proof.manifest import Manifest
from aether_deploy.publishing.before_after import BeforeAfter
from aether_deploy.publishing.details import Details

__all__ = ["Entry", "entry_id", "entry_of", "write_entry"]

_Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
_Channels = Annotated[int, Field(ge=1, le=4)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", alias_generator=to_camel, validate_by_name=True)


class _Resource(_Strict):
    platform: Literal["pytorch", "onnx"]
    type: Literal["pth", "safetensors", "onnx"]
    size: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    urls: Annotated[list[str], Field(min_length=1)]


class _Paired(_Strict):
    type: Literal["paired"]
    caption: str
    lr: Annotated[str, Field(alias="LR")]
    sr: Annotated[str, Field(alias="SR")]


class Entry(_Strict):
    """A model's entry; the fields stand in the order in which OpenModelDB writes them."""

    name: Annotated[str, Field(min_length=1)]
    author: _Id | Annotated[list[_Id], Field(min_length=2)]
    license: str
    tags: Annotated[list[_Id], Field(min_length=1)]
    description: Annotated[str, StringConstraints(pattern=r"(?s)^\S(.*\S)?$")]
    date: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\d$")]
    architecture: _Id
    # Of the network's own size names, which no tool reads; never an empty list.
    size: None = None
    scale: Annotated[int, Field(ge=1, le=16)]
    input_channels: _Channels
    output_channels: _Channels
    resources: Annotated[list[_Resource], Field(min_length=1)]
    images: list[_Paired]


def entry_id(scale: int, name: str) -> str:
    """`2x-Name`; "" if nothing of the name is left.

    Letters, digits and single hyphens; a scale at the name's start or end is not repeated, as OpenModelDB wants it.
    """
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    slug = re.sub(rf"^(?:{scale}x-?|x{scale}-?)(?=.)|-(?:x{scale}|{scale}x)$", "", slug, flags=re.IGNORECASE).strip("-")
    return f"{scale}x-{slug}" if slug else ""


def entry_of(
    spec: NetworkSpec,
    details: Details,
    *,
    name: str,
    description: str,
    files: Sequence[Manifest],
    pictures: Sequence[BeforeAfter],
) -> Entry:
    """The entry of a release.

    Args:
        spec: of the network.
        details: of the author.
        name: of the model, without scale.
        description: Markdown.
        files: manifests of what is published; engines are left out, since OpenModelDB has no type for them.
        pictures: of the release.
    """
    ids = details.author_ids
    return Entry(
        name=name,
        author=ids[0] if len(ids) == 1 else ids,
        license=details.license,
        tags=list(details.tags),
        description=description.strip(),
        date=details.date.isoformat(),
        architecture=spec.architecture.lower(),
        scale=spec.scale,
        input_channels=spec.in_chans,
        output_channels=spec.in_chans,
        resources=[resource for file in files if (resource := _resource(file.artifact, details))],
        images=[
            _Paired(type="paired", caption=one.name, lr=details.url(one.lr), sr=details.url(one.after))
            for one in pictures
        ],
    )


def _resource(artifact: dict[str, object], details: Details) -> _Resource | None:
    file = str(artifact["file"])
    suffix = Path(file).suffix.removeprefix(".")
    if suffix not in ("pth", "safetensors", "onnx"):
        return None
    platform = "onnx" if suffix == "onnx" else "pytorch"
    values = {"size": artifact["bytes"], "sha256": artifact["sha256"], "urls": [details.url(file)]}
    return _Resource.model_validate({"platform": platform, "type": suffix, **values})


def write_entry(entry: Entry, path: Path) -> None:
    """Writes the entry as that project's scripts do: `JSON.stringify(entry, null, 4)`, without a last newline."""
    path.write_text(json.dumps(entry.model_dump(by_alias=True), indent=4, ensure_ascii=False), encoding="utf-8")
