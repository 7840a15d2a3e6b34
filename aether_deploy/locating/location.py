"""Where two forms of one network differ.

Each site of the second form is computed from the exact values that the first one has there: its error alone, not what
came before. A layer differs where that is more than its precision explains, which is known exactly if the second form
can be made again as it should be: then nothing but the order of sums is left.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from aether_deploy.arrays import Array, finite
from aether_deploy.errors import RunnerError
from aether_deploy.graphs.layer_names import layer_of
from aether_deploy.graphs.sites import Site, given, read, shifted, sites_of
from aether_deploy.locating.as_written import difference
from aether_deploy.locating.pair import Pair, relative, session_of
from aether_deploy.locating.trained import Layers
from aether_deploy.precisions.table import PRECISIONS
from aether_deploy.runners.devices import CPU
from aether_deploy.runners.onnx_runtime import GraphSession

__all__ = ["Difference", "LayerError", "Location", "locate"]

logger = logging.getLogger(__name__)

# A layer of the exported graph against the trained one's, both with what all layers before it erred in float32.
_OF_EXPORT = 5e-5


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place that differs by more than its precision explains.

    Attributes:
        layer, op: see `Site`.
        site: name of the tensor.
        error: largest difference as a share of the largest value there.
        what: what is written differently, or how else it differs.
    """

    layer: str
    op: str
    site: str
    error: float
    what: str

    def __str__(self) -> str:
        """`layers.1.2.norm (LayerNormalization, epsilon 1e-05, 1e-06 expected)`."""
        return f"{self.layer} ({self.op}{', ' if self.what else ''}{self.what})"


@dataclass(frozen=True, slots=True)
class LayerError:
    """The error of one layer; of several sites in it the worst.

    Attributes:
        layer: its name.
        op: type of the operator that errs most.
        alone: largest error from exact inputs, as a share of the layer's largest value.
        so_far: likewise, with what all layers before it erred.
        share: of the squared error of the picture that this layer alone causes, 0 to 1; None if not asked for.
    """

    layer: str
    op: str
    alone: float
    so_far: float
    share: float | None


@dataclass(frozen=True, slots=True)
class Location:
    """What was found.

    Attributes:
        names: of both forms, for people.
        runs_as: how the second one ran.
        inputs: names of the pictures.
        first: None if no layer differs by more than its precision explains.
        layers: in the order of execution.
    """

    names: tuple[str, str]
    runs_as: str
    inputs: tuple[str, ...]
    first: Difference | None
    layers: tuple[LayerError, ...]

    @property
    def verdict(self) -> str:
        """One line: what differs first, or which layer costs most."""
        if self.first is not None:
            return f"first differs: {self.first}"
        costly = max(self.layers, key=lambda layer: layer.share or 0.0, default=None)
        most = f"; {costly.layer} causes {costly.share:.0%} of the error" if costly and costly.share else ""
        return f"no layer differs by more than its precision explains{most}"

    def most(self, count: int) -> list[LayerError]:
        """The layers that cost most, or err most where shares were not asked for, in the order of execution."""
        costly = sorted(self.layers, key=lambda row: (row.alone if row.share is None else row.share, row.alone))[
            -count:
        ]
        return [row for row in self.layers if row in costly]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        first = None if self.first is None else finite(asdict(self.first))
        layers = [finite(asdict(layer)) for layer in self.layers]
        return {"runs_as": self.runs_as, "inputs": list(self.inputs), "first": first, "layers": layers}


def locate(pair: Pair, inputs: Mapping[str, Array], *, shares: bool = True) -> Location:
    """Finds the first difference, and what each layer errs.

    Args:
        pair: both forms.
        inputs: name -> (N, C, H, W), values about [0, 1].
        shares: find each layer's share too, which takes a run of the network for each of its sites; needs a first form
            in fp32.
    Raises:
        RunnerError: both forms have no layers in common by name, or one of them cannot be run.
    """
    sites = _common(pair)
    names = [site.name for site in sites]
    shares = shares and pair.reference == "fp32"
    first: Difference | None = None
    alone, so_far, share = (dict.fromkeys(names, 0.0) for _ in range(3))
    exact = session_of(read(pair.exact, names), PRECISIONS[pair.reference], CPU)
    made = _session(pair, read(pair.made, names))
    given_made = _session(pair, given(pair.made, names))
    given_right = None if pair.right is None else _session(pair, given(pair.right, names))
    shift = GraphSession(shifted(pair.exact, names)) if shares else None
    looked_into: list[tuple[Mapping[str, Array], Array]] = []
    for name, lr in inputs.items():
        logger.info("each layer of %s on %s", pair.names[1], name)
        start = {pair.exact.graph.inputs[0].name or "": lr, pair.made.graph.inputs[0].name or "": lr}
        values = exact.run(start)
        if first is None and pair.trained is not None:
            first = _against_trained(pair, sites, values, lr)
        feeds = start | {f"{tensor}_given": value for tensor, value in values.items()}
        single, right = given_made.run(feeds), None if given_right is None else given_right.run(feeds)
        whole = made.run(start)
        looked_into.append((start, whole[names[-1]]))
        for site in sites:
            expected = values[site.name]
            error = single[site.name] - expected
            alone[site.name] = max(alone[site.name], relative(error, expected))
            so_far[site.name] = max(so_far[site.name], relative(whole[site.name] - expected, expected))
            wanted = expected if right is None else right[site.name]
            off = relative(single[site.name] - wanted, wanted)
            if first is None and off > _explained(pair, known=right is not None):
                first = _difference(pair, site, off, names)
        if shift is not None:
            for tensor, squared in _caused(shift, sites, start, values, single).items():
                share[tensor] += squared
    if first is None:
        first = _optimized(pair, sites[-1], looked_into)
    return Location(pair.names, pair.runs_as, tuple(inputs), first, _layers(sites, alone, so_far, share, shares))


def _common(pair: Pair) -> list[Site]:
    """The sites that both have. Of norms in front of 8-bit layers the scale is another one, and of what reads them."""
    there = {site.name for site in sites_of(pair.made)}
    changed = _behind_norms(pair) if pair.row.quantizes else set()
    sites = [site for site in sites_of(pair.exact) if site.name in there and site.name not in changed]
    if len(sites) < 2:
        raise RunnerError(
            f"{pair.names[0]} and {pair.names[1]} have no layers in common by name; export both with one version"
        )
    return sites


def _behind_norms(pair: Pair) -> set[str]:
    found = set()
    for node in pair.exact.graph:
        if node.op_type == "LayerNormalization":
            found.add(str(node.outputs[0].name))
            for use in node.outputs[0].uses():
                found |= {str(value.name) for value in use.node.outputs if use.node.op_type == "MatMul"}
    return found


def _session(pair: Pair, model: Any) -> GraphSession:
    return session_of(model, pair.row, pair.device)


def _explained(pair: Pair, *, known: bool) -> float:
    """Largest difference that needs no explanation, as a share of the largest value of a layer.

    Where what is right was executed too, both sum in the same order on the CPU, and are equal; elsewhere a sum in
    another order may round the other way. Otherwise a few roundings of the type, measured on right files.
    """
    step = pair.step
    if not known:
        return max(1e-5, 8 * step)
    return 1e-5 if pair.device == CPU else max(1e-4, 4 * step)


def _difference(pair: Pair, site: Site, error: float, names: Sequence[str]) -> Difference:
    if pair.right is None:
        return Difference(site.layer, site.op, site.name, error, "")
    found = difference(pair.right, pair.made, site.name, names)
    if found is None:
        return Difference(site.layer, site.op, site.name, error, "written alike, computed otherwise")
    # What moves or converts values for a site may be another layer's.
    node, what = found
    layer = "" if node.op_type == "Cast" else layer_of(node)
    return Difference(layer or site.layer, node.op_type, site.name, error, what)


def _against_trained(pair: Pair, sites: Sequence[Site], values: Mapping[str, Array], lr: Array) -> Difference | None:
    """The first layer of the graph that was exported which is not that of the network as it was trained."""
    assert pair.trained is not None  # the caller's part
    layers = Layers(pair.trained, lr)
    picture = values[sites[-1].name]
    # Within fp32's own limit nothing is wrong, whatever float32 sums up to in between.
    if picture.shape == layers.output.shape:
        size = max(1.0, float(np.abs(layers.output).max()) / 2)
        if float(np.abs(picture - layers.output).max()) <= size * PRECISIONS["fp32"].tolerance.max_abs:
            return None
    shapes = {name: value.shape for name, value in values.items()}
    nodes = {value.name: node for node in pair.exact.graph for value in node.outputs}
    for site, expected in layers.expected(sites, pair.exact.graph, shapes):
        off = relative(values[site.name] - expected, expected)
        if off > _OF_EXPORT:
            node, module = nodes.get(site.name), layers.modules.get(site.layer)
            epsilon = None if node is None else node.attributes.get_float("epsilon", 0.0)
            own = getattr(module, "eps", None)
            what = "not what was trained"
            if epsilon and own and not np.isclose(epsilon, own, rtol=1e-3):
                what = f"epsilon {epsilon:.1g}, {own:.1g} expected"
            return Difference(site.layer, site.op, site.name, off, what)
    return None


def _optimized(pair: Pair, last: Site, looked_into: Sequence[tuple[Mapping[str, Array], Array]]) -> Difference | None:
    """What shows only in the whole graph: an operator that the runtime puts in place of several.

    Args:
        pair: both forms.
        last: the picture.
        looked_into: inputs, and the picture where every layer between was asked for.
    """
    if pair.device == CPU and pair.row.half:
        return None  # not optimized
    whole = _session(pair, pair.made)
    for start, expected in looked_into:
        off = relative(whole.run(start)[last.name] - expected, expected)
        if off > max(1e-4, 16 * pair.step):
            what = "only in the whole graph: an operator that the runtime puts in place of several"
            return Difference(last.layer, last.op, last.name, off, what)
    return None


def _caused(
    shift: GraphSession,
    sites: Sequence[Site],
    start: Mapping[str, Array],
    values: Mapping[str, Array],
    single: Mapping[str, Array],
) -> dict[str, float]:
    """Mean squared error of the picture if one site alone errs, the rest being exact."""
    last = sites[-1].name
    nothing = {f"{site.name}_shift": np.zeros(1, np.float32) for site in sites[:-1]}
    exact = shift.run({**start, **nothing})[last].astype(np.float64)
    found = {last: float(np.mean((single[last].astype(np.float64) - values[last]) ** 2))}
    for number, site in enumerate(sites[:-1], start=1):
        logger.info("what each layer causes %d/%d: %s", number, len(sites), site.layer)
        error = single[site.name] - values[site.name]
        if not error.any():
            continue
        image = shift.run({**start, **nothing, f"{site.name}_shift": error})[last]
        found[site.name] = float(np.mean((image - exact) ** 2))
    return found


def _layers(
    sites: Sequence[Site], alone: dict[str, float], so_far: dict[str, float], share: dict[str, float], shares: bool
) -> tuple[LayerError, ...]:
    """One row for each layer, of its worst site."""
    total = sum(value for value in share.values() if np.isfinite(value)) or 1.0
    found: dict[str, list[Site]] = {}
    for site in sites:
        found.setdefault(site.layer, []).append(site)
    return tuple(
        LayerError(
            layer,
            max(own, key=lambda site: alone[site.name]).op,
            max(alone[site.name] for site in own),
            so_far[own[-1].name],
            sum(share[site.name] for site in own) / total if shares else None,
        )
        for layer, own in found.items()
    )
