"""The wheel holds all it needs, and works from another folder; help comes at once."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import aether_deploy
from aether_deploy.cli.app import COMMANDS
from tests.helpers.networks import save, tiny

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the backend that pyproject names, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_carries_the_network_the_sample_and_the_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for expected in (
        "aether_deploy/__init__.pyi",
        "aether_deploy/py.typed",
        "aether_deploy/neosr_arch/aether_arch.py",
        "aether_deploy/samples/2x_aether_sample.pth",
        "aether_deploy/samples/photos/chelsea.png",
        "aether_deploy/html_report/page.html",
        "aether_deploy/html_report/page.css",
    ):
        assert expected in names
    assert any(name.endswith("LICENSE") for name in names)
    # An installed `neosr/` of ours would shadow the real one.
    assert not any(name.startswith("neosr/") for name in names)


def test_the_wheel_works_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    save(tiny(), tmp_path / "net.pth")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    code = (
        "import aether_deploy.network.definition as n, sys; from aether_deploy.cli import main;"
        "assert n.ARCH_FILE.parent.name == 'neosr_arch', n.ARCH_FILE; main(sys.argv[1:])"
    )
    words = [sys.executable, "-c", code, "fuse", "net.pth", "-o", "fused.pth"]
    ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "fused.pth").is_file()


@pytest.mark.parametrize("command", COMMANDS)
def test_module_and_console_script_are_the_same_and_wait_for_no_torch(command: str) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['x', '--help']\n"
        "try:\n"
        f"    runpy.run_module('aether_deploy.{COMMANDS[command]}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'onnx_ir', 'tensorrt', 'tensorrt_rtx', 'rich', 'PIL', 'jinja2',"
        "'matplotlib'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    module = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert module.returncode == 0, module.stderr
    script = subprocess.run(
        [Path(sys.executable).with_name("aether-deploy"), command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert script.returncode == 0, script.stderr
    options = [line.split()[0] for line in module.stdout.splitlines() if line.startswith("  -")]
    assert options == [line.split()[0] for line in script.stdout.splitlines() if line.startswith("  -")]


@pytest.mark.parametrize("name", [m.name for m in pkgutil.walk_packages(aether_deploy.__path__, "aether_deploy.")])
def test_all_names_only_what_is_there(name: str) -> None:
    if name.endswith("__main__") or ".launcher" in name:
        pytest.skip("runs when it is imported")
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public), public


def test_public_names_are_those_of_the_lazy_table() -> None:
    table = ast.parse((ROOT / "aether_deploy" / "__init__.pyi").read_text(encoding="utf-8"))
    named = [alias.asname for node in table.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(aether_deploy.__all__) == sorted(map(str, named))
    for name in aether_deploy.__all__:
        assert getattr(aether_deploy, name).__name__ == name
    other = "nothing"
    with pytest.raises(AttributeError, match="No aether_deploy attribute nothing"):
        getattr(aether_deploy, other)


def test_a_misspelt_command_names_the_nearest() -> None:
    words = [sys.executable, "-m", "aether_deploy", "exprot"]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert "did you mean 'export'?" in ran.stderr
