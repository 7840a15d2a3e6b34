"""Pictures and videos from strangers through the real command: an answer or one line, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aether_deploy.errors import ImageError
from aether_deploy.pictures.images import read_picture
from tests.helpers.commands import Ran
from tests.helpers.strange_files import PICTURE_SUFFIXES, pictures, videos
from tests.helpers.strangers import inputs, require_answer

pytestmark = pytest.mark.slow

# Values of a picture that the tiny network upscales in about two seconds.
_MOST = 200_000
CORPUS = Path(__file__).parent / "strangers"


def _try(call: Callable[..., Ran], checkpoint: Path, folder: Path, source: str, content: bytes, output: str) -> Ran:
    (folder / source).write_bytes(content)
    (folder / output).unlink(missing_ok=True)
    return require_answer(lambda: call("upscale", checkpoint, folder / source, "-o", folder / output), folder)


def _values(folder: Path, suffix: str, content: bytes) -> int:
    """How many values a picture has, over all channels; 0 if it cannot be read."""
    path = folder / f"alone{suffix}"
    path.write_bytes(content)
    try:
        return read_picture(path).pixels.size
    except ImageError:
        return 0
    finally:
        path.unlink()


@settings(max_examples=inputs(120))
@given(picture=pictures(), suffix=st.sampled_from(PICTURE_SUFFIXES))
def test_pictures(
    picture: tuple[str, bytes], suffix: str, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]
) -> None:
    began = time.monotonic()
    if _values(tmp_path, *picture) > _MOST:
        # Honest work for the network, and no hang.
        assert time.monotonic() - began < 10
    else:
        _try(call, checkpoint_file, tmp_path, f"in{picture[0]}", picture[1], f"out{suffix}")


@settings(max_examples=inputs(40))
@given(video=videos(), going_on=st.booleans(), suffix=st.sampled_from([".mkv", ".mp4", ".mov", ".webm"]))
def test_videos(
    video: tuple[str, bytes],
    going_on: bool,
    suffix: str,
    checkpoint_file: Path,
    tmp_path: Path,
    call: Callable[..., Ran],
) -> None:
    def run(*words: object) -> Ran:
        return call(*words, *(["--keep-going"] if going_on else []))

    _try(run, checkpoint_file, tmp_path, f"in{video[0]}", video[1], f"out{suffix}")


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*.*")), ids=lambda path: path.name)
def test_what_once_went_wrong(path: Path, checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
    """Inputs that were found by the tests above, or that provoked a defect before there were any."""
    outputs = (".png", ".tif") if path.parent.name == "pictures" else (".mkv", ".mp4", ".webm")
    for suffix in outputs:
        _try(call, checkpoint_file, tmp_path, f"in{path.suffix}", path.read_bytes(), f"out{suffix}")
