"""Checkpoints from strangers: what they claim is refused before it is done, and what was changed is found."""

from __future__ import annotations

import os
import random
import resource
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from aether_deploy.errors import CheckpointError
from aether_deploy.memory_limit import memory_limit
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.families import spec_from_dict
from tests.helpers.commands import Ran, error_line
from tests.helpers.memory import memory_below
from tests.helpers.networks import SAMPLE, save, tiny

_MIB = 1 << 20
_LEGACY = {"_use_new_zipfile_serialization": False}


def _with(**weights: Any) -> Callable[[Path], None]:
    """Writes a tiny network with some weights changed or added; `__` stands for a dot."""
    changed = {key.replace("__", "."): value for key, value in weights.items()}
    return lambda path: torch.save({"params": {**tiny().state_dict(), **changed}}, path)


def _pickled(opcodes: bytes) -> Callable[[Path], None]:
    """Writes a zip as torch does, with this pickle."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("net/data.pkl", b"\x80\x02" + opcodes)
            archive.writestr("net/version", "3")

    return write


def _compressed(path: Path) -> None:
    whole = save(tiny(), path.with_name("whole.pth"))
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))


def _many(path: Path) -> None:
    """Tensors of one storage: 100000 of them have 4 MB and took 25 s."""
    shared = torch.zeros(1)
    torch.save({f"layers.{number}.0.x": shared.view(1) for number in range(25_000)}, path, **_LEGACY)


def _doubled(levels: int) -> bytes:
    """A key that is a tuple of the same tuple twice, and so on."""
    steps = (bytes([ord("h"), level, ord("h"), level, 0x86, ord("q"), level + 1]) for level in range(levels))
    return b"}K\x01\x85q\x00" + b"".join(steps) + b"K\x01s."


_ORDERED = b"ccollections\nOrderedDict\n"
_ONE = torch.zeros(1)
_EIGHT_GIB = (8 << 30).to_bytes(5, "little")

CRAFTED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "expanded": (_with(conv_first__weight=torch.zeros(1).expand(1_000_000, 3, 3, 256)), "expanded or shared"),
    "expanded beside": (_with(x=torch.zeros(1).expand(100_000, 100_000)), "expanded or shared"),
    "bytearray": (
        lambda path: path.write_bytes(b"\x80\x02cbuiltins\nbytearray\n(\x8a\x05" + _EIGHT_GIB + b"tR."),
        "bytearray",
    ),
    "memory as it is": (_pickled(b"ctorch\nFloatTensor\n(\x8a\x05" + _EIGHT_GIB + b"tR."), "FloatTensor"),
    "compressed": (_compressed, "its zip is compressed"),
    "many tensors": (_many, "more than 20000 tensors"),
    "many blocks": (_with(**{f"layers.{n}.0.x": _ONE for n in range(2, 9999)}), "depths of the network"),
    "doubled tuples": (_pickled(_doubled(60)), "tuples again"),
    "long number": (_with(**{f"layers.{'1' * 5000}.0.x": torch.zeros(1)}), "one of its keys is 'layers.111"),
    "number": (_with(**{f"layers.{'1' * 100}.0.x": torch.zeros(1)}), "not part of the network"),
    "no channels": (_with(conv_first__weight=torch.zeros(0, 3, 3, 3)), "embed_dim of the network is 0"),
    "many scales": (
        lambda path: torch.save(
            {**tiny().state_dict(), **{f"upsample.{n}.weight": torch.zeros(256, 64, 3, 3) for n in range(5)}}, path
        ),
        "scale of the network is 32; allowed: 1, 2, 3, 4, 8",
    ),
    "sparse": (_with(norm__weight=torch.ones(12).to_sparse()), "_rebuild_sparse_tensor"),
    "meta": (_with(norm__weight=torch.ones(12, device="meta")), "_rebuild_meta_tensor"),
    "float8": (_with(norm__weight=torch.ones(12).to(torch.float8_e5m2)), "_rebuild_tensor_v3"),
    "complex": (_with(norm__weight=torch.ones(12, dtype=torch.complex64)), "complex64; expected floating-point"),
    "number as a key": (lambda path: torch.save({3: torch.ones(1)}, path), "of type int"),
    "control characters": (_with(**{"a\x1b[31m\nb": torch.ones(1)}), r"'a\x1b[31m\nb'"),
    "half a character": (_with(**{"a\udc80": torch.ones(1)}), r"'a\udc80'"),
    "a list as a key": (_pickled(b"}]K\x01s."), "damaged or cut off"),
    "attributes of a dict": (
        _pickled(_ORDERED + b")R}X\x05\x00\x00\x00itemsK\x01sb."),
        "no weights below",
    ),
    "another protocol": (_pickled(b"\x80\x03}."), "its keys: none"),
    "nested": (_pickled(b"(" * 200_000 + b"t" * 200_000 + b"."), "holds a tuple"),
}


@pytest.mark.parametrize("what", CRAFTED)
def test_a_crafted_checkpoint_is_one_line(
    tmp_path: Path, call: Callable[..., Ran], capfd: pytest.CaptureFixture[str], what: str
) -> None:
    make, says = CRAFTED[what]
    path = tmp_path / "net.pth"
    make(path)
    began = time.monotonic()
    with memory_below(400), warnings.catch_warnings():
        warnings.simplefilter("error")
        ran = call("inspect", path)
    assert ran.code == 1
    assert says in error_line(ran)
    assert time.monotonic() - began < 5


def test_every_changed_bit_of_the_sample_is_found_or_without_effect(tmp_path: Path) -> None:
    whole, bits = SAMPLE.read_bytes(), random.Random(0)
    trained = load_checkpoint(SAMPLE)
    refused = 0
    for _ in range(40):
        changed = bytearray(whole)
        bit = bits.randrange(8 * len(whole))
        changed[bit // 8] ^= 1 << bit % 8
        (tmp_path / "net.pth").write_bytes(changed)
        try:
            found = load_checkpoint(tmp_path / "net.pth")
        except CheckpointError:
            refused += 1
        else:
            assert all(torch.equal(found.state_dict[key], value) for key, value in trained.state_dict.items())
    assert refused >= 36


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_name_that_is_no_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe")
    path = path.with_name(path.name + suffix)
    written = tmp_path / f"net{suffix}"
    torch.save(tiny().state_dict(), written) if suffix == ".pth" else save_file(tiny().state_dict(), written)
    written.rename(path)
    assert load_checkpoint(path).spec.scale == 2


@pytest.mark.parametrize("extra", [{}, _LEGACY])
def test_what_a_trainer_stores_beside_the_weights(tmp_path: Path, extra: dict[str, Any]) -> None:
    """Optimizer states with shared tuples, parameters, RNG states and buffers of other types."""
    network = tiny()
    optimizer = torch.optim.Adam(network.parameters())
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))], "betas": (0.9, 0.99)})
    rest = {"optimizer": optimizer.state_dict(), "rng": torch.get_rng_state(), "iter": 3, "size": torch.Size([1, 2])}
    weights = dict(network.named_parameters())
    torch.save({"params": weights, **rest}, tmp_path / "net.ckpt", **extra)
    assert load_checkpoint(tmp_path / "net.ckpt").param_key == "params"


class TestMemoryLimit:
    """Linux only, as the limit is."""

    def test_an_allocation_beyond_it_fails(self) -> None:
        with memory_limit(64 * _MIB), pytest.raises(RuntimeError, match="can't allocate memory"):
            torch.zeros(100 * _MIB)
        with memory_limit(64 * _MIB), pytest.raises(MemoryError):
            bytearray(2000 * _MIB)  # more than the process may have freed before, and kept

    def test_it_is_restored(self) -> None:
        before = resource.getrlimit(resource.RLIMIT_DATA)
        with pytest.raises(ValueError, match="x"), memory_limit(64 * _MIB), memory_limit(32 * _MIB):
            assert resource.getrlimit(resource.RLIMIT_DATA) != before
            raise ValueError("x")
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
        assert len(bytearray(100 * _MIB)) == 100 * _MIB


_NO_COUNTS = (None, "2", 2.0, True, 0, -2, 10**6, 10**5000, [2])
FIELDS: list[tuple[str, Any]] = [
    *((name, value) for name in ("scale", "in_chans", "embed_dim", "hidden", "lk_kernel") for value in _NO_COUNTS),
    *(("depths", value) for value in (None, 3, [], [0], ["1"], [10**9], [1] * 2000, [[1]], {"a": 1})),
    *(("img_range", value) for value in (None, "1", True, 0, -1.0, float("nan"), float("inf"), 10**400)),
    *(("variant", value) for value in (None, 3, "", "a\nb", "x" * 1000)),
    *(("fused", value) for value in (None, 1, "true")),
    *(("sk_kernel", value) for value in (2, 99, "3", 3.0, True)),
    ("family", ["aether"]),
    ("family", "x\x1b" * 1000),
]


@pytest.mark.parametrize(("name", "value"), FIELDS, ids=lambda value: type(value).__name__)
def test_a_senseless_network_is_refused(name: str, value: Any) -> None:
    values = {**load_checkpoint(SAMPLE).spec.as_dict(), name: value}
    with pytest.raises(CheckpointError, match=name) as caught:
        spec_from_dict(values)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["variant", "scale", "depths"])
def test_a_field_that_is_missing(name: str) -> None:
    values = load_checkpoint(SAMPLE).spec.as_dict()
    del values[name]
    with pytest.raises(CheckpointError, match=f"has no {name}"):
        spec_from_dict(values)
