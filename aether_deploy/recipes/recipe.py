"""What a recipe may say. The models below are the only definition: of reading, of messages, and of the JSON schema."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function

from aether_deploy.artifacts.formats import EXPORTS
from aether_deploy.errors import ConfigError
from aether_deploy.files import read_toml
from aether_deploy.graphs.opsets import OPSETS
from aether_deploy.precisions.choices import AUTO, FFN_FORMS, IO, POLICIES
from aether_deploy.precisions.table import PRECISIONS

__all__ = ["Export", "Limits", "Recipe", "Report", "Validate", "read_recipe", "schema"]


@dataclass(frozen=True, slots=True)
class OneOf:
    """Marks text that must be a name out of a table, in messages and in the schema."""

    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "enum": list(self.names)}

    def _check(self, value: str) -> str:
        if value not in self.names:
            raise ValueError(f"{value!r}; expected {', '.join(self.names)}")
        return value


_SHAPE = r"^[1-9]\d{0,8}(x[1-9]\d{0,8}){3}$"


def _shape(value: str) -> str:
    if not re.fullmatch(_SHAPE, value):
        raise ValueError(f"{value!r}; expected four whole numbers of at least 1, as in 1x3x256x256")
    return value


Format = Annotated[str, OneOf(EXPORTS)]
Precision = Annotated[str, OneOf(tuple(PRECISIONS))]
FusedSuffix = Annotated[str, OneOf(("pth", "safetensors"))]
Shape = Annotated[str, AfterValidator(_shape), Field(json_schema_extra={"pattern": _SHAPE})]
Text = Annotated[str, Field(min_length=1, max_length=4096)]


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class Validate(_Table):
    """Let neosr itself run the trained and the fused network, and compare them. Needs neosr."""

    images: Annotated[Text, Field(description="Folder of low-resolution images.")]
    gt: Annotated[str, Field(description="Folder of ground truth with the same file names.")] = ""
    neosr: Annotated[str, Field(description="A neosr checkout; the installed neosr by default.")] = ""
    neosr_python: Annotated[str, Field(description="neosr's Python; this one by default.")] = ""


class Export(_Table):
    """Files to make. Several tables [[export]] can be given."""

    format: Annotated[list[Format], Field(min_length=1, description="What to write.")] = ["onnx"]
    precision: Annotated[list[Precision], Field(min_length=1, description="A file for each.")] = ["fp32"]
    io: Annotated[str, OneOf(tuple(IO)), Field(description="Types at both ends of half-precision files.")] = "fp32"
    islands: Annotated[str, OneOf((*POLICIES, AUTO)), Field(description="What stays fp32 in half-precision files.")] = (
        "default"
    )
    calibration: Annotated[str, Field(description="Photos for the ranges of 8 bits; packaged ones by default.")] = ""
    quality: Annotated[float, Field(gt=0, description="Least PSNR of 8 bits to the trained network, dB.")] | None = None
    max_lost: (
        Annotated[float, Field(gt=0, description="Most PSNR that 8 bits may lose against ground truth, dB.")] | None
    ) = None
    ffn: Annotated[str, OneOf(tuple(FFN_FORMS)), Field(description="The FFN's layers; SM75 needs conv1x1.")] = "linear"
    opset: Annotated[int, Field(description="ONNX opset; 0 is 20, or 22 for bf16.", ge=0, lt=OPSETS.stop)] = 0
    static: Annotated[Shape, Field(description="A fixed input shape, such as 1x3x256x256.")] | None = None
    pad: Annotated[bool, Field(description="Mirror and crop inside the file what the network would not take.")] = False
    min_shape: Annotated[list[Shape], Field(description="Engines: of each profile.")] = []
    opt_shape: Annotated[list[Shape], Field(description="Engines: of each profile.")] = []
    max_shape: Annotated[list[Shape], Field(description="Engines: of each profile.")] = []
    gpu: Annotated[list[Text], Field(description="RTX engines: sm86, rtx30, turing, current ...")] = []
    workspace_mib: Annotated[int, Field(ge=0, description="Engines: most activation memory; 0 is all.")] = 0


class Limits(_Table):
    """How far files of one precision may be off; only less than what is allowed anyway."""

    levels: Annotated[float, Field(gt=0, description="Largest difference on photos, in steps of 8 bits.")] | None = None
    psnr: Annotated[float, Field(gt=0, description="Least PSNR to the trained network on photos, in dB.")] | None = None


class Report(_Table):
    """One page with pictures that shows the comparison."""

    precision: Annotated[str, Field(description="Of the ONNX file shown; the least exact by default.")] = ""
    benchmark: Annotated[str, Field(description="A file with the output of `benchmark --json`.")] = ""


class ReleaseTable(_Table):
    """A folder to publish, `release` in the output folder."""

    author: Annotated[list[Text], Field(min_length=1, description="Names.")]
    license: Annotated[Text, Field(description="An SPDX identifier, such as CC-BY-4.0.")]
    description: Annotated[str, Field(description="Markdown: what the model is for.")] = ""
    tags: Annotated[list[Text], Field(min_length=1, description="Of OpenModelDB.")] = ["general-upscaler"]
    base_model: Annotated[str, Field(description="What it was trained from: its id on Hugging Face.")] = ""
    url_base: Annotated[str, Field(description="The address at which the folder will be found.")] = ""


class Recipe(_Table):
    """From a checkpoint to proved files, a report and a release. Paths are relative to the current folder."""

    checkpoint: Annotated[Text, Field(description="A checkpoint, or neosr's folder experiments/<name>.")]
    output: Annotated[Text, Field(description="Folder for everything that is made.")]
    name: Annotated[str, Field(description="Of the files, without scale; the checkpoint's by default.")] = ""
    images: Annotated[str, Field(description="Your own photos for the proof; the packaged ones by default.")] = ""
    param_key: Annotated[Text, Field(description="Which weights in the file: params_ema, params ...")] = "auto"
    opt: Annotated[str, Field(description="The neosr options file of the training, for img_range.")] = ""
    img_range: Annotated[float, Field(gt=0, description="The network's img_range; overrides opt.")] | None = None
    fuse: Annotated[list[FusedSuffix], Field(description="Fused checkpoints to write.")] = ["pth"]
    # `validate` is a method of every model.
    validation: Annotated[Validate | None, Field(alias="validate")] = None
    export: list[Export] = []
    limits: Annotated[dict[Precision, Limits], Field(description="A table for each precision.")] = {}
    report: Report | None = None
    release: ReleaseTable | None = None


def schema() -> dict[str, Any]:
    """The JSON schema of recipes, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


def read_recipe(path: Path) -> Recipe:
    """Reads a recipe.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or holds what a recipe may not; an unknown key names the
            nearest known one.
    """
    values = read_toml(path)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"{path}: {_explain(first['loc'], first['type'], first['msg'])}") from error


def _explain(place: tuple[int | str, ...], kind: str, message: str) -> str:
    shown = ".".join(str(part + 1) if isinstance(part, int) else part for part in place)
    if kind == "extra_forbidden":
        known = _keys_at(place[:-1])
        nearest = difflib.get_close_matches(str(place[-1]).replace("-", "_"), known, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
        return f"unknown key {shown!r}; {hint}"
    if kind == "missing":
        return f"{shown} is missing; a recipe needs it"
    return f"{shown}: {message.removeprefix('Value error, ')}"


def _keys_at(place: tuple[int | str, ...]) -> list[str]:
    """The keys of the table at a place of a recipe."""
    tables: dict[str, type[BaseModel]] = {
        "validate": Validate,
        "export": Export,
        "limits": Limits,
        "report": Report,
        "release": ReleaseTable,
    }
    table = tables[str(place[0])] if place else Recipe
    return [field.alias or name for name, field in table.model_fields.items()]
