"""The demo leaves what it promises, and the packaged sample is worth showing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aether_deploy.pictures.images import read_image
from tests.helpers.commands import Ran

pytestmark = pytest.mark.slow


def test_demo(tmp_path: Path, call: Callable[..., Ran]) -> None:
    ran = call("demo", "-o", tmp_path, "--json")
    assert ran.code == 0, ran.err
    assert all(file["parity"]["passed"] and Path(file["file"]).is_file() for file in ran.json["files"])
    assert read_image(tmp_path / "chelsea_aether.png").shape == read_image(tmp_path / "chelsea_bicubic.png").shape
    assert "Passed" in Path(ran.json["report"]).read_text(encoding="utf-8")
    assert ran.json["photo"]["psnr"] >= ran.json["photo"]["psnr_bicubic"] + 1
