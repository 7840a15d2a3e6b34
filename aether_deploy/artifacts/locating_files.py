"""Two files as a pair of graphs, for `locate`: checkpoints are exported in the other one's form."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aether_deploy.arrays import Array
from aether_deploy.artifacts.formats import KnownFile
from aether_deploy.artifacts.opening import known_file, open_known
from aether_deploy.engines.gpus import read_driver
from aether_deploy.errors import ExportError, RunnerError
from aether_deploy.graphs.opsets import OPSETS
from aether_deploy.graphs.sites import sites_of
from aether_deploy.locating.location import Location, locate
from aether_deploy.locating.pair import Pair
from aether_deploy.locating.reduction import Reduced, reduce
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.fusion import fuse_network
from aether_deploy.precisions.choices import MIRROR, POLICIES
from aether_deploy.precisions.forms import conversions, fp32_model
from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.cases import parity_cases
from aether_deploy.proof.photos import parity_photos
from aether_deploy.runners.devices import device_of
from aether_deploy.runners.onnx_reading import network_of, read_onnx
from aether_deploy.runners.rounded import graph_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from aether_deploy.arrays import Shape
    from aether_deploy.network.checkpoint import Checkpoint
    from aether_deploy.network.family import NetworkSpec

__all__ = ["Located", "locate_files", "locate_made"]

# (H, W) of the inputs: enough pixels for a kernel of 25x25, few enough to keep all results of 2,000 operators.
_SIZE = (32, 48)
# Of a file that was just made, where nobody asked for more.
_SMALL = (16, 24)
# Up to so many sites, those of aether_medium, their shares are found too: seconds, a run of the network for each.
_FEW_SITES = 450


@dataclass(frozen=True, slots=True)
class Located:
    """What `locate_files` found.

    Attributes:
        location: see `Location`.
        reduced: what was written for a bug report; None if it was not asked for, or nothing differs.
    """

    location: Location
    reduced: Reduced | None


def locate_files(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    device: str | None = None,
    images: str | os.PathLike[str] | None = None,
    trust: bool = False,
    shares: bool = True,
    reduced: str | os.PathLike[str] | None = None,
) -> Located:
    """Where two files of one network differ.

    Args:
        a: the reference, a checkpoint or an ONNX file.
        b: the candidate, likewise.
        device: that the candidate runs on; by default the CPU, where half precision is executed as its types say.
        images: a folder of photos, of which the first is taken; by default a packaged one.
        trust: open files that their manifests do not describe.
        shares: see `location.locate`.
        reduced: an ONNX file to write, see `reduction.reduce`.
    Raises:
        RunnerError: a file that has no layers to look into, or both have none in common by name.
        AetherDeployError: see `known_file` and `fp32_model`.
    """
    chosen = device_of(device)
    if chosen.nvidia:
        read_driver().require(chosen.index, f"--device {chosen}")
    files = [known_file(path, trust=trust) for path in (a, b)]
    for file in files:
        if not file.format.shows_layers:
            raise RunnerError(f"{file.path}: shows no layers; give checkpoints or ONNX files")
    graphs = [None if file.format.kind == "checkpoint" else _graph(file, trust=trust) for file in files]
    form = next((graph for graph in reversed(graphs) if graph is not None), None)
    variant = Variant() if form is None else _variant(form)
    loaded = [load_checkpoint(file.path) if graph is None else None for file, graph in zip(files, graphs, strict=True)]
    exact = _exported(loaded[0], variant) if loaded[0] is not None else graphs[0]
    assert exact is not None  # one or the other
    spec = next((item.spec.as_fused() for item in loaded if item is not None), None) or _spec_of(form)
    made = _exported(loaded[1], variant) if loaded[1] is not None else graphs[1]
    assert made is not None
    pair = Pair(
        (files[0].path.name, files[1].path.name),
        exact,
        made,
        None if spec is None else _right(exact, spec, made),
        _variant(made).precision,
        chosen,
        loaded[0],
        _variant(exact).precision,
    )
    inputs = _inputs(pair, spec, images, _SIZE)
    location = locate(pair, inputs, shares=shares)
    written = None
    if reduced is not None and location.first is not None:
        written = reduce(pair, location.first, inputs, Path(reduced))
    return Located(location, written)


def locate_made(trained: Checkpoint, exact: ir.Model, made: Path, images: str | os.PathLike[str] | None) -> Location:
    """Where a file that was just made differs from the network as it was trained; see `locate_files`.

    Args:
        trained: the network.
        exact: the graph in fp32 that the file was made from.
        made: the ONNX file, which need not have a manifest yet.
        images: see `locate_files`.
    """
    graph = graph_of(read_onnx(made), made)
    spec = trained.spec.as_fused()
    pair = Pair(
        (trained.path.name, made.name),
        exact,
        graph,
        _right(exact, spec, graph),
        _variant(graph).precision,
        trained=trained,
    )
    inputs = dict(list(_inputs(pair, spec, images, _SMALL).items())[:1])
    return locate(pair, inputs, shares=len(sites_of(exact)) <= _FEW_SITES)


def _graph(file: KnownFile, *, trust: bool) -> ir.Model:
    # A stranger's file may be anything: opened as `parity` does, it is image to image and runs.
    open_known(file, trust=trust, faithful=True).close()
    return graph_of(read_onnx(file.path), file.path)


def _spec_of(model: ir.Model | None) -> NetworkSpec | None:
    return None if model is None else network_of(model.metadata_props)


def _variant(model: ir.Model) -> Variant:
    """The form of a file, as its metadata and its graph say; of a file without metadata the plainest."""
    said = {key: model.metadata_props.get(f"aether_deploy.{key}", "") for key in ("precision", "io", "ffn", "pad")}
    try:
        islands = json.loads(model.metadata_props.get("aether_deploy.fp32_islands", "{}")).get("policy")
    except (ValueError, AttributeError):
        islands = None
    opset = model.graph.opset_imports.get("", 0)
    return Variant(
        precision=said["precision"] if said["precision"] in PRECISIONS else "fp32",
        io=said["io"] or "fp32",
        islands=islands if islands in POLICIES else "default",
        ffn=said["ffn"] or "linear",
        opset=opset if opset in OPSETS else 0,
        static=_static(model),
        pad=said["pad"] == MIRROR,
    )


def _static(model: ir.Model) -> Shape | None:
    dims = [dim for dim in model.graph.inputs[0].shape or () if isinstance(dim, int)]
    return (dims[0], dims[1], dims[2], dims[3]) if len(dims) == 4 else None


def _exported(checkpoint: Checkpoint, variant: Variant) -> ir.Model:
    return fp32_model(fuse_network(checkpoint.build(), checkpoint.spec), checkpoint.spec.as_fused(), variant)


def _right(exact: ir.Model, spec: NetworkSpec, made: ir.Model) -> ir.Model | None:
    """What the second form should be, made from the first; None where that takes measuring, or cannot be done."""
    variant = _variant(made)
    if _variant(exact).precision != "fp32" or variant.row.quantizes:
        return None
    if not variant.row.half:
        return exact
    try:
        return next(conversions(exact, spec, variant)).model
    except ExportError:
        return None


def _inputs(
    pair: Pair, spec: NetworkSpec | None, images: str | os.PathLike[str] | None, size: tuple[int, int]
) -> Mapping[str, Array]:
    """A photo and noise, of a size that the network takes."""
    static = _static(pair.made) or _static(pair.exact)
    photos = parity_photos(images)[:1]
    shape = static
    if shape is None:
        size = size if spec is None else spec.sizes.fit(*size)
        dims = pair.made.graph.inputs[0].shape
        channels = dims[1] if dims is not None and isinstance(dims[1], int) else 3
        shape = (1, channels, *size)
    cases = parity_cases(photos, static=shape, in_chans=shape[1])
    return {str(case): case.lr for case in cases if case.name in (photos[0][0], "noise")}
