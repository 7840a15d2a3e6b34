"""The figures, the gate and the report."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray

from aether_deploy.artifacts.opening import open_runner
from aether_deploy.artifacts.pipeline import export_model
from aether_deploy.network.aether import fuse_aether, read_spec
from aether_deploy.network.definition import arch
from aether_deploy.precisions.forms import onnx_model
from aether_deploy.precisions.variant import Variant
from aether_deploy.proof.cases import Case
from aether_deploy.proof.figures import Figures, figures_of
from aether_deploy.proof.manifest import manifest_path
from aether_deploy.proof.tolerances import TOLERANCES
from aether_deploy.proof.verdict import ParityError, Reference, _failure, capture, verify
from aether_deploy.runners.onnx_runtime import OnnxRunner
from aether_deploy.runners.rounded import RoundedRunner
from tests.helpers.commands import Ran, error_line
from tests.helpers.files import insert_casts
from tests.helpers.networks import calm, randomize, save, tiny

pytestmark = pytest.mark.slow

GRAY = np.full((1, 3, 4, 6), 0.5, np.float32)


def test_figures_of_a_known_difference() -> None:
    other = GRAY.copy()
    other[0, 0, 0, 0] += 0.1
    figures = figures_of(GRAY, other)
    assert figures.max_abs == pytest.approx(0.1)
    assert figures.mean_abs == pytest.approx(0.1 / 72)
    assert figures.psnr == pytest.approx(-10 * math.log10(0.01 / 72))
    assert figures.max_level == 25  # 0.5 * 255 rounds to 128, 0.6 * 255 to 153
    assert figures.levels_share == pytest.approx(1 / 72)


def test_equal_is_infinite_psnr_and_clamping_hides_what_no_eye_sees() -> None:
    assert figures_of(GRAY, GRAY).psnr == math.inf
    assert figures_of(GRAY + 1, GRAY + 2).max_level == 0


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        figures_of(GRAY, GRAY[:, :, 1:])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["reference", "candidate", "both"])
def test_a_value_that_is_not_finite_never_passes(value: float, side: str) -> None:
    bad = GRAY.copy()
    bad[0, 1, 2, 3] = value
    reference = bad if side != "candidate" else GRAY
    candidate = bad if side != "reference" else GRAY
    report = verify(capture(lambda _: reference, [Case("gray", GRAY)]), lambda _: candidate, "fp32")
    assert not report.passed
    json.dumps(report.as_dict(), allow_nan=False)


@pytest.mark.parametrize("gate", TOLERANCES)
def test_each_limit_closes_the_gate(gate: str) -> None:
    limit = TOLERANCES[gate]
    lr = np.zeros((1, 3, 64, 64), np.float32)
    reference = capture(lambda x: x.astype(np.float64), [Case("zeros", lr)])

    def shifted(by: float, where: slice) -> bool:
        def run(x: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
            out = x.astype(np.float64)
            out[..., where] += by
            return out

        return verify(reference, run, gate).passed

    assert shifted(0.9 * limit.mean_abs, slice(None))
    assert not shifted(1.1 * limit.mean_abs, slice(None))
    assert not shifted(1.1 * limit.max_abs, slice(0, 1))


def test_what_is_drawn_may_err_more_in_half_precision_and_photos_may_not() -> None:
    limit = TOLERANCES["fp16"]
    lr = np.zeros((1, 3, 64, 64), np.float32)
    error = 1.5 * limit.mean_abs

    def passed(*, drawn: bool, gate: str = "fp16") -> bool:
        reference = capture(lambda x: x, [Case("flat", lr, drawn=drawn)])
        return verify(reference, lambda x: x + error, gate).passed

    assert passed(drawn=True)
    assert not passed(drawn=False)
    assert not passed(drawn=True, gate="fp32")
    assert TOLERANCES["fp32"].for_drawn() == TOLERANCES["fp32"]


def test_a_wrong_shape_fails_and_names_both() -> None:
    report = verify(capture(lambda x: x, [Case("gray", GRAY)]), lambda x: x[:, :, 1:], "fp32")
    with pytest.raises(ParityError, match=r"shape \(1, 3, 3, 6\), expected \(1, 3, 4, 6\)"):
        report.require("it")


def test_no_cases_is_no_proof() -> None:
    assert not verify(capture(lambda x: x, []), lambda x: x, "fp32").passed


def test_worst_prefers_the_failed_case() -> None:
    cases = [Case("fine", GRAY), Case("bad", GRAY[:, :, :2])]
    reference = capture(lambda x: x, cases)
    report = verify(reference, lambda x: x + (1e-4 if x.shape[2] == 2 else 1.9e-7), "fp32")
    assert report.worst.case.startswith("bad")
    assert report.overall.max_abs == pytest.approx(1e-4, rel=1e-2)


def test_the_command_on_two_checkpoints(tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path) -> None:
    assert call("fuse", checkpoint_file, "-o", tmp_path / "fused.pth").code == 0
    ran = call("parity", checkpoint_file, tmp_path / "fused.pth", "--json")
    assert ran.code == 0
    assert ran.json["passed"]
    assert ran.json["figures"]["max_abs"] < 1e-5


def test_the_command_closes(tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path) -> None:
    other = tiny()
    other.layers[0][0].conv.lk_bias.data[0] += 1e-2
    ran = call("parity", checkpoint_file, save(other, tmp_path / "other.pth"), "--json")
    assert ran.code == 3
    assert "is not the network" in error_line(ran)
    assert not ran.json["parity"]["passed"]


def test_an_fp32_file_is_run_as_it_is_written(tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path) -> None:
    """ONNX Runtime's CPU provider would drop a pair of Casts around an operator, and the file would look right."""
    assert call("export", checkpoint_file).code == 0
    path = tmp_path / "2x_Tiny_fp32_op20.onnx"
    assert call("parity", checkpoint_file, path).code == 0
    insert_casts(path)
    manifest_path(path).unlink()
    ran = call("parity", checkpoint_file, path, "--json")
    assert ran.code == 3
    assert "is not the network" in error_line(ran)
    assert ran.json["parity"]["gate"] == "fp32"
    # And dropped they are, where nothing executes them as they are written.
    lr = np.random.default_rng(0).random((1, 3, 24, 32), dtype=np.float32)
    with open_runner(checkpoint_file) as trained, OnnxRunner(path) as dropped, RoundedRunner(path) as written:
        expected = trained.run(lr)
        assert np.abs(dropped.run(lr) - expected).max() < 1e-5
        assert np.abs(written.run(lr) - expected).max() > 1e-4


def test_a_file_that_is_not_the_one_its_manifest_describes(
    tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path
) -> None:
    assert call("export", checkpoint_file).code == 0
    path = tmp_path / "2x_Tiny_fp32_op20.onnx"
    model = onnx.load(path)
    model.doc_string = "the same network, another file"
    onnx.save(model, path)
    for words in ((checkpoint_file, path), (path, checkpoint_file)):
        ran = call("parity", *words)
        assert ran.code == 1
        assert "not the file that was proved" in error_line(ran)
        ran = call("parity", *words, "--trust", "--json")
        assert ran.code == 0, ran.err
        assert ran.json["passed"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One network as ONNX in fp32 and fp16."""
    folder = tmp_path_factory.mktemp("files")
    network = fuse_aether(calm(scale=2, embed_dim=12, depths=(1, 1)))
    spec = read_spec(network.state_dict())
    for precision in ("fp32", "fp16"):
        ir.save(onnx_model(network, spec, Variant(precision)), folder / f"{precision}.onnx")
    return folder / "fp32.onnx", folder / "fp16.onnx"


class TestDevice:
    """What both run on, and how it is said."""

    @pytest.mark.parametrize("words", [(), ("--device", "cpu")])
    def test_the_cpu_executes_half_precision_as_its_types_say(
        self, words: tuple[str, ...], files: tuple[Path, Path], call: Callable[..., Ran]
    ) -> None:
        ran = call("parity", *files, *words, "--json")
        assert ran.code == 0, ran.err
        assert ran.json["runners"] == ["ONNX Runtime fp32 CPU", "faithful fp16 on the CPU"]
        # ONNX Runtime's own CPU provider, which drops the roundings, errs by less.
        assert ran.json["figures"]["max_abs"] > 1e-4

    def test_auto_is_the_cpu_where_nothing_else_is(
        self, files: tuple[Path, Path], call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if torch.cuda.is_available():
            pytest.skip("CUDA is here")
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
        ran = call("parity", *files, "--device", "auto")
        assert ran.code == 0, ran.err
        assert "(ONNX Runtime fp32 CPU)" in ran.out
        assert "(faithful fp16 on the CPU)" in ran.out
        assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"

    def test_one_that_is_not_there(
        self, files: tuple[Path, Path], checkpoint_file: Path, call: Callable[..., Ran]
    ) -> None:
        if torch.cuda.is_available():
            pytest.skip("CUDA is here")
        for a, b in (files, files[::-1]):
            ran = call("parity", a, b, "--device", "cuda")
            assert ran.code == 1
            assert "--device cuda: no NVIDIA driver here" in error_line(ran)
        ran = call("parity", checkpoint_file, files[0], "--device", "cuda")
        assert ran.code == 1
        assert "no CUDA device 0, available: cpu" in error_line(ran)


def test_the_command_refuses_another_scale(tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path) -> None:
    ran = call("parity", checkpoint_file, save(tiny(scale=3), tmp_path / "other.pth"))
    assert ran.code == 1
    assert "two files of one network" in error_line(ran)


def test_photos_of_the_users_own(tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path) -> None:
    ran = call("fuse", checkpoint_file, "--images", checkpoint_file)
    assert ran.code == 1
    assert "not a folder; give one that holds pictures" in error_line(ran)
    (tmp_path / "photos").mkdir()
    ran = call("fuse", checkpoint_file, "--images", tmp_path / "photos")
    assert "no picture in it" in error_line(ran)


class TestLargeOutputs:
    """fp32's limits grow with outputs that are larger than a picture's, as errors of float arithmetic do."""

    @staticmethod
    def _report(size: float, error: float, gate: str = "fp32") -> bool:
        rng = np.random.default_rng(0)
        expected = (size * rng.random((1, 3, 16, 16))).astype(np.float64)
        actual = expected + error * rng.choice([-1.0, 1.0], expected.shape)
        report = verify(capture(lambda _: expected, [Case("x", GRAY)]), lambda _: actual, gate)
        return report.passed

    def test_a_right_network_with_outputs_of_seven_passes(self) -> None:
        """Measured: right networks of that kind err by more than the 1e-6 on average that pictures are allowed."""
        assert self._report(7, 2e-6)
        assert not self._report(1, 2e-6)
        assert not self._report(2, 2e-6)

    def test_a_random_network_with_large_outputs(self, tmp_path: Path) -> None:
        network = randomize(arch.AetherNet(scale=2, embed_dim=48, depths=(2, 2), lk_kernel=11, sk_kernel=3))
        with torch.no_grad():
            for parameter in network.conv_last.parameters():
                parameter.mul_(4)
        (made,) = export_model(save(network, tmp_path / "net.pth"))
        assert made.report.overall.mean_abs > TOLERANCES["fp32"].mean_abs
        assert made.report.passed

    def test_it_grows_no_faster_than_the_outputs(self) -> None:
        assert not self._report(7, 7e-6)

    def test_levels_of_a_picture_do_not_grow(self) -> None:
        assert not self._report(7, 4e-4, "fp16")


def test_what_is_allowed_grows_with_outputs_beyond_twice_white() -> None:
    """fp32's limits are for pictures; of outputs up to 5 they are two and a half times as large."""
    for largest, factor in ((1.9, 1.0), (2.0, 1.0), (5.0, 2.5), (float("inf"), 1.0)):
        output = np.array([[[[0.5, -largest]]]], np.float32)
        reference = Reference((Case("x", output),), (output,))
        result = verify(reference, lambda _: output, "fp32").results[0]  # noqa: B023
        assert result.allowed == pytest.approx(2e-5 * factor), largest


def test_another_shape_is_another_network() -> None:
    case = Case("x", np.zeros((1, 3, 2, 2), np.float32))
    reference = Reference((case,), (np.zeros((1, 3, 4, 4), np.float32),))
    (result,) = verify(reference, lambda _: np.zeros((1, 3, 6, 6), np.float32), "fp32").results
    assert result.case == "x 1x3x2x2"
    assert result.failure == "shape (1, 3, 6, 6), expected (1, 3, 4, 4)"
    figures = result.figures
    assert all(map(math.isnan, (figures.max_abs, figures.mean_abs, figures.psnr)))
    assert (figures.max_level, figures.levels_share, figures.nan, figures.inf) == (255, 1.0, 0, 0)


def test_what_is_just_allowed_is_allowed() -> None:
    """Each limit met exactly passes, and exceeded by the least fails; one NaN or one infinite value fails."""
    row = TOLERANCES["fp16"]
    met = Figures(row.max_abs, row.mean_abs, row.min_psnr, 1, 0.5, 0, 0)
    assert _failure(met, row) == ""
    for name, value, said in (
        ("max_abs", math.nextafter(row.max_abs, 1), "max abs error"),
        ("mean_abs", math.nextafter(row.mean_abs, 1), "mean abs error"),
        ("psnr", math.nextafter(row.min_psnr, 0), "PSNR"),
        ("nan", 1, "1 NaN and 0 infinite values"),
        ("inf", 1, "0 NaN and 1 infinite values"),
    ):
        exceeded = Figures(**{**dataclasses.asdict(met), name: value})
        assert said in _failure(exceeded, row)
