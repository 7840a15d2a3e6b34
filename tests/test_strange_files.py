"""Files from strangers through the real commands: an answer or one error line, whatever is in them.

`tests/strangers/` holds those that once did more: a traceback, gigabytes, or no end.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aether_deploy import samples
from tests.helpers.commands import Ran
from tests.helpers.strange_checkpoints import strange_checkpoint
from tests.helpers.strange_engines import strange_engine
from tests.helpers.strange_onnx import strange_onnx
from tests.helpers.strangers import inputs, require_answer

Call = Callable[..., Ran]

STRANGERS = Path(__file__).parent / "strangers"
FOUND = sorted(path for path in STRANGERS.rglob("*") if path.is_file() and path.suffix != ".md")
PHOTO = sorted(Path(samples.__file__).parent.glob("photos/*.png"))[0]

_RANDOM = st.randoms(use_true_random=False, note_method_calls=False)


def _try(folder: Path, name: str, data: bytes, call: Call, *commands: str) -> list[Ran]:
    """Each command on the file, in a folder with nothing else; `FILE` stands for it."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    file = folder / name
    file.write_bytes(data)
    ran = []
    for command in commands:
        words = [str(file) if word == "FILE" else word for word in command.split()]
        ran.append(require_answer(lambda words=words: call(*words), folder))  # type: ignore[misc]
    return ran


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_once(tmp_path: Path, call: Call, path: Path) -> None:
    _try(tmp_path, path.name, path.read_bytes(), call, *_commands(path.suffix, tmp_path))


def _commands(suffix: str, folder: Path) -> list[str]:
    run = [f"upscale FILE {PHOTO} --tile 32 -o {folder / 'out.png'}", "parity FILE FILE"]
    if suffix == ".engine":
        return ["inspect FILE", *run]
    if suffix == ".onnx":
        return ["inspect FILE", *run, "locate FILE FILE --no-shares"]
    return ["inspect FILE", f"fuse FILE -o {folder / 'fused.pth'}"]


def test_checkpoints(tmp_path: Path, call: Call) -> None:
    @settings(max_examples=inputs(380))
    @given(_RANDOM)
    def check(random: Random) -> None:
        data, suffix = strange_checkpoint(random)
        _try(tmp_path, f"net{suffix}", data, call, "inspect FILE")

    check()


def test_checkpoints_by_every_command(tmp_path: Path, call: Call) -> None:
    @settings(max_examples=inputs(100))
    @given(_RANDOM)
    def check(random: Random) -> None:
        data, suffix = strange_checkpoint(random)
        ran, *_ = _try(tmp_path, f"net{suffix}", data, call, "inspect FILE")
        if ran.code:  # else it is a network, and the commands have tests of their own
            _try(tmp_path, f"net{suffix}", data, call, *_commands(suffix, tmp_path), "parity FILE FILE")

    check()


def test_onnx(tmp_path: Path, call: Call) -> None:
    @settings(max_examples=inputs(250))
    @given(_RANDOM)
    def check(random: Random) -> None:
        data = strange_onnx(random)
        ran = _try(tmp_path, "net.onnx", data, call, "inspect FILE")
        if not ran[0].code:
            _try(tmp_path, "net.onnx", data, call, random.choice(_commands(".onnx", tmp_path)[1:]))

    check()


def test_engines(tmp_path: Path, call: Call) -> None:
    @settings(max_examples=inputs(20))
    @given(_RANDOM)
    def check(random: Random) -> None:
        data = strange_engine(random)
        ran = _try(tmp_path, "net.engine", data, call, "inspect FILE")
        if ran[0].code:  # else another process would try to load it
            _try(tmp_path, "net.engine", data, call, "parity FILE FILE")

    check()
