"""The benchmark's parts: what it counts is right, what it compares is one network. Nothing is timed."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from aether_deploy.benchmark import _table
from aether_deploy.errors import RunnerError
from aether_deploy.network.aether import read_spec
from aether_deploy.timing.contender import BASELINE, Contender, Timing
from aether_deploy.timing.contenders import open_contender, prepare
from aether_deploy.timing.gauges import Machine, gauged, gauges
from aether_deploy.timing.measure import measure, usable_cores
from aether_deploy.timing.side_by_side import photo_input
from tests.helpers.commands import Ran
from tests.helpers.networks import save, tiny
from tests.helpers.variations import first_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("options", [{}, {"scale": 1}, {"scale": 3}, {"scale": 8}, {"fused_init": True}])
def test_operations_are_those_that_torch_counts(options: dict[str, Any]) -> None:
    network = tiny(**options)
    spec = read_spec(network.state_dict())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(2, 3, 24, 16))
    assert spec.flops((2, 3, 24, 16)) == counter.get_total_flops()


def test_bytes_grow_with_the_picture_and_hold_the_weights() -> None:
    spec = read_spec(tiny().state_dict())
    weights = sum(value.numel() for value in tiny(fused_init=True).parameters())
    one, four = spec.bytes_moved((1, 3, 16, 16)), spec.bytes_moved((1, 3, 32, 32))
    assert (four - 4 * weights) == 4 * (one - 4 * weights)
    assert spec.bytes_moved((1, 3, 16, 16), width_of_value=2) * 2 == one


def test_figures() -> None:
    def timing(*seconds: float) -> Timing:
        return Timing(Contender("x", "onnx", Path()), seconds, 0, 0, 0)

    # The second round was slow for both: the ratio of the medians would say 2, and so does that of each round.
    slow, fast = timing(2, 20, 2.2, 2), timing(1, 10, 1.1, 1)
    assert fast.ratio(slow) == pytest.approx(2)
    assert timing(1, 2, 3, 4, 5).median == 3
    assert timing(4, 4, 4).spread == 0


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> list[Contender]:
    """All that is compared, of a tiny network."""
    folder = tmp_path_factory.mktemp("contenders")
    return prepare(save(tiny(), folder / "2x_Tiny.pth"), folder)


class TestContenders:
    """Every one of them is the network."""

    def test_names(self, prepared: list[Contender]) -> None:
        assert prepared[0].name == BASELINE
        names = [contender.name for contender in prepared]
        assert len(set(names)) == len(names)
        assert sum(contender.peer for contender in prepared) == 2
        assert ("ours, in OpenVINO" in names) == (importlib.util.find_spec("openvino") is not None)

    def test_peers_are_what_they_are_called(self, prepared: list[Contender]) -> None:
        unfused, traced = (onnx.load(contender.path) for contender in prepared if contender.peer)
        assert sum(node.op_type == "Conv" for node in unfused.graph.node) == 5 + 2 * 3
        assert sum(node.op_type == "Conv" for node in traced.graph.node) == 5 + 3
        assert traced.opset_import[0].version == 17

    def test_outputs(self, prepared: list[Contender]) -> None:
        lr = photo_input((1, 3, 24, 36))
        runnable = [contender for contender in prepared if contender.kind != "torch compiled"]
        outputs = [open_contender(contender, "cpu", 1)(lr) for contender in runnable]
        for contender, output in zip(runnable, outputs, strict=True):
            assert np.abs(output - outputs[0]).max() < 1e-4, contender.name

    @pytest.mark.long
    def test_a_process_each(self, prepared: list[Contender]) -> None:
        lr = photo_input((1, 3, 16, 16))
        chosen = [prepared[0], next(c for c in prepared if c.kind == "file")]
        timings = measure(chosen, lr, threads=1, rounds=3, warmup=1)
        assert [len(timing.seconds) for timing in timings] == [3, 3]
        assert timings[0].max_abs == 0
        assert 0 < timings[1].max_abs < 1e-4
        # Without torch a process is smaller: each really has its own memory.
        assert timings[1].peak_rss < timings[0].peak_rss
        with pytest.raises(RunnerError, match="other: no contender of kind"):
            measure([Contender("other", "nothing", prepared[0].path)], lr, threads=1, rounds=2)

    def test_half_precision_in_torch(self, prepared: list[Contender]) -> None:
        lr = photo_input((1, 3, 16, 24))
        expected = open_contender(prepared[0], "cpu", 1)(lr)
        for kind in ("torch half", "torch half channels_last"):
            output = open_contender(Contender(kind, kind, prepared[0].path, half=True), "cpu", 1)(lr)
            assert output.dtype == np.float32
            assert 1e-6 < np.abs(output - expected).max() < 5e-2


class TestRoofline:
    """What the machine reaches is measured in the same run, and nothing is expected to be faster."""

    @pytest.mark.long
    def test_gauges_run(self) -> None:
        machine = gauged(measure(gauges("cpu"), photo_input((1, 3, 8, 8)), threads=1, rounds=2, warmup=1), "cpu")
        assert min(machine.flops, machine.bandwidth) > 1e8
        assert machine.half_flops is None

    def test_the_best_of_all_counts(self) -> None:
        kinds = {"product": (2.0, 4.0), "product onnx": (3.0, 1.0), "copy": (5.0, 2.0), "product half": (0.5, 0.6)}
        timings = [Timing(Contender(k, k, Path(), half="half" in k), s, 0, 0, 0) for k, s in kinds.items()]
        machine = gauged(timings, "cpu")
        twice = gauged([Timing(t.contender, (1e9, *t.seconds), 0, 0, 0) for t in timings], "cpu")
        assert machine == twice
        assert machine.flops == 2 * 2048**3
        assert machine.half_flops == 4 * 2048**3
        assert machine.bandwidth == 2**28

    def test_the_slower_of_both_limits(self) -> None:
        machine = Machine(flops=100, half_flops=400, bandwidth=10)
        assert machine.roofline(1000, 10, half=False) == 10
        assert machine.roofline(1000, 10, half=True) == 2.5
        assert machine.roofline(1000, 1000, half=True) == 100
        assert Machine(100, None, 10).roofline(1000, 10, half=True) == 10


def test_the_table_fits_80_columns(prepared: list[Contender]) -> None:
    row = {"median_s": 1.2345, "spread": 1.21, "ratio": 12.34, "gflops": 12345, "share_of_peak": 1.0}
    row |= {"share_of_roofline": 1.0, "peak_rss_mib": 12345, "max_abs": 1e-7}
    names = [contender.name for contender in prepared]
    out = io.StringIO()
    rows = [{"name": name, **row} for name in names]
    Console(file=out, width=80).print(_table({"model": "x", "shape": [1, 3, 8, 8], "contenders": rows}))
    lines = out.getvalue().splitlines()
    for name in names:
        (line,) = (line for line in lines if line.strip().startswith(name + " "))
        assert line.split()[-8:] == ["1234.5", "121%", "12.34", "12345", "100%", "100%", "12345", "1e-07"]


def test_command(checkpoint_file: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
    assert call("export", checkpoint_file, "-o", tmp_path).code == 0
    (model,) = tmp_path.glob("*.onnx")
    words = ("--shape", "1x3x16x24", "--rounds", 2, "--warmup", 1, "--device", "cpu", "--json")
    ran = call("benchmark", model, model, *words)
    assert ran.code == 0, ran.err
    (result,) = ran.json["results"]
    assert result["shape"] == [1, 3, 16, 24]
    assert [row["max_abs"] for row in result["contenders"]] == [0, 0]
    assert ran.json["threads"] == usable_cores()
    assert ran.json["peak_gflops"] > 0
    assert ran.json["bandwidth_gb"] > 0
    assert all(0 < row["share_of_peak"] <= row["share_of_roofline"] for row in result["contenders"])


@pytest.mark.parametrize("device", first_of(["cuda", "tensorrt"]))
def test_a_gpu_that_is_not_there_is_one_line(checkpoint_file: Path, device: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    words = [sys.executable, "-m", "aether_deploy.benchmark", str(checkpoint_file), "--device", device]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.splitlines() == [
        "error: this PyTorch sees no CUDA device 0, available: cpu; choose --device cpu, or see to the driver"
    ]


def test_a_contender_that_fails_takes_the_others_down_quietly(
    prepared: list[Contender], capfd: pytest.CaptureFixture[str]
) -> None:
    bad = [Contender("first", "nothing", Path()), Contender("second", "nothing", Path())]
    with pytest.raises(RunnerError, match="first: no contender of kind"):
        measure([*bad, prepared[0]], photo_input((1, 3, 8, 8)), threads=1, rounds=2)
    assert "Traceback" not in capfd.readouterr().err
