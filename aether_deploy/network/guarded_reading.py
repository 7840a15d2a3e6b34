"""A stranger's checkpoint -> what it holds, without running code, and without taking what it claims for true.

The one place where foreign bytes become objects. Before torch reads a zip, the zip is checked: stored entries only, no
larger than the file, every CRC right. A .safetensors file and a .pth from before torch 1.6 have no checksum: in those a
changed bit that still makes a number is found only by the sha256 in a manifest.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from aether_deploy.errors import CheckpointError
from aether_deploy.memory_limit import memory_limit
from aether_deploy.network.pickle_scan import MOST_TENSORS, refusal, require_tensors_only
from aether_deploy.text import in_one_line

__all__ = ["read_contents"]

# Python objects for each tensor, torch's threads and their stacks.
_SPARE = 512 << 20
_PICKLES_BEFORE_ZIP = 5
# 50 bytes and more for each tensor.
_LARGEST_HEADER = 10 << 20


def read_contents(path: Path) -> tuple[Any, int]:
    """Reads a .pth or .safetensors file in a memory limit of three times its size and some spare.

    Returns:
        (what it holds, size of the file in bytes); tensors can still be of any shape, type and layout.
    Raises:
        CheckpointError: it cannot be read, is neither format, is damaged or compressed, or holds more than tensors.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            magic = file.read(4)
            file.seek(0)
            with memory_limit(3 * size + _SPARE), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _read(file, magic, size, safetensors=path.suffix == ".safetensors"), size
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"{path}: cannot be read ({reason}); check the path") from error


def _read(file: IO[bytes], magic: bytes, size: int, *, safetensors: bool) -> Any:
    if not safetensors and not magic.startswith((b"PK", b"\x80")):
        raise CheckpointError(
            f"no PyTorch checkpoint ({size} bytes that begin with {magic!r}); give a .pth or .safetensors file"
        )
    try:
        if safetensors:
            header = int.from_bytes(file.read(8), "little")
            if _LARGEST_HEADER < header <= size:
                raise CheckpointError(f"its header has {header} bytes, far too many; save its state dict alone")
            file.seek(0)
            return load(file.read())
        if magic.startswith(b"PK"):
            _require_whole_zip(file, size)
        else:
            require_tensors_only(file, _PICKLES_BEFORE_ZIP)
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except SafetensorError as error:
        raise CheckpointError(f"no whole safetensors file ({in_one_line(error)}); copy it again") from error
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|class) ([\w.]+)", str(error))
        what = f"it holds {named[1]}" if named else "its pickle cannot be read"
        raise CheckpointError(refusal(what)) from error
    except MemoryError as error:
        raise CheckpointError(
            f"asks for more memory than {size} bytes can need; copy it again from its source"
        ) from error
    # Of any type: a changed pickle calls torch's functions with whatever it has (TypeError, AttributeError were seen).
    except Exception as error:
        raise CheckpointError(f"damaged or cut off ({size} bytes); copy it again from its source") from error


def _require_whole_zip(file: IO[bytes], size: int) -> None:
    """Raises CheckpointError for an entry that is compressed, larger than the file, or not what its CRC says."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) > MOST_TENSORS:
            raise CheckpointError(f"its zip has {len(entries)} entries, far too many; save its state dict alone")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED:
                raise CheckpointError("its zip is compressed, which torch never writes; save it again with torch.save")
            if entry.file_size != entry.compress_size or entry.filename != entry.orig_filename:
                raise CheckpointError(f"damaged, the zip's entry {entry.filename!a} contradicts itself; copy it again")
        if sum(entry.file_size for entry in entries) > size:
            raise CheckpointError(f"damaged, the zip's entries are larger than its {size} bytes; copy it again")
        if (changed := archive.testzip()) is not None:
            raise CheckpointError(f"damaged, {changed!a} is not what its checksum says; copy it again")
        for entry in entries:
            # torch looks it up without regard to case.
            if entry.filename.lower().endswith("data.pkl"):
                require_tensors_only(io.BytesIO(archive.read(entry)))
