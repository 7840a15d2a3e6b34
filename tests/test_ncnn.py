"""ncnn networks: what is written is what ncnn runs, under the names that the programs of the field look for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from aether_deploy.artifacts import ncnn_file
from aether_deploy.artifacts.opening import open_runner
from aether_deploy.errors import RunnerError
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.pictures.images import read_image
from aether_deploy.proof.tolerances import TOLERANCES
from aether_deploy.runners.devices import Device
from aether_deploy.runners.ncnn import NcnnRunner, require_ncnn
from aether_deploy.runners.pytorch import TorchRunner
from aether_deploy.samples import PHOTOS
from tests.helpers.commands import Ran, error_line
from tests.helpers.neosr_checkout import make_photos
from tests.helpers.networks import SAMPLE, calm, save
from tests.helpers.variations import first_of

pytestmark = pytest.mark.slow

STEM = "2x_aether_sample"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, call: Callable[..., Ran]) -> Path:
    """The packaged sample in fp32 and fp16."""
    folder = tmp_path_factory.mktemp("ncnn")
    ran = call("export", SAMPLE, "-o", folder, "--format", "ncnn", "--precision", "fp32", "--precision", "fp16")
    assert ran.code == 0, ran.err
    return folder


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """The fp32 file with its parts, to be damaged."""
    for file in exported.glob(f"{STEM}_fp32*"):
        shutil.copy(file, tmp_path)
    return tmp_path / f"{STEM}_fp32.param"


def test_what_is_written(exported: Path) -> None:
    suffixes = ("bin", "param", "param.json")
    names = [f"{STEM}_{precision}.{suffix}" for precision in ("fp16", "fp32") for suffix in suffixes]
    assert sorted(path.name for path in exported.iterdir()) == names
    exact, half = (json.loads((exported / f"{STEM}_{name}.param.json").read_text()) for name in ("fp32", "fp16"))
    assert exact["parity"]["gate"] == "fp32" and half["parity"]["gate"] == "fp16"
    assert exact["artifact"]["bytes"] > 1.9 * half["artifact"]["bytes"]
    assert (exact["ffn"], exact["artifact"]["kind"]) == ("conv1x1", "ncnn")
    assert {"pnnx", "ncnn"} <= exact["tools"].keys()


def test_the_ends_have_the_names_that_upscayl_looks_for(exported: Path, call: Callable[..., Ran]) -> None:
    net = require_ncnn().Net()
    assert net.load_param(str(exported / f"{STEM}_fp32.param")) == 0
    assert (net.input_names(), net.output_names()) == (["data"], ["output"])
    found = call("inspect", exported / f"{STEM}_fp32.param", "--json").json
    assert (list(found["inputs"]), list(found["outputs"])) == (["data"], ["output"])
    assert found["manifest"] == "sha256 matches"


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 37, 50)])
def test_any_size_and_batch(exported: Path, shape: tuple[int, int, int, int]) -> None:
    lr = np.random.default_rng(0).random(shape, np.float32)
    expected = TorchRunner.from_checkpoint(load_checkpoint(SAMPLE)).run(lr)
    with open_runner(exported / f"{STEM}_fp32.param") as runner:
        assert np.abs(runner.run(lr) - expected).max() < TOLERANCES["fp32"].max_abs


def test_commands_take_it(exported: Path, call: Callable[..., Ran], tmp_path: Path) -> None:
    half = exported / f"{STEM}_fp16.param"
    ran = call("parity", SAMPLE, half, "--json")
    assert ran.code == 0 and ran.json["gate"] == "fp16"
    ran = call("upscale", half, PHOTOS / "coffee.png", "-o", tmp_path / "a.png", "--json")
    assert ran.json["runner"] == "ncnn fp16 CPU"
    assert call("verify", exported, "--json").code == 0
    assert call("benchmark", half, "--shape", "1x3x16x16", "--rounds", "3", "--json").code == 0


@pytest.mark.long
def test_a_network_of_one_channel_and_another_scale(tmp_path: Path, call: Callable[..., Ran]) -> None:
    source = save(calm(in_chans=1, scale=3), tmp_path / "3x_Grey.pth")
    ran = call("export", source, "--format", "ncnn", "--json")
    assert ran.code == 0, ran.err
    with open_runner(ran.json["artifacts"][0]["file"]) as runner:
        assert (runner.in_chans, runner.scale) == (1, 3)


class TestGate:
    """Whatever ncnn would run otherwise is refused, and nothing is left behind."""

    @pytest.mark.parametrize(
        ("right", "wrong"),
        first_of([("1=1.000000e-6", "1=1.000000e-3"), ("GELU                     ", "Swish                    ")]),
    )
    def test_a_wrong_conversion(
        self, right: str, wrong: str, tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rename = ncnn_file._renamed

        def damaged(text: str) -> str:
            assert right in text
            return rename(text.replace(right, wrong))

        monkeypatch.setattr(ncnn_file, "_renamed", damaged)
        ran = call("export", SAMPLE, "-o", tmp_path, "--format", "ncnn")
        assert ran.code == 3
        assert "is not the network as it was trained" in error_line(ran)
        assert not list(tmp_path.iterdir())

    def test_a_converter_that_fails(
        self, tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ncnn_file, "_require_pnnx", lambda: "false")
        ran = call("export", SAMPLE, "-o", tmp_path, "--format", "ncnn")
        assert (ran.code, "pnnx cannot convert" in error_line(ran)) == (1, True)

    def test_changed_weights(self, copied: Path, call: Callable[..., Ran]) -> None:
        weights = copied.with_suffix(".bin")
        data = bytearray(weights.read_bytes())
        data[1000] ^= 1
        weights.write_bytes(data)
        assert "not the file that was proved" in error_line(call("upscale", copied, PHOTOS / "coffee.png"))
        assert call("verify", copied.parent).code == 1

    def test_another_network_and_no_layers_to_look_into(
        self, copied: Path, tmp_path: Path, call: Callable[..., Ran]
    ) -> None:
        other = torch.load(SAMPLE)
        other["params"]["conv_last.bias"] += 1e-2
        torch.save(other, tmp_path / "other.pth")
        make_photos(tmp_path / "photos", (24, 16))
        words = ("--images", tmp_path / "photos")
        ran = call("parity", tmp_path / "other.pth", copied, *words)
        assert ran.code == 3
        assert "locate" not in error_line(ran)
        assert "locate" in error_line(call("parity", SAMPLE, tmp_path / "other.pth", *words))

    def test_somebody_elses_weights_are_not_replaced(self, tmp_path: Path, call: Callable[..., Ran]) -> None:
        theirs = tmp_path / f"{STEM}_fp32.bin"
        theirs.write_bytes(b"theirs")
        assert "--overwrite" in error_line(call("export", SAMPLE, "-o", tmp_path, "--format", "ncnn"))
        assert theirs.read_bytes() == b"theirs"

    def test_weights_that_are_gone(self, copied: Path, call: Callable[..., Ran]) -> None:
        copied.with_suffix(".bin").unlink()
        assert ".bin: cannot be read" in error_line(call("inspect", copied))

    def test_a_strangers_file(self, copied: Path, call: Callable[..., Ran], tmp_path: Path) -> None:
        copied.with_name(f"{copied.name}.json").unlink()
        words = ("upscale", copied, PHOTOS / "coffee.png", "-o", tmp_path / "a.png")
        assert "no manifest vouches for it" in error_line(call(*words))
        assert call(*words, "--trust").code == 0

    @pytest.mark.parametrize(
        "text", ["", "7767517\n2 2\nInput data 0 1 data\n", "7767517\n1 1\nInput data x y z\n", "\0"]
    )
    def test_what_is_no_list_of_layers(self, text: str, tmp_path: Path, call: Callable[..., Ran]) -> None:
        path = tmp_path / "a.param"
        path.write_text(text)
        path.with_suffix(".bin").write_bytes(b"")
        assert "no list of ncnn's layers" in error_line(call("inspect", path))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--precision", "bf16"), "ncnn has no bf16 here"),
        (("--precision", "int8"), "ncnn has no int8 here"),
        (("--static", "1x3x32x32"), "are not for ncnn"),
        (("--precision", "fp16", "--io", "fp16"), "are not for ncnn"),
    ],
)
def test_what_ncnn_does_not_have(options: tuple[str, ...], said: str, call: Callable[..., Ran]) -> None:
    assert said in error_line(call("export", SAMPLE, "--format", "ncnn", *options))


@pytest.mark.parametrize("device", ["cuda", "openvino", "vulkan:7"])
def test_devices_that_it_does_not_run_on(device: str, exported: Path) -> None:
    with pytest.raises(RunnerError, match=device):
        open_runner(exported / f"{STEM}_fp32.param", device=device)


# Mesa's software Vulkan compiles for half a minute.
@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_through_vulkan(precision: str, exported: Path) -> None:
    if not require_ncnn().get_gpu_count():
        pytest.skip("Vulkan finds no device; Debian's mesa-vulkan-drivers has one in software")
    # Neither side nor their product is a multiple of 4: planes in memory are not aligned.
    lr = np.ascontiguousarray(read_image(PHOTOS / "coffee.png")[:, :, :37, :53])
    expected = TorchRunner.from_checkpoint(load_checkpoint(SAMPLE)).run(lr)
    found = NcnnRunner(exported / f"{STEM}_{precision}.param", precision=precision, device=Device("vulkan")).run(lr)
    # Its fp32 is another one than the CPU's: 0.02 of a level was seen, and 0.29 in fp16.
    assert np.abs(found - expected).max() < (TOLERANCES["fp16"].max_abs if precision == "fp16" else 0.05 / 255)
