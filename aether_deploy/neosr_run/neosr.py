"""One neosr run in a subprocess, a test or a training, with our network injected and a receipt required.

neosr exits with code 0 after a missing checkpoint, wrong weights or a wrong scale, so a run counts only if `launcher`,
inside that process, wrote its receipt after the pipeline had returned normally. This module never imports neosr, which
parses sys.argv and reseeds torch on import.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aether_deploy.errors import NeosrError
from aether_deploy.files import scratch
from aether_deploy.network.definition import ARCH_FILE

__all__ = ["Neosr", "NeosrRunError", "Receipt", "run_neosr"]

logger = logging.getLogger(__name__)

LAUNCHER = Path(__file__).resolve().parent / "launcher"
SHOWN_LOG_LINES = 15

# What neosr prints when it fails -> what to do about it. The first match counts.
_HINTS = (
    (
        r"No module named '?neosr",
        "neosr is not installed there: pip install neosr, or give a checkout with --neosr PATH",
    ),
    (r"No module named '(\w+)'", "a package that neosr needs is missing there: install it, or give --neosr-python EXE"),
    (
        r"An object named '(\w+)' was already registered",
        "another *_arch.py of that neosr registers the same names: remove it (install-arch names the file)",
    ),
    (r"Path to model doesn't exist", "the checkpoint named by pretrain_network_g does not exist"),
    (r"Failed to load model", "the weights do not fit [network_g] and scale of the options file"),
    (r"Python version 3\.12 is required", "neosr runs on Python 3.12 only: give one with --neosr-python EXE"),
    (r"CUDA out of memory", "the GPU's memory is too small for these images: give smaller ones"),
)


class NeosrRunError(NeosrError):
    """A neosr run that failed or left no receipt.

    Attributes:
        log_tail: neosr's last lines, for people; the message itself is one line.
        log: the file with all lines.
    """

    def __init__(self, message: str, log_tail: tuple[str, ...], log: Path) -> None:
        super().__init__(message)
        self.log_tail = log_tail
        self.log = log


@dataclass(frozen=True, slots=True)
class Neosr:
    """Which neosr to run: a checkout with its own scripts, or the package installed for `python`.

    Attributes:
        checkout: the folder with neosr's train.py and test.py; None for the installed package.
        python: the Python executable of neosr's environment; by default the current one.
    """

    checkout: Path | None = None
    python: str = sys.executable

    def script(self, mode: str) -> Path | None:
        """`test.py` or `train.py` of the checkout; None for the installed package, which has neither.

        Raises:
            NeosrError: the checkout has no such script.
        """
        if self.checkout is None:
            return None
        script = self.checkout.resolve() / f"{mode}.py"
        if not script.is_file():
            raise NeosrError(
                f"{self.checkout}: no {mode}.py in it; give the root of a neosr checkout, or leave --neosr out "
                "for the installed package"
            )
        return script


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the launcher wrote after neosr's pipeline had returned normally.

    Attributes:
        mode: `test` or `train`.
        cuda: False if the CPU stood in for CUDA.
        torch: its version in the neosr process.
        neosr: folder of the neosr package that ran.
        neosr_version: its version.
        forwards: forward passes of the network; one for each image in a test.
        network_class: module and name of the class that ran; None if none did.
        fused: whether that network was in its fused form.
        scale: of that network.
    """

    mode: str
    cuda: bool
    torch: str
    neosr: str
    neosr_version: str
    forwards: int
    network_class: str | None
    fused: bool | None
    scale: int | None

    def describe(self) -> str:
        """One line for people: the versions, and whether CUDA was there."""
        return f"neosr {self.neosr_version}, torch {self.torch}, {'with' if self.cuda else 'without'} CUDA"


def run_neosr(
    neosr: Neosr,
    mode: Literal["test", "train"],
    options: Path,
    log: Path,
    *,
    floats: Path | None = None,
    root: Path | None = None,
    arguments: tuple[str, ...] = (),
) -> Receipt:
    """Runs neosr's test or training on an options file, in the current folder.

    Args:
        neosr: which one to run.
        mode: `test` or `train`.
        options: neosr's options file, TOML.
        log: the file for its output, stdout and stderr together.
        floats: existing folder for `input_00000.npy` and `output_00000.npy` of each forward pass, float32
            (N, C, H, W); None captures nothing.
        root: where the installed package puts `experiments`; by default the current folder. A checkout
            uses its own.
        arguments: further arguments for neosr, such as `--auto_resume`.
    Raises:
        NeosrRunError: neosr exited before the end of its pipeline, even with code 0.
        NeosrError: the checkout has no such script, or its Python cannot be started.
    """
    script = neosr.script(mode)
    with scratch("neosr") as folder:
        receipt = folder / "receipt.json"
        job = {
            "mode": mode,
            "script": script and str(script),
            "options": str(options.resolve()),
            "arguments": arguments,
            "root": str((root or Path.cwd()).resolve()),
            "arch": str(ARCH_FILE),
            "floats": floats and str(floats.resolve()),
            "receipt": str(receipt),
        }
        job_file = folder / "job.json"
        job_file.write_text(json.dumps(job), encoding="utf-8")
        code = _run(mode, [neosr.python, str(LAUNCHER), str(job_file)], log)
        if code != 0 or not receipt.is_file():
            raise _failed(mode, code, log)
        seen: dict[str, Any] = json.loads(receipt.read_text(encoding="utf-8"))
    return Receipt(**seen)


def _run(mode: str, command: list[str], log: Path) -> int:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if mode == "test":
        # A TF32 convolution would add an error of 1e-4; this switch acts on the libraries and leaves neosr untouched.
        environment["NVIDIA_TF32_OVERRIDE"] = "0"
    try:
        with (
            log.open("w", encoding="utf-8") as file,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                encoding="utf-8",
                errors="replace",
            ) as process,
        ):
            for line in process.stdout or ():
                file.write(line)
                file.flush()
                logger.info("%s", _plain(line))
            return process.wait()
    except OSError as error:
        raise NeosrError(f"{command[0]}: cannot be started ({error.strerror}); check --neosr-python") from error


def _failed(mode: str, code: int, log: Path) -> NeosrRunError:
    text = _plain(log.read_text(encoding="utf-8"))
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, text)), "its last log lines say why")
    ended = f"with exit code {code}" if code >= 0 else f"by signal {-code}"
    if left := re.search(r"neosr left its pipeline early with exit code (\S+)", text):
        ended = f"of its own accord with exit code {left[1]}"
    message = f"neosr's {mode} run ended early, {ended} and without a receipt; {hint} (log: {log})"
    return NeosrRunError(message, tuple(lines[-SHOWN_LOG_LINES:]), log)


def _plain(text: str) -> str:
    """The text without neosr's terminal colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).rstrip()
