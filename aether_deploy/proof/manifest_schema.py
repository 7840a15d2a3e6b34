"""What a manifest file may hold, field by field; everything else is refused before anything uses it.

Imported only when a manifest is read, since pydantic takes a tenth of a second.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, ValidationError

from aether_deploy.errors import ManifestError

__all__ = ["parse_manifest"]

Text = Annotated[str, StringConstraints(max_length=4096)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Size = Annotated[int, Field(ge=1, lt=2**31)]
# None stands for NaN and Infinity, which JSON does not have.
Figure = FiniteFloat | None
Sizes = Annotated[list[Size], Field(min_length=4, max_length=4)]
Named = Annotated[list[Text | Size], Field(min_length=4, max_length=4)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)


class _Artifact(_Strict):
    file: Text
    sha256: Sha256
    bytes: Count
    kind: Text


class _Source(_Strict):
    file: Text
    sha256: Sha256
    param_key: Text
    form: Text


class _Figures(_Strict):
    max_abs: Figure
    mean_abs: Figure
    psnr: Figure
    max_level: Count
    levels_share: Figure
    nan: Count
    inf: Count


class _Case(_Figures):
    case: Text
    failure: Text
    # Absent from manifests of 0.1.0.
    allowed: Figure = None


class _Parity(_Strict):
    gate: Text
    passed: bool
    tolerance: dict[Text, FiniteFloat | bool]
    worst: Text
    figures: _Figures
    cases: list[_Case]


class _Summary(_Strict):
    passed: bool
    worst: Text
    figures: _Figures


class _Tried(_Summary):
    policy: Text
    casts: Count


class _Islands(_Strict):
    asked: Text
    policy: Text
    ops: dict[Text, Count]
    casts: Count
    measured: list[_Tried] = []
    before_rounding: _Summary | None = None


class _Weights(_Strict):
    rounded: Count
    overflow: Count
    underflow: Count
    largest: Figure
    worst: Text


class _Activations(_Strict):
    limit: Figure
    largest: Figure
    at: Text
    operators: dict[Text, Figure]
    ops: dict[Text, Figure]
    headroom: Figure


class _Layers(_Strict):
    layers: list[Text]
    share: Figure
    eight_bits: bool


class _GroundTruth(_Strict):
    photo: Text
    psnr: Figure
    lost: Figure


class _Quantization(_Strict):
    calibration: Text
    layers: list[_Layers]
    ground_truth: list[_GroundTruth]
    executions: dict[Text, _Summary]
    clipped: dict[Text, Count] = {}


class _DynamicShapes(_Strict):
    input: Named
    output: Named


class _Range(_Strict):
    min: Sizes
    opt: Sizes
    max: Sizes


class _Profile(_Range):
    activation_bytes: dict[Text, Count]


class _End(_Strict):
    name: Text
    dtype: Text
    shape: list[Annotated[int, Field(ge=-1, lt=2**31)]]


class _EngineNetwork(_Strict):
    inputs: list[_End]
    outputs: list[_End]
    layers: Count
    types: dict[Text, Count]
    strongly_typed: bool


class _Header(_Strict):
    magic: Text
    version: Text
    bytes: Count
    compute_capabilities: list[Text]


class _BuiltFrom(_Artifact):
    parity: _Parity


class _Device(_Strict):
    gpu: Text
    compute_capability: Text
    cuda: Text


class _Latency(_Strict):
    shape: list[Size]
    runs: Count
    median_ms: Figure
    p99_ms: Figure


class _Engine(_Strict):
    flavour: Text
    version: Text
    compute_capabilities: list[Text]
    profiles: Annotated[list[_Profile], Field(min_length=1)]
    workspace: Count | None
    build_seconds: FiniteFloat
    network: _EngineNetwork
    header: _Header
    onnx: _BuiltFrom
    executed: bool = False
    device: _Device | None = None
    latency: list[_Latency] | None = None
    device_memory: list[Count] | None = None


class _Manifest(_Strict):
    schema_: Annotated[int, Field(alias="schema")]
    artifact: _Artifact
    source: _Source
    network: dict[Text, Any]
    parity: _Parity | None = None
    precision: Text
    io: Text = "fp32"
    ffn: Text = "linear"
    pad: Text = ""
    opset: Count = 0
    shapes: _DynamicShapes | _Range | None = None
    fp32_islands: _Islands | None = None
    weights: _Weights | None = None
    activations: _Activations | None = None
    quantization: _Quantization | None = None
    engine: _Engine | None = None
    tools: dict[Text, Text] = {}
    created: Text = ""


def parse_manifest(text: str | bytes) -> dict[str, Any]:
    """The values of a manifest file, every field checked.

    Raises:
        ManifestError: no JSON, or a field that is missing, surplus, of a wrong type or out of range: the first.
    """
    try:
        return _Manifest.model_validate_json(text).model_dump(by_alias=True, exclude_unset=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ManifestError(f"{place}: {first['msg']}") from error
