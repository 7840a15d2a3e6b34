"""Real neosr runs: the receipt, and every way in which neosr ends with exit code 0 without having run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from aether_deploy.errors import NeosrError
from aether_deploy.neosr_run.launcher.cpu_shim import cpu_instead_of_cuda
from aether_deploy.neosr_run.neosr import Neosr, NeosrRunError, Receipt, run_neosr
from aether_deploy.neosr_run.validation_options import PlannedRun, planned_options
from aether_deploy.network.checkpoint import load_checkpoint
from tests.helpers.neosr_checkout import make_checkout, make_photos
from tests.helpers.networks import save, tiny

pytestmark = pytest.mark.slow

Edit = Callable[[str], str]


def write_options(folder: Path, edit: Edit = str) -> Path:
    """Options for a test of a tiny unfused network on a 9x7 photo and a 1-pixel one, changed by `edit`."""
    run = PlannedRun(
        name="run",
        checkpoint=load_checkpoint(save(tiny(), folder / "net.pth")),
        results=folder / "results",
        images=make_photos(folder / "photos", (9, 7), (1, 1)),
        gt=None,
    )
    options = folder / "options.toml"
    options.write_text(edit(planned_options(run)))
    return options


def run_test(folder: Path, neosr: Neosr, edit: Edit = str) -> Receipt:
    floats = folder / "floats"
    floats.mkdir()
    return run_neosr(neosr, "test", write_options(folder, edit), folder / "log", floats=floats)


def test_a_run_leaves_a_receipt_and_the_network_s_own_floats(tmp_path: Path) -> None:
    receipt = run_test(tmp_path, Neosr())
    assert receipt.neosr_version == "0.1.0"
    assert receipt.network_class == "neosr.archs.aether_arch.AetherNet"
    assert (receipt.forwards, receipt.fused, receipt.scale) == (2, False, 2)
    assert receipt.cuda == torch.cuda.is_available()
    assert ("without CUDA" in receipt.describe()) == (not torch.cuda.is_available())
    for index, shape in enumerate([(7, 9), (1, 1)]):
        lr = np.load(tmp_path / "floats" / f"input_{index:05d}.npy")
        assert lr.shape == (1, 3, *shape)
        with torch.inference_mode():
            expected = tiny()(torch.from_numpy(lr)).numpy()
        caught = np.load(tmp_path / "floats" / f"output_{index:05d}.npy")
        assert caught.dtype == np.float32
        np.testing.assert_allclose(caught, expected, rtol=0, atol=1e-5)


@pytest.mark.long
def test_a_checkout_runs_its_own_script_and_an_author_s_aether_arch_is_shadowed(tmp_path: Path) -> None:
    author = "raise RuntimeError('the file of another author was imported')\n"
    checkout = make_checkout(tmp_path / "checkout", aether_arch=author)
    receipt = run_test(tmp_path, Neosr(checkout))
    assert receipt.neosr == str(checkout / "neosr")
    assert receipt.neosr_version == "9.9.9"
    assert receipt.network_class == "neosr.archs.aether_arch.AetherNet"
    assert (checkout / "neosr" / "archs" / "aether_arch.py").read_text() == author


@pytest.mark.parametrize(
    ("edit", "hint"),
    [
        (lambda text: text.replace("net.pth", "gone.pth"), "does not exist"),
        pytest.param(
            lambda text: text.replace("fused_init = false", "fused_init = true"),
            "the weights do not fit",
            marks=pytest.mark.long,
        ),
        pytest.param(
            lambda text: text.replace("scale = 2", "scale = 4"), "the weights do not fit", marks=pytest.mark.long
        ),
    ],
    ids=["missing checkpoint", "unfused weights, fused_init = true", "wrong scale"],
)
def test_what_neosr_ends_with_0_is_a_failure(tmp_path: Path, edit: Edit, hint: str) -> None:
    with pytest.raises(NeosrRunError, match="without a receipt") as raised:
        run_test(tmp_path, Neosr(), edit)
    assert hint in str(raised.value)
    # It is neosr that ended with 0; the launcher did not.
    assert raised.value.log_tail[-1] == "neosr left its pipeline early with exit code 0"


@pytest.mark.long
@pytest.mark.parametrize("script", ["import os; os._exit(0)", "raise SystemExit", "import sys; sys.exit(0)"])
def test_a_script_that_leaves_early(tmp_path: Path, script: str) -> None:
    checkout = make_checkout(tmp_path / "checkout", test=f"print('half way', flush=True)\n{script}\n")
    with pytest.raises(NeosrRunError, match="without a receipt") as raised:
        run_test(tmp_path, Neosr(checkout))
    assert "half way" in raised.value.log_tail


@pytest.mark.long
def test_another_file_that_registers_our_names(tmp_path: Path) -> None:
    other = (
        "from neosr.utils.registry import ARCH_REGISTRY\n\n@ARCH_REGISTRY.register()\ndef aether():\n    return None\n"
    )
    checkout = make_checkout(tmp_path / "checkout", other_arch=other)
    with pytest.raises(NeosrRunError, match="registers the same names"):
        run_test(tmp_path, Neosr(checkout))


def test_a_python_that_is_not_neosr_s(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(NeosrRunError, match="--neosr-python"):
        run_test(tmp_path, Neosr(python=str(bare)))
    with pytest.raises(NeosrError, match="cannot be started"):
        run_neosr(Neosr(python=str(tmp_path / "none")), "test", tmp_path / "options.toml", tmp_path / "log")


def test_a_folder_that_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(NeosrError, match=r"no test\.py"):
        run_neosr(Neosr(tmp_path), "test", tmp_path / "options.toml", tmp_path / "log")


def save_network(weights: torch.Tensor) -> torch.Tensor:
    """As neosr's function of that name does, which the shim knows it by."""
    return weights.cpu()


def test_the_shim_maps_cuda_and_leaves_no_trace() -> None:
    before = (torch.Tensor.cpu, torch.Generator, torch.cuda.Stream, torch.cuda.is_available)
    with cpu_instead_of_cuda(None):
        assert torch.device("cuda:1").type == "cpu"
        assert torch.zeros(2, device="cuda").to(torch.device("cuda")).device.type == "cpu"
        assert torch.randperm(3, generator=torch.Generator(device="cuda"), device="cuda").device.type == "cpu"
        # A schedule-free optimizer changes the weights in place after save_network collected them...
        weights = torch.ones(2)
        collected = save_network(weights)
        weights.zero_()
        assert collected.tolist() == [1, 1]
        # ... but 1.0.0's tensor2img clamps in place what cpu() returns, and then takes the original.
        output = torch.full((2,), 1.5)
        output.cpu().clamp_(0, 1)
        assert output.tolist() == [1, 1]
        # Only train.py's own frame is told that there is CUDA.
        assert torch.cuda.is_available() == before[3]()
    assert (torch.Tensor.cpu, torch.Generator, torch.cuda.Stream, torch.cuda.is_available) == before
