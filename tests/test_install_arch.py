"""The network's file in a neosr: there once, whole, and never at the cost of a file that is not ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aether_deploy.errors import NeosrError
from aether_deploy.neosr_run import installation
from aether_deploy.neosr_run.neosr import Neosr, run_neosr
from aether_deploy.network.definition import ARCH_FILE
from tests.helpers.commands import Ran, error_line
from tests.helpers.neosr_checkout import make_checkout

FOREIGN = (
    "from neosr.utils.registry import ARCH_REGISTRY\n\n@ARCH_REGISTRY.register()\ndef {name}(**kw):\n    return None\n"
)


@pytest.fixture
def neosr(tmp_path: Path) -> Path:
    """The least that is taken for a neosr; nothing here runs it."""
    archs = tmp_path / "checkout" / "neosr" / "archs"
    archs.mkdir(parents=True)
    (archs / "__init__.py").touch()
    return tmp_path / "checkout"


def test_install_and_uninstall_leave_nothing(neosr: Path, call: Callable[..., Ran]) -> None:
    before = sorted(neosr.rglob("*"))
    first = call("install-arch", neosr)
    assert first.code == 0
    assert 'type = "aether_medium"' in first.out
    target = neosr / "neosr" / "archs" / "aether_arch.py"
    assert target.read_bytes().endswith(ARCH_FILE.read_bytes())
    again = call("install-arch", neosr, "--json")
    assert again.json == {"file": str(target), "installed": True, "changed": False}
    assert call("install-arch", neosr, "--uninstall").code == 0
    assert sorted(neosr.rglob("*")) == before
    assert "nothing to remove" in call("install-arch", neosr, "--uninstall").out


def test_an_older_file_of_ours_is_replaced(neosr: Path) -> None:
    archs = neosr / "neosr" / "archs"
    installation.install(archs)
    target = archs / "aether_arch.py"
    whole = target.read_bytes()
    older = b"# an older version\n"
    target.write_bytes(installation.marked(older))
    assert installation.install(archs)
    assert target.read_bytes() == whole


def test_a_plain_copy_of_our_file_counts_as_ours(neosr: Path) -> None:
    target = neosr / "neosr" / "archs" / "aether_arch.py"
    target.write_bytes(ARCH_FILE.read_bytes())
    assert installation.uninstall(target.parent)
    assert not target.exists()


@pytest.mark.parametrize("arguments", [[], ["--uninstall"]])
@pytest.mark.parametrize("edited", [False, True])
def test_a_file_that_is_not_ours_is_left_alone(
    neosr: Path, call: Callable[..., Ran], arguments: list[str], edited: bool
) -> None:
    target = neosr / "neosr" / "archs" / "aether_arch.py"
    if edited:
        installation.install(target.parent)
        target.write_bytes(target.read_bytes() + b"# mine\n")
    else:
        target.write_text("# of another author\n")
    before = target.read_bytes()
    ran = call("install-arch", neosr, *arguments)
    assert ran.code == 1
    assert ("edited" if edited else "not put there by aether-deploy") in error_line(ran)
    assert target.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        FOREIGN.format(name="aether_small"),
        "import neosr.utils.registry as r\nclass aether:\n    pass\nr.ARCH_REGISTRY.register(aether)\n",
        "@ARCH_REGISTRY.register(suffix=None)\nclass aether_large:\n    pass\n",
    ],
)
def test_another_file_with_our_names_is_found(neosr: Path, call: Callable[..., Ran], text: str) -> None:
    archs = neosr / "neosr" / "archs"
    (archs / "other_arch.py").write_text(text)
    line = error_line(call("install-arch", neosr))
    assert "other_arch.py registers aether" in line
    assert not (archs / "aether_arch.py").exists()


def test_other_names_and_unreadable_files_do_not_stand_in_the_way(neosr: Path) -> None:
    archs = neosr / "neosr" / "archs"
    (archs / "other_arch.py").write_text(FOREIGN.format(name="aetherish"))
    (archs / "broken_arch.py").write_text("def (:\n")
    assert installation.install(archs)


def test_no_neosr_there(tmp_path: Path, call: Callable[..., Ran]) -> None:
    assert "no neosr there" in error_line(call("install-arch", tmp_path))
    # Our own repository has a folder neosr/archs, which is no neosr.
    with pytest.raises(NeosrError, match="no neosr there"):
        installation.find_archs(Path(__file__).parents[1])


@pytest.mark.slow
def test_the_installed_neosr_is_found_without_importing_it() -> None:
    import sys

    archs = installation.find_archs()
    assert (archs / "arch_util.py").is_file()
    assert "neosr" not in sys.modules


@pytest.mark.slow
def test_the_installed_file_works_in_neosr(tmp_path: Path) -> None:
    """neosr's own scan registers it, and fused weights of a list-valued configuration are taken."""
    script = """
from neosr.archs import build_network
import sys
del sys.modules["neosr.archs.aether_arch"]  # the one that the launcher had loaded
from neosr.utils.registry import ARCH_REGISTRY
for name in ("aether", "aether_small", "aether_medium", "aether_large"):
    del ARCH_REGISTRY._obj_map[name]
network = build_network({"type": "aether_medium", "embed_dim": 12, "depths": [1, 1], "fused_init": True})
assert len(network.layers) == 2 and network.scale == 2 and network.fused_init
assert sys.modules["neosr.archs.aether_arch"].__file__.startswith(__file__.removesuffix("test.py"))
print("registered by neosr's scan")
"""
    checkout = make_checkout(tmp_path / "checkout", test=script)
    installation.install(checkout / "neosr" / "archs")
    options = tmp_path / "options.toml"
    options.write_text('name = "x"\nscale = 2\n[datasets.test_1]\nname = "x"\n[path]\n')
    run_neosr(Neosr(checkout), "test", options, tmp_path / "log")
    assert "registered by neosr's scan" in (tmp_path / "log").read_text()
