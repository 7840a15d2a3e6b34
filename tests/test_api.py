"""The public names: one table, documented, typed, and the page about them runs."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import aether_deploy as ad
from aether_deploy.samples import PHOTOS, SAMPLE
from tests.helpers.networks import calm, save

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
CODE = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))


def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(calm(scale=2, embed_dim=8, depths=(1,), lk_kernel=5, sk_kernel=3), tmp_path / "net_g_latest.pth")
    with Image.open(PHOTOS / "chelsea.png") as photo:
        photo.crop((120, 80, 240, 160)).save(tmp_path / "in.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(CODE, "docs/api.md", "exec"), {})
    assert (tmp_path / "out.png").is_file()
    assert (tmp_path / "2x_fused.pth.json").is_file()
    assert len(list((tmp_path / "out").glob("*.onnx"))) == 3


def test_the_page_is_typed_from_outside(tmp_path: Path) -> None:
    """A user's own mypy, strict, against the package with its types; a wrong type is found."""
    (tmp_path / "user.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "wrong.py").write_text("import aether_deploy as ad\nad.load_checkpoint(5)\n", encoding="utf-8")
    # torch's own types take most of a minute to read, and no public name of ours shows them.
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = True\n[mypy-aether_deploy.*]\nfollow_imports = silent\n"
        "[mypy-torch.*,onnx.*,onnx_ir.*,onnxscript.*]\nfollow_imports = skip\n",
        encoding="utf-8",
    )
    words = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "user.py", "wrong.py"]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    wrong = [line for line in ran.stdout.splitlines() if ": error: " in line]
    assert len(wrong) == 1, ran.stdout
    assert wrong[0].startswith("wrong.py:2: error: Argument 1")


def test_importing_waits_for_nothing() -> None:
    code = "import aether_deploy, sys; dir(aether_deploy); print(*{'torch', 'numpy', 'onnx', 'PIL'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_every_name_is_there_and_documented() -> None:
    assert set(ad.__all__) <= set(dir(ad))
    for name in ad.__all__:
        public = getattr(ad, name)
        assert public.__name__ == name
        assert inspect.getdoc(public), name
    with pytest.raises(AttributeError, match="nothing"):
        _ = ad.nothing  # type: ignore[attr-defined]


def test_functions_say_what_they_take_and_raise() -> None:
    for name in ad.__all__:
        public = getattr(ad, name)
        if inspect.isfunction(public):
            text = inspect.getdoc(public) or ""
            for parameter in inspect.signature(public).parameters:
                assert re.search(rf"\b{parameter}\b", text), f"{name} does not document {parameter}"
            assert "Raises:" in text or "Args:" not in text, name


def test_a_plan_has_its_own_options(tmp_path: Path) -> None:
    planned = ad.plan_export(ad.load_checkpoint(SAMPLE), ad.ExportOptions(output=tmp_path))
    with pytest.raises(ad.ExportError, match="give one of both"):
        ad.export_model(planned, ad.ExportOptions())
    assert list(tmp_path.iterdir()) == []


def test_every_error_is_public() -> None:
    from aether_deploy import errors

    assert set(errors.__all__) | {"ParityError"} <= set(ad.__all__)


def test_the_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert ad.__version__ == version("aether-deploy")
