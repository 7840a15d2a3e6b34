"""Tiny networks with every parameter random, their checkpoints, and a command line to call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from aether_deploy.cli.app import main
from tests.helpers.commands import Ran
from tests.helpers.networks import save, tiny


@pytest.fixture
def checkpoint_file(tmp_path: Path) -> Path:
    """An unfused tiny network as neosr would have written it."""
    return save(tiny(), tmp_path / "2x_Tiny.pth")


@pytest.fixture
def call() -> Callable[..., Ran]:
    """Calls `aether-deploy ...` in this process; an unknown exception is raised, not turned into a code."""

    def run(*words: object) -> Ran:
        result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run
