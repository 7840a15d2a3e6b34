"""Networks that spandrel knows: read, fused, proved, exported and run as AetherNet is, or refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
import safetensors
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from aether_deploy.artifacts.checkpoint_file import fuse_checkpoint
from aether_deploy.artifacts.opening import open_runner
from aether_deploy.errors import AetherDeployError, CheckpointError, ConfigError, ReparameterizationError
from aether_deploy.fusions import span
from aether_deploy.fusions.kernels import beside, chained
from aether_deploy.graphs.exporter import export_onnx
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.families import spec_from_dict
from aether_deploy.network.family import Sizes
from aether_deploy.network.spandrel_network import network_class
from aether_deploy.network.spandrel_spec import SpandrelSpec
from aether_deploy.pictures.sizes import run_fitted
from aether_deploy.proof.cases import parity_cases
from aether_deploy.proof.verdict import ParityError
from aether_deploy.runners.pytorch import TorchRunner
from benchmarks import sample_psnr
from tests.helpers.commands import Ran, error_line
from tests.helpers.spandrel_networks import COMPACT, SPAN, save_random


@pytest.fixture(scope="module")
def trained_span() -> Any:
    return load_checkpoint(SPAN)


@pytest.fixture(scope="module")
def fused_span(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fuse_checkpoint(SPAN, tmp_path_factory.mktemp("span") / "2x_span_fused.safetensors").output


class TestReading:
    def test_span(self, trained_span: Any) -> None:
        spec = trained_span.spec
        assert (spec.family, spec.architecture, spec.scale, spec.in_chans, spec.fused) == (
            "spandrel",
            "SPAN",
            2,
            3,
            False,
        )
        assert spec.describe() == "SPAN x2, unfused, 142,320 parameters"
        assert spec.as_fused().describe() == "SPAN x2, fused, 27,084 parameters"

    def test_what_has_nothing_to_fuse_is_in_its_deployed_form(self) -> None:
        spec = load_checkpoint(COMPACT).spec
        assert spec.describe() == "Compact (SRVGGNetCompact) x2, fused, 45,156 parameters"
        assert spec.as_fused() == spec

    def test_its_outputs_are_spandrels(self, trained_span: Any) -> None:
        from spandrel import ModelLoader

        image = np.random.default_rng(0).random((1, 3, 20, 17), dtype=np.float32)
        theirs = ModelLoader().load_from_file(SPAN).eval().model(torch.from_numpy(image)).detach().numpy()
        with TorchRunner.from_checkpoint(trained_span) as runner:
            np.testing.assert_array_equal(runner.run(image), theirs)

    @pytest.mark.parametrize("path", [SPAN, COMPACT], ids=["span", "compact"])
    def test_the_trained_ones_beat_bicubic(self, path: Path) -> None:
        with open_runner(path) as runner:
            gains = list(sample_psnr.gains(runner).values())
        assert sum(gains) / len(gains) > 0.5
        assert min(gains) > 0

    @pytest.mark.long
    def test_a_network_that_gives_more_than_an_image(self, tmp_path: Path) -> None:
        """FBCNN also gives a quality; spandrel takes the image."""
        path = save_random(tmp_path / "f.pth", "FBCNN", "FBCNN", nc=[8, 8, 8, 512], nb=4)
        with open_runner(path) as runner:
            assert runner.run(np.zeros((1, 3, 24, 16), np.float32)).shape == (1, 3, 24, 16)

    def test_a_network_that_draws_random_numbers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compact = network_class("Compact", "SRVGGNetCompact")
        plain = compact.forward
        monkeypatch.setattr(compact, "forward", lambda self, x: plain(self, x + 1e-3 * torch.randn_like(x)))
        with pytest.raises(CheckpointError, match="Compact gives another picture each time"):
            load_checkpoint(COMPACT)

    @pytest.mark.long
    def test_aurasr_is_one_of_them(self, tmp_path: Path) -> None:
        style = {"dim_in": 16, "dim_out": 64, "depth": 2}
        options = {"image_size": 256, "input_image_size": 64, "style_network": style, "unconditional": True}
        path = save_random(tmp_path / "a.pth", "AuraSR", "UnetUpsampler", dim=16, **options)
        with pytest.raises(CheckpointError, match="AuraSR gives another picture each time"):
            load_checkpoint(path)

    def test_a_network_that_takes_no_batch_is_one_line(self, tmp_path: Path, call: Callable[..., Ran]) -> None:
        """DRUNet, to which spandrel gives how strong the noise is, as one more channel of one picture."""
        path = save_random(tmp_path / "d.pth", "DRUNet", "DRUNet", in_nc=4, out_nc=3, nc=[8, 8, 8, 8])
        ran = call("export", path)
        assert ran.code == 1
        assert "DRUNet does not run on 2x3x40x24" in error_line(ran)
        assert "--static" in error_line(ran)

    def test_integers_among_the_weights(self, tmp_path: Path) -> None:
        options = {"embed_dim": 12, "depths": [1], "num_heads": [2], "window_size": 4, "upscale": 2}
        path = save_random(tmp_path / "s.pth", "SwinIR", "SwinIR", upsampler="pixelshuffledirect", **options)
        checkpoint = load_checkpoint(path)
        assert {value.dtype for value in checkpoint.state_dict.values()} == {torch.float32, torch.int64}
        assert checkpoint.spec.as_dict()["tiling"] == "discouraged"

    def test_other_keys_than_any(self, tmp_path: Path, call: Callable[..., Ran]) -> None:
        torch.save({"params": {"body.one.weight": torch.zeros(3, 3)}}, tmp_path / "x.pth")
        ran = call("inspect", tmp_path / "x.pth")
        assert ran.code == 1
        assert "none of the" in ran.err and "architectures of spandrel" in ran.err

    @pytest.mark.parametrize("change", ["missing", "shape", "NaN"])
    def test_damaged(self, tmp_path: Path, change: str) -> None:
        state_dict = torch.load(SPAN)["params"]
        if change == "missing":
            del state_dict["block_2.c1_r.sk.weight"]
        elif change == "shape":
            state_dict["block_2.c1_r.sk.weight"] = torch.zeros(1, 2, 3)
        else:
            state_dict["block_2.c1_r.sk.weight"][0] = torch.nan
        torch.save({"params": state_dict}, tmp_path / "x.pth")
        with pytest.raises(CheckpointError) as raised:
            load_checkpoint(tmp_path / "x.pth")
        assert "\n" not in str(raised.value)

    def test_img_range_only_where_there_is_one(self, trained_span: Any) -> None:
        assert trained_span.spec.with_img_range(1.0).options["img_range"] == 1.0
        compact = load_checkpoint(COMPACT).spec
        assert compact.with_img_range(1.0) is compact
        with pytest.raises(ConfigError, match="Compact has no such option"):
            compact.with_img_range(255.0)

    def test_its_description_survives_json(self, trained_span: Any) -> None:
        spec = trained_span.spec
        assert spec_from_dict(json.loads(json.dumps(spec.as_dict()))) == spec

    @pytest.mark.parametrize(
        "change",
        [
            {"architecture": "../x"},
            {"network": 5},
            {"scale": 0},
            {"scale": True},
            {"in_chans": 99},
            {"options": []},
            {"options": {"n": 10**9}},
            {"options": {"n": [1] * 5000}},
            {"sizes": {"minimum": 1, "multiple": 0, "square": False}},
            {"sizes": None},
            {"cost": {"flops": -1}},
            {"fused": "yes"},
        ],
        ids=str,
    )
    def test_a_strangers_description(self, trained_span: Any, change: dict[str, Any]) -> None:
        with pytest.raises(CheckpointError):
            SpandrelSpec.from_dict({**trained_span.spec.as_dict(), **change})


class TestFusing:
    def test_a_fifth_of_the_parameters(self, fused_span: Path, trained_span: Any) -> None:
        fused = load_checkpoint(fused_span)
        counts = [sum(value.numel() for value in held.state_dict.values()) for held in (trained_span, fused)]
        assert counts[1] / counts[0] < 0.2
        assert fused.spec == trained_span.spec.as_fused()

    def test_the_file_says_how_it_is_loaded(self, fused_span: Path) -> None:
        with safetensors.safe_open(fused_span, "pt") as file:
            stated = json.loads(file.metadata()["aether_deploy.network"])
        assert (stated["architecture"], stated["options"]["feature_channels"]) == ("SPAN", 12)

    def test_the_command(self, tmp_path: Path, call: Callable[..., Ran]) -> None:
        ran = call("fuse", SPAN, "-o", tmp_path)
        assert ran.code == 0
        assert "no other program has a fused SPAN" in ran.out
        assert (tmp_path / "2x_span_sample_fused.safetensors").exists()

    def test_a_pth_has_no_room_for_that(self, tmp_path: Path) -> None:
        with pytest.raises(ReparameterizationError, match=r"give a \.safetensors file"):
            fuse_checkpoint(SPAN, tmp_path / "x.pth")

    @pytest.mark.parametrize("change", ["no JSON", "another network", "another width", "far too wide"])
    def test_a_file_that_says_something_else(self, tmp_path: Path, fused_span: Path, change: str) -> None:
        with safetensors.safe_open(fused_span, "pt") as file:
            stated = json.loads(file.metadata()["aether_deploy.network"])
        if change == "another width":
            stated["options"]["feature_channels"] = 16
        elif change == "far too wide":
            stated["options"]["feature_channels"] = 1024
        elif change == "another network":
            stated.update(architecture="Compact", network="SRVGGNetCompact")
        text = "{" if change == "no JSON" else json.dumps(stated)
        save_file(load_file(fused_span), tmp_path / "x.safetensors", {"aether_deploy.network": text})
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / "x.safetensors")

    @pytest.mark.parametrize("wrong", ["branch dropped", "bias forgotten", "kernel shifted"])
    def test_a_wrong_fusion_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
        if wrong == "branch dropped":
            monkeypatch.setattr(span, "beside", lambda branches: beside(branches[:1]))
        elif wrong == "bias forgotten":
            monkeypatch.setattr(span, "kernel_of", lambda conv: (conv.weight.double(), conv.bias.double() * 0))
        else:
            monkeypatch.setattr(span, "chained", lambda *pair: (chained(*pair)[0].roll(1, -1), chained(*pair)[1]))
        with pytest.raises(ParityError):
            fuse_checkpoint(SPAN, tmp_path / "x.safetensors")
        assert list(tmp_path.iterdir()) == []


def test_an_input_that_is_changed_in_place_is_a_copy() -> None:
    """RCAN multiplies its input in place; the case that it is stays what it was."""
    torch.manual_seed(0)
    options = {"scale": 2, "n_resgroups": 1, "n_resblocks": 1, "n_feats": 8, "reduction": 4}
    runner = TorchRunner(network_class("RCAN", "RCAN")(**options).eval(), in_chans=3, scale=2)
    image = np.random.default_rng(0).random((1, 3, 8, 9), dtype=np.float32)
    before = image.copy()
    np.testing.assert_array_equal(runner.run(image), runner.run(image))
    np.testing.assert_array_equal(image, before)


class TestSizes:
    def test_the_least_that_is_taken(self) -> None:
        assert Sizes().fit(7, 9) == (7, 9)
        assert Sizes(minimum=16, multiple=8).fit(7, 17) == (16, 24)
        assert Sizes(multiple=4, square=True).fit(7, 9) == (12, 12)

    def test_every_case_is_one_that_the_network_takes(self) -> None:
        sizes = Sizes(minimum=8, multiple=8, square=True)
        photo = np.zeros((1, 3, 30, 40), np.float32)
        for case in parity_cases([("photo", photo)], sizes=sizes):
            assert sizes.fit(*case.lr.shape[2:]) == case.lr.shape[2:]

    def test_other_pictures_are_mirrored_and_cropped(self, tmp_path: Path) -> None:
        path = save_random(tmp_path / "c.pth", "RealCUGAN", "UpCunet2x_fast")
        with open_runner(path) as runner:
            assert runner.spec is not None
            assert runner.spec.sizes == Sizes(minimum=40, multiple=4)
            image = np.random.default_rng(0).random((1, 3, 10, 53), dtype=np.float32)
            result = run_fitted(runner, image)
            assert result.shape == (1, 3, 20, 106)
            mirrored = np.pad(image, ((0, 0), (0, 0), (0, 30), (0, 3)), mode="symmetric")
            expected = runner.run(mirrored)[:, :, :20, :106]
        np.testing.assert_array_equal(result, expected)


@pytest.mark.slow
class TestExport:
    @pytest.fixture(scope="class")
    @staticmethod
    def exported(tmp_path_factory: pytest.TempPathFactory, call: Callable[..., Ran]) -> Path:
        folder = tmp_path_factory.mktemp("exported")
        ran = call("export", SPAN, "--precision", "fp32", "--precision", "fp16", "-o", folder)
        assert ran.code == 0, ran.err
        return folder

    def test_fused_on_the_way(self, exported: Path) -> None:
        model = onnx.load(exported / "2x_span_sample_fp32_op20.onnx")
        assert sum(node.op_type == "Conv" for node in model.graph.node) == 22
        names = {value.name for value in model.graph.initializer}
        assert "block_1.c1_r.weight" in names

    def test_half_precision_is_half(self, exported: Path) -> None:
        model = onnx.load(exported / "2x_span_sample_fp16_op20.onnx")
        kinds = [value.data_type for value in model.graph.initializer]
        assert kinds.count(onnx.TensorProto.FLOAT16) > 0.8 * len(kinds)

    def test_upscale(self, exported: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (21, 33, 3), np.uint8)).save(tmp_path / "a.png")
        ran = call("upscale", exported / "2x_span_sample_fp16_op20.onnx", tmp_path / "a.png", "-o", tmp_path / "b.png")
        assert ran.code == 0, ran.err
        assert Image.open(tmp_path / "b.png").size == (66, 42)

    def test_against_the_checkpoint(self, exported: Path, call: Callable[..., Ran]) -> None:
        assert call("parity", SPAN, exported / "2x_span_sample_fp32_op20.onnx").code == 0
        assert call("parity", COMPACT, exported / "2x_span_sample_fp32_op20.onnx").code == 3

    @pytest.mark.long
    def test_shape_arithmetic_stays_in_integers(self, tmp_path: Path, call: Callable[..., Ran]) -> None:
        """Compact enlarges its input by a Resize, whose scales are fp32 in every precision."""
        ran = call("export", COMPACT, "--precision", "fp16", "-o", tmp_path)
        assert ran.code == 0, ran.err
        model = onnx.load(tmp_path / "2x_compact_sample_fp16_op20.onnx")
        onnx.checker.check_model(model, full_check=True)
        (resize,) = (node for node in model.graph.node if node.op_type == "Resize")
        held = {value.name: value.data_type for value in model.graph.initializer}
        assert held[resize.input[2]] == onnx.TensorProto.FLOAT

    @pytest.mark.long
    def test_an_engine(self, exported: Path, call: Callable[..., Ran]) -> None:
        """Built for GPUs that are not here, from the proved file; so it says that it was not executed."""
        ran = call("export", SPAN, "--format", "tensorrt-rtx", "--precision", "fp16", "-o", exported)
        assert ran.code == 0, ran.err
        assert "not executed" in ran.out
        assert list(exported.glob("2x_span_sample_fp16_trtrtx*.engine"))

    @pytest.mark.long
    def test_an_exporter_that_crashes(self, trained_span: Any) -> None:
        """Unfused, SPAN's eval forward takes PyTorch 2.13's exporter and its process down."""
        with pytest.raises(AetherDeployError, match=r"crashed \(SIG[A-Z]+\) on SPAN|refuses SPAN") as raised:
            export_onnx(trained_span.build(), trained_span.spec)
        assert "--static" in str(raised.value)
        assert "\n" not in str(raised.value)

    @pytest.mark.long
    def test_the_exporter_does_not_outlive_a_killed_export(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "aether_deploy.export", str(COMPACT), "-o", str(tmp_path)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            exporter = _first_child(psutil.Process(process.pid), "export_process")
            process.kill()
        exporter.wait(30)


def _first_child(process: psutil.Process, name: str) -> psutil.Process:
    for _ in range(600):
        for child in process.children(recursive=True):
            if any(name in word for word in child.cmdline()):
                return child
        time.sleep(0.1)
    raise AssertionError(f"no {name} below {process}")
