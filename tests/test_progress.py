"""The moving line on a terminal."""

from __future__ import annotations

import logging
import time

import pytest

from aether_deploy import cli


def _shown(capsys: pytest.CaptureFixture[str], fraction: float | None) -> str:
    extra = {} if fraction is None else {"fraction": fraction}
    with cli.progress("export"):
        logging.getLogger("aether_deploy.engines.build").info("building: a phase", extra=extra)
        time.sleep(0.3)  # the line is drawn ten times a second
    return capsys.readouterr().err


def test_a_known_fraction_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = _shown(capsys, 0.5)
    assert "export: building: a phase" in shown
    assert "━━━━" in shown
    assert "━" not in _shown(capsys, None)


def test_silent_without_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    assert _shown(capsys, 0.5) == ""
