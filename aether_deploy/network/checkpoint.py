"""A file as neosr (or another trainer) wrote it -> canonical state dict, `NetworkSpec` and sha256."""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from aether_deploy.errors import CheckpointError, ConfigError
from aether_deploy.files import read_toml, sha256_of
from aether_deploy.network.experiment import newest_checkpoint
from aether_deploy.network.families import family_of, recognise, spec_from_dict
from aether_deploy.network.family import NetworkSpec
from aether_deploy.network.guarded_reading import read_contents
from aether_deploy.network.weights import building_limit, canonical_names, finite_float32, require_dense, shown_keys

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Checkpoint", "load_checkpoint", "network_metadata", "read_neosr_options"]

logger = logging.getLogger(__name__)

# Keys around the weights: neosr's own, in its order, then other trainers'; a bare state dict comes last.
PARAM_KEYS = ("params-ema", "params_ema", "params", "params_g", "net_g", "state_dict")
BARE = "(bare)"
# In the metadata of a .safetensors file: the network, as `spec_from_dict` reads it.
_STATED = "aether_deploy.network"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint, fully read.

    Attributes:
        path: the file; for an experiment's folder, the file that was taken.
        sha256: of the file, hexadecimal.
        param_key: the key that the weights were below, or `(bare)`.
        dtype: of the weights in the file, `float32` or another; `state_dict` is float32.
        spec: the network.
        state_dict: canonical keys, contiguous float32 tensors on the CPU, all finite.
    """

    path: Path
    sha256: str
    param_key: str
    dtype: str
    spec: NetworkSpec
    state_dict: dict[str, Tensor]

    def build(self) -> nn.Module:
        """The network with these weights, loaded strictly, in eval mode."""
        network = self.spec.build()
        network.load_state_dict(self.state_dict, strict=True)
        return network

    @property
    def name(self) -> str:
        """The model's name without scale and `_fused`; for neosr's `net_g_*`, the experiment's name."""
        stem = self.path.stem
        if re.fullmatch(r"net_g_\w+", stem) and self.path.parent.name == "models":
            stem = self.path.resolve().parents[1].name
        return re.sub(r"_fused$", "", re.sub(r"^\d+x[_-]", "", stem)) or stem


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    param_key: str = "auto",
    img_range: float | None = None,
    options: Path | None = None,
    sha256: str | None = None,
) -> Checkpoint:
    """Reads a .pth (tensors only, never code) or .safetensors file, or neosr's `experiments/<name>` folder.

    Args:
        path: file or folder.
        param_key: the key of the weights; `auto` takes the first of `PARAM_KEYS` in the file.
        img_range: above 0; the weights do not show it. It overrides `options`; 1.0 if neither gives it.
        options: the neosr options file (TOML) of the training, for `img_range`.
        sha256: of the file, if already known.
    Raises:
        CheckpointError: the file cannot be read, is another network, or holds NaN or infinity.
        ConfigError: `options` cannot be read or contradicts the weights, or `img_range` is not a number above 0.
    """
    path = Path(path)
    if path.is_dir():
        path = newest_checkpoint(path)
    contents, size = read_contents(path)
    try:
        taken, wrapped = _unwrap(contents, param_key)
        named = canonical_names(wrapped)
        # Before the weights are checked: another network is best refused by its name.
        family = recognise(named)
        dense, dtype = require_dense(named, size, counts=family.counts)
        known = _stated_network(path)
        spec, weights = family.read(dense) if known is None else (known, _of_network(dense, known))
        state_dict = finite_float32(weights)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if options is not None:
        stated = read_neosr_options(options)
        spec.check_options(stated, options)
        img_range = img_range if img_range is not None else stated["network_g"].get("img_range")
    if img_range is not None:
        if isinstance(img_range, bool) or not isinstance(img_range, int | float) or not 0 < img_range < 1e30:
            raise ConfigError(f"img_range is {img_range!r}; expected a number above 0, at most 1e30")
        spec = spec.with_img_range(float(img_range))
    return Checkpoint(path, sha256 or sha256_of(path), taken, dtype, spec, state_dict)


def network_metadata(spec: NetworkSpec) -> dict[str, str]:
    """What a .safetensors file says of a network that its weights do not show, so that it can be loaded again."""
    return {_STATED: json.dumps(spec.as_dict(), sort_keys=True)}


def _stated_network(path: Path) -> NetworkSpec | None:
    """The network that a .safetensors file says it holds; raises CheckpointError if there is none such."""
    if path.suffix != ".safetensors":
        return None
    # Its header alone; safetensors has opened the whole file before, but opens no path that is no UTF-8.
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    text = header.get("__metadata__", {}).get(_STATED)
    if text is None:
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError("what it says of its network is no JSON; copy it again from its source") from error
    if not isinstance(values, dict):
        raise CheckpointError("what it says of its network is no description; copy it again from its source")
    spec = spec_from_dict(values)
    # What weights show is read from them, whatever else is said.
    return None if family_of(spec).shown_by_weights else spec


def _of_network(dense: dict[str, Tensor], spec: NetworkSpec) -> dict[str, Tensor]:
    """The same tensors; raises CheckpointError unless they are those of the network."""
    with building_limit(dense.values()):
        network = spec.build()
    have, want = ({key: list(value.shape) for key, value in held.items()} for held in (dense, network.state_dict()))
    for key in sorted(have.keys() | want.keys()):
        if have.get(key) != want.get(key):
            seen, expected = (shapes.get(key, "missing") for shapes in (have, want))
            raise CheckpointError(f"{key} is {seen}, but {expected} in the network that the file names")
    return dense


def read_neosr_options(path: Path) -> dict[str, Any]:
    """Reads a neosr options file; only TOML, as neosr itself.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or has no [network_g].
    """
    options = read_toml(path)
    if not isinstance(options.get("network_g"), dict):
        raise ConfigError(f"{path}: no [network_g] table; give the options file that neosr trained with")
    return options


def _unwrap(contents: Any, param_key: str) -> tuple[str, dict[Any, Any]]:
    # dict's own methods: a pickle can give an OrderedDict attributes, `items` too.
    if not isinstance(contents, dict):
        raise CheckpointError(f"holds a {type(contents).__name__}, expected a dict of tensors")
    wrappers = {key: value for key, value in dict.items(contents) if isinstance(key, str) and isinstance(value, dict)}
    if param_key != "auto":
        if param_key not in wrappers:
            available = shown_keys(wrappers) or "none, the weights are bare"
            raise CheckpointError(f"no param_key {param_key!r}; available: {available}")
        return param_key, wrappers[param_key]
    for key in PARAM_KEYS:
        if key in wrappers:
            return key, wrappers[key]
    if any(isinstance(value, Tensor) for value in dict.values(contents)):
        return BARE, contents
    shown = shown_keys(contents) or "none"
    raise CheckpointError(f"no weights below {', '.join(PARAM_KEYS)}, nor bare ones; its keys: {shown}")
