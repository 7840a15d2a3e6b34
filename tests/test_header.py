"""Headers of engines, read without TensorRT."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from aether_deploy.engines.header import read_header
from aether_deploy.errors import EngineError


def engine_bytes(magic: bytes = b"vtrt", size: int = 64, mask: int = 0b11100) -> bytes:
    """A header as TensorRT-RTX 1.7.1 writes it, and zeros."""
    return struct.pack("<4s12xQ4B4xI", magic, size, 1, 7, 1, 116, mask).ljust(64, b"\0")


def test_rtx(tmp_path: Path) -> None:
    (tmp_path / "x.engine").write_bytes(engine_bytes())
    assert read_header(tmp_path / "x.engine").as_dict() == {
        "magic": "vtrt",
        "version": "1.7.1.116",
        "bytes": 64,
        "compute_capabilities": ["sm86", "sm89", "sm120"],
    }


def test_a_plan_is_known_by_its_magic_only(tmp_path: Path) -> None:
    (tmp_path / "x.engine").write_bytes(engine_bytes(b"ftrt"))
    header = read_header(tmp_path / "x.engine")
    assert (header.magic, header.version, header.capabilities) == ("ftrt", "", ())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (engine_bytes()[:50], "its header says 64 bytes, the file has 50: cut off"),
        (engine_bytes()[:20], "no TensorRT engine"),
        (b"", r"no TensorRT engine \(0 bytes"),
        (b'{"metadata": 1}' + engine_bytes(), "some tools put metadata before the engine"),
    ],
)
def test_damaged_or_foreign(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "x.engine").write_bytes(data)
    with pytest.raises(EngineError, match=said):
        read_header(tmp_path / "x.engine")


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"cannot be read .*check the path"):
        read_header(tmp_path / "x.engine")
