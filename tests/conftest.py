"""Tiny networks with every parameter random, their checkpoints, and a command line to call."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, settings

# A thread for each of pytest's workers: with as many as there are cores in each, they wait for one another, and what
# takes seconds alone took a minute. Read by OpenMP when torch is imported, and by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from aether_deploy.cli.app import main
from aether_deploy.graphs.export_process import exported_apart
from aether_deploy.graphs.torch_export import traced
from aether_deploy.proof.verdict import capture
from tests.helpers.commands import Ran
from tests.helpers.counts import CountsPlugin
from tests.helpers.exports import kept, outputs_kept
from tests.helpers.networks import save, tiny

# The inputs are files in a folder of the test's own: slow to draw, and each overwrites the one before.
_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
# `make test` tries the same inputs every time; `make test-all` new ones.
settings.register_profile("default", deadline=None, derandomize=True, database=None, suppress_health_check=_CHECKS)
settings.register_profile("all", deadline=None, derandomize=False, suppress_health_check=_CHECKS)
settings.load_profile("default")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(CountsPlugin())


@pytest.fixture(scope="session", autouse=True)
def one_registry() -> Iterator[None]:
    """PyTorch's exporter makes its list of operators anew for each export, half of an export's time; here once."""
    try:
        registry = importlib.import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
    except ImportError:  # another version of PyTorch
        yield
        return
    made_once = staticmethod(functools.cache(registry.from_torchlib))
    with mock.patch.object(registry, "from_torchlib", made_once):
        yield


@pytest.fixture(scope="session", autouse=True)
def computed_once() -> Iterator[None]:
    """See `exports`."""
    with (
        mock.patch("aether_deploy.graphs.exporter.traced", kept(traced)),
        mock.patch("aether_deploy.graphs.exporter.exported_apart", kept(exported_apart)),
        mock.patch("aether_deploy.proof.reference.capture", outputs_kept(capture)),
    ):
        yield


@pytest.fixture
def checkpoint_file(tmp_path: Path) -> Path:
    """An unfused tiny network as neosr would have written it."""
    return save(tiny(), tmp_path / "2x_Tiny.pth")


@pytest.fixture(scope="session")
def call() -> Callable[..., Ran]:
    """Calls `aether-deploy ...` in this process; an unknown exception is raised, not turned into a code."""

    def run(*words: object) -> Ran:
        result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run
