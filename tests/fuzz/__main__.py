"""Starts libFuzzer on one of the readers of strangers' files.

    python -m tests.fuzz checkpoint -runs=20000 CORPUS

CORPUS is a folder, which is filled from `tests/strangers/` and grows. Whatever is not an `AetherDeployError` ends the
run, and the input is left as `crash-...`: put it into `tests/strangers/` once it is mended.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

STRANGERS = Path(__file__).parents[1] / "strangers"


def _seed(corpus: Path, target: str) -> None:
    """Fills an empty corpus; the first byte of a checkpoint says what it is."""
    from tests.helpers.strange_checkpoints import whole
    from tests.helpers.strange_onnx import image_graph

    corpus.mkdir(parents=True, exist_ok=True)
    if target == "onnx":
        seeds = [path.read_bytes() for path in (STRANGERS / "onnx").iterdir()]
        seeds += [image_graph(half=half).SerializeToString() for half in (False, True)]
    else:
        seeds = [
            bytes([path.suffix == ".safetensors"]) + path.read_bytes() for path in (STRANGERS / "checkpoints").iterdir()
        ]
        kinds = {"zip": 0, "legacy": 0, "safetensors": 1, "pickle": 2}
        seeds += [bytes([kinds[name]]) + data for name, data in whole().items()]
    for number, data in enumerate(seeds):
        (corpus / f"seed-{number:03}").write_bytes(data)


def _checkpoint(folder: Path) -> Callable[[bytes], None]:
    from aether_deploy.errors import AetherDeployError
    from aether_deploy.network.checkpoint import load_checkpoint
    from tests.helpers.strange_checkpoints import zip_of

    def read(data: bytes) -> None:
        kind, rest = data[:1], data[1:]
        path = folder / ("net.safetensors" if kind == b"\1" else "net.pth")
        path.write_bytes(zip_of(rest) if kind == b"\2" else rest)
        try:
            load_checkpoint(path).build()
        except AetherDeployError as error:
            _require_one_line(error)

    return read


def _onnx(folder: Path) -> Callable[[bytes], None]:
    from aether_deploy.errors import AetherDeployError
    from aether_deploy.runners.onnx_reading import read_onnx
    from aether_deploy.runners.onnx_runtime import OnnxRunner
    from aether_deploy.runners.rounded import RoundedRunner, graph_of, half_type_of

    def read(data: bytes) -> None:
        path = folder / "net.onnx"
        path.write_bytes(data)
        try:
            runner = RoundedRunner if half_type_of(graph_of(read_onnx(path), path)) else OnnxRunner
            runner(path, threads=1).close()
        except AetherDeployError as error:
            _require_one_line(error)

    return read


def _require_one_line(error: Exception) -> None:
    if not str(error).isprintable():
        raise AssertionError(f"cannot be printed in one line: {error!r}")


def main() -> None:
    """Runs libFuzzer, which ends the process."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed (it has wheels for Linux only); pip install atheris")
    targets = {"checkpoint": _checkpoint, "onnx": _onnx}
    if len(sys.argv) < 3 or sys.argv[1] not in targets:
        sys.exit(f"usage: python -m tests.fuzz {'|'.join(targets)} [libFuzzer's options] CORPUS")
    target = sys.argv.pop(1)
    corpus = Path(sys.argv[-1])
    with atheris.instrument_imports(include=["aether_deploy.network", "aether_deploy.runners", "aether_deploy.graphs"]):
        read = targets[target](Path(tempfile.mkdtemp(prefix="fuzz-")))
    if not corpus.is_dir() or not any(corpus.iterdir()):
        _seed(corpus, target)
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
