"""Checkpoints that are none: changed inside the pickle, the zip's directory, the header, or made of opcodes."""

from __future__ import annotations

import functools
import io
import json
import struct
import zipfile
from random import Random
from typing import Any

import torch
from safetensors.torch import save

from tests.helpers.networks import tiny
from tests.helpers.strange_bytes import INTEGERS, TEXTS, VALUES, changed_bytes

__all__ = ["strange_checkpoint", "whole", "zip_of"]

_GLOBALS = (
    b"collections\nOrderedDict",
    b"collections\nCounter",
    b"torch._utils\n_rebuild_tensor_v2",
    b"torch._utils\n_rebuild_parameter",
    b"torch._utils\n_rebuild_parameter_with_state",
    b"torch._utils\n_rebuild_tensor",
    b"torch._utils\n_rebuild_meta_tensor_no_storage",
    b"torch._utils\n_rebuild_sparse_tensor",
    b"torch\nFloatStorage",
    b"torch\nHalfStorage",
    b"torch\nQInt8Storage",
    b"torch\nSize",
    b"torch\ndevice",
    b"torch\nfloat32",
    b"torch\nFloatTensor",
    b"builtins\nset",
    b"builtins\nbytearray",
    b"_codecs\nencode",
    b"os\nsystem",
)
# Those that torch's `weights_only` knows, without arguments.
_PLAIN = (b"(", b")", b"}", b"]", b"\x8f", b"t", b"\x85", b"\x86", b"\x87", b"N", b"\x88", b"\x89", b"R", b"b", b"\x81")
_MORE = (b"s", b"u", b"a", b"e", b"Q", b".", b"0", b"2", b"\x94", b"\x93", b"\x80\x04")


@functools.cache
def whole() -> dict[str, bytes]:
    """The smallest network in each format: zip, its pickle alone, legacy and safetensors."""
    weights = tiny(embed_dim=4, depths=(1,), lk_kernel=3, sk_kernel=1, scale=1).state_dict()
    found = {"safetensors": save(weights)}
    for name, options in (("zip", {}), ("legacy", {"_use_new_zipfile_serialization": False})):
        file = io.BytesIO()
        torch.save({"params": weights}, file, **options)
        found[name] = file.getvalue()
    with zipfile.ZipFile(io.BytesIO(found["zip"])) as archive:
        found["pickle"] = archive.read("archive/data.pkl")
    return found


def zip_of(pickled: bytes) -> bytes:
    """A zip as torch writes it, with the weights of the smallest network and another pickle; every CRC is right."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole()["zip"])) as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, pickled if entry.filename.endswith("data.pkl") else old.read(entry))
    return file.getvalue()


def strange_checkpoint(random: Random) -> tuple[bytes, str]:
    """(contents, suffix) of a file that is no checkpoint, or hardly one."""
    make = random.choice(
        (_raw_zip, _pickle, _pickle, _pickle, _opcodes, _opcodes, _directory, _legacy, _weights, _weights)
    )
    if random.random() < 0.2:
        return _safetensors(random), ".safetensors"
    return make(random), random.choice((".pth", ".pt", ".ckpt"))


def _raw_zip(random: Random) -> bytes:
    return changed_bytes(whole()["zip"], random)


def _pickle(random: Random) -> bytes:
    pickled = whole()["pickle"]
    if random.random() < 0.5:
        return zip_of(changed_bytes(pickled, random))
    # Where an opcode begins, another program.
    at = random.randrange(len(pickled))
    return zip_of(pickled[:at] + _program(random, random.randint(1, 6)) + pickled[at + random.randint(0, 4) :])


def _opcodes(random: Random) -> bytes:
    program = b"\x80\x02" + _program(random, random.randint(1, 40)) + b"."
    return random.choice((zip_of(program), program, program * 5))


def _program(random: Random, length: int) -> bytes:
    return b"".join(_opcode(random) for _ in range(length))


def _opcode(random: Random) -> bytes:
    match random.randrange(9):
        case 0:
            return b"c" + random.choice(_GLOBALS) + b"\n"
        case 1:
            text = random.choice((*TEXTS, "storage", "cpu", "0", "params", "conv_first.weight")).encode(
                errors="surrogatepass"
            )
            return b"X" + struct.pack("<I", random.choice((len(text), len(text), 2**32 - 1))) + text
        case 2:
            number = random.choice(INTEGERS).to_bytes(9, "little", signed=True)
            return b"\x8a" + bytes([len(number)]) + number
        case 3:
            return random.choice((b"q", b"h")) + bytes([random.randrange(4)])
        case 4:
            return b"G" + struct.pack(">d", random.choice((0.0, float("nan"), 1e308)))
        case 5:
            name = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
            return name + b"\x8a\x09" + random.choice(INTEGERS).to_bytes(9, "little", signed=True) + b"tQ"
        case 6:
            return random.choice(_MORE)
        case _:
            return random.choice(_PLAIN)


def _directory(random: Random) -> bytes:
    """Changes only what the zip says about its entries."""
    data = whole()["zip"]
    heads = [at for at in range(len(data) - 4) if data[at : at + 4] in (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6")]
    at = random.choice(heads)
    return data[:at] + changed_bytes(data[at : at + 60], random) + data[at + 60 :]


def _legacy(random: Random) -> bytes:
    data = whole()["legacy"]
    if random.random() < 0.3:
        return changed_bytes(data, random)
    # The five pickles are in front.
    end = data.index(b"layers.0.0.ffn.fc1_gate.weight") + random.randrange(-400, 400)
    return changed_bytes(data[:end], random) + data[end:]


def _weights(random: Random) -> bytes:
    """A state dict with a wrong key or value, written by torch itself."""
    weights: dict[Any, Any] = dict(tiny(embed_dim=4, depths=(1,), lk_kernel=3, sk_kernel=1, scale=1).state_dict())
    key = random.choice(list(weights))
    new_key = random.choice((key, key, key, 3, None, (1, 2), f"layers.{random.choice(INTEGERS)}.0.x", *TEXTS))
    weights[new_key] = random.choice((_tensor(random, weights[key]), random.choice(VALUES)))
    if random.random() < 0.3:
        del weights[random.choice(list(weights))]
    file = io.BytesIO()
    wrapped = random.choice(({"params": weights}, weights, {"params": [weights]}, [weights], {new_key: weights}))
    torch.save(wrapped, file, _use_new_zipfile_serialization=random.random() < 0.7)
    return file.getvalue()


def _tensor(random: Random, like: torch.Tensor) -> torch.Tensor:
    shape = tuple(random.choice((0, 1, 2, 3, 4, 5, 1000)) for _ in range(random.randrange(5)))
    match random.randrange(8):
        case 0:
            return torch.zeros(1).expand(*shape, 1)
        case 1:
            return torch.zeros(1).expand(10**6, 10**5)
        case 2:
            return like.to(random.choice((torch.float64, torch.int8, torch.complex64, torch.bool, torch.float8_e5m2)))
        case 3:
            return like.to("meta")
        case 4:
            return like.to_sparse()
        case 5:
            return like * float("nan")
        case 6:
            return like.flatten()[: random.randrange(1, 5)]
        case _:
            return torch.zeros(tuple(min(side, 5) for side in shape))


def _safetensors(random: Random) -> bytes:
    data = whole()["safetensors"]
    if random.random() < 0.3:
        return changed_bytes(data, random)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    name = random.choice(list(header))
    match random.randrange(5):
        case 0:
            header[name] = random.choice(VALUES)
        case 1:
            header[random.choice(TEXTS)] = header.pop(name)
        case 2:
            header[name]["shape"] = [random.choice(INTEGERS) for _ in range(random.randrange(6))]
        case 3:
            header[name]["dtype"] = random.choice(("F64", "F16", "BF16", "F4", "F8_E8M0", "I8", "BOOL", "C64", "x"))
        case _:
            header[name]["data_offsets"] = [random.choice(INTEGERS), random.choice(INTEGERS)]
    text = json.dumps(header).encode()
    said = random.choice((len(text), len(text), len(text), random.choice(INTEGERS) % 2**64))
    return said.to_bytes(8, "little") + text + data[8 + size :]
