"""Real neosr decides: a right fusion passes, and whatever is not the trained network ends with 3 or 1."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from aether_deploy.neosr_run.neosr import Neosr, run_neosr
from aether_deploy.network.aether_spec import fuse_state_dict
from aether_deploy.pictures.quality import psnr, ssim
from tests.helpers.commands import Ran, error_line
from tests.helpers.neosr_checkout import make_checkout, make_photos
from tests.helpers.networks import save, tiny
from tests.helpers.variations import first_of

pytestmark = pytest.mark.slow

State = dict[str, Tensor]
Call = Callable[..., Ran]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A tiny network as neosr wrote it."""
    return save(tiny(), tmp_path / "2x_Tiny.pth")


@pytest.fixture
def fused(tmp_path: Path) -> Path:
    """The same network, rightly fused."""
    return save_state(fuse_state_dict(tiny().state_dict()), tmp_path / "2x_Tiny_fused.pth")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """One photo of an odd size."""
    return make_photos(tmp_path / "photos", (13, 11))


def save_state(state: State, path: Path) -> Path:
    torch.save({"params": state}, path)
    return path


@pytest.mark.long
def test_the_fused_network_is_the_trained_one(
    tmp_path: Path, trained: Path, fused: Path, photos: Path, call: Call
) -> None:
    # Larger than 2x by a pixel, as a photo is that was cut for another scale.
    truth = make_photos(tmp_path / "gt", (27, 23))
    ran = call("validate", fused, "--against", trained, "--images", photos, "--gt", truth, "--json")
    assert ran.code == 0, ran.err
    said = ran.json
    assert said["passed"]
    assert said["parity"]["figures"]["max_abs"] < 1e-5
    assert (said["unfused"]["fused"], said["fused"]["fused"]) == (False, True)
    folder = Path(said["folder"])
    assert folder == tmp_path / "2x_Tiny_fused_validation"
    assert json.loads((folder / "validation.json").read_text()) == said

    (image,) = said["images"]
    assert image["name"] == "photo_0"
    with Image.open(folder / "neosr" / "aether_fused" / "images" / "photo_0_aether_fused.png") as saved:
        output = np.asarray(saved)
    with Image.open(truth / "photo_0.png") as opened:
        expected = np.asarray(opened)[:22, :26]
    assert image["psnr"][1] == pytest.approx(peak_signal_noise_ratio(expected, output))
    assert image["ssim"][1] == pytest.approx(ssim(expected, output))
    assert set(said["neosr_printed"]) == {"psnr", "ssim"}

    # The options file is kept.
    options = tomllib.loads((folder / "fused.toml").read_text())
    assert options["network_g"]["fused_init"]
    assert options["path"]["strict_load_g"]
    assert "tile" not in options["val"]
    assert "use_amp" not in options


@pytest.mark.long
def test_its_options_run_again_by_hand(tmp_path: Path, trained: Path, fused: Path, photos: Path, call: Call) -> None:
    ran = call("validate", fused, "--against", trained, "--images", photos, "--json")
    assert ran.code == 0, ran.err
    options = Path(ran.json["folder"]) / "fused.toml"
    assert run_neosr(Neosr(), "test", options, tmp_path / "again.log").forwards == 1


def test_a_missing_small_kernel_fails_though_the_images_hardly_show_it(
    tmp_path: Path, trained: Path, photos: Path, call: Call
) -> None:
    state = tiny().state_dict()
    for key in state:
        if key.endswith("sk_conv.weight"):
            state[key] = state[key] * 0.99
    wrong = save_state(fuse_state_dict(state), tmp_path / "wrong_fused.pth")
    ran = call("validate", wrong, "--against", trained, "--images", photos, "--json")
    assert ran.code == 3
    assert "wrong_fused.pth is not the network as it was trained: photo_0" in error_line(ran)
    assert not ran.json["parity"]["passed"]
    assert not json.loads((tmp_path / "wrong_fused_validation" / "validation.json").read_text())["passed"]


@pytest.mark.long
def test_text_output_says_with_what_it_ran(trained: Path, fused: Path, photos: Path, call: Call) -> None:
    """Also the second run into one folder, which leaves nothing archived behind and compares nothing stale."""
    folder = fused.with_name("2x_Tiny_fused_validation")
    make_photos(folder / "neosr" / "aether_fused" / "images", (26, 22))
    ran = call("validate", fused, "--against", trained, "--images", photos)
    assert ran.code == 0
    assert ("without CUDA" in ran.out) == (not torch.cuda.is_available())
    assert "neosr 0.1.0" in ran.out
    assert "2x_Tiny_fused.pth is the trained network" in ran.out
    assert sorted(path.name for path in (folder / "neosr").iterdir()) == ["aether_fused", "aether_unfused"]


@pytest.mark.parametrize("wrapping", first_of(["ema and compile", "channels_last half", "bare safetensors"], 0))
def test_whatever_neosr_or_a_trainer_wraps_weights_in(
    tmp_path: Path, fused: Path, photos: Path, call: Call, wrapping: str
) -> None:
    state: State = tiny().state_dict()
    path = tmp_path / "net_g_8.pth"
    if wrapping == "ema and compile":
        wrapped = {f"module.module._orig_mod.{key}": value for key, value in state.items()}
        torch.save({"params": wrapped | {"n_averaged": torch.tensor(8)}}, path)
    elif wrapping == "channels_last half":
        half = {key: value.half() for key, value in state.items()}
        last = {k: v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in half.items()}
        save_state(last, path)
        save_state(fuse_state_dict({key: value.float() for key, value in half.items()}), fused)
    else:
        from safetensors.torch import save_file

        path = path.with_suffix(".safetensors")
        save_file(state, path)
    ran = call("validate", fused, "--against", path, "--images", photos, "--json")
    assert ran.code == 0, ran.err
    # neosr itself reads half precision; of the others it ran a plain copy, and that is said.
    assert len(ran.json["notes"]) == (0 if wrapping == "channels_last half" else 1)


OWN = """# My own test.
name = "mine"
model_type = "image"
scale = 2
my_key = 1 # kept

[datasets.test_1]
name = "own"
type = "single"
dataroot_lq = "photos"

[val]
pbar = false

[network_g]
type = "aether"
embed_dim = 12
depths = [ 1, 2 ]
lk_kernel = 7
"""


@pytest.mark.long
def test_own_options_are_kept_but_for_paths_and_fused_init(
    tmp_path: Path, trained: Path, fused: Path, photos: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    monkeypatch.chdir(photos.parent)
    ran = call("validate", fused, "--against", trained, "--opt", "own.toml", "-o", "out", "--json")
    assert ran.code == 0, ran.err
    written = (tmp_path / "out" / "unfused.toml").read_text()
    assert "# My own test." in written
    assert "my_key = 1 # kept" in written
    before, after = tomllib.loads(OWN), tomllib.loads(written)
    assert after["network_g"] == before["network_g"] | {"fused_init": False}
    assert after["datasets"] == before["datasets"]
    assert set(after["path"]) == {"pretrain_network_g", "results_root", "strict_load_g"}


@pytest.mark.long
def test_a_wrong_scale_in_own_options(tmp_path: Path, trained: Path, fused: Path, photos: Path, call: Call) -> None:
    (tmp_path / "own.toml").write_text(OWN.replace("scale = 2", "scale = 4"))
    ran = call("validate", fused, "--against", trained, "--images", photos, "--opt", tmp_path / "own.toml")
    assert ran.code == 1
    # neosr's own lines come first, its traceback among them; the error is the last line.
    assert "the weights do not fit" in ran.err.splitlines()[-1]
    assert "neosr: neosr left its pipeline early with exit code 0" in ran.err.splitlines()


@pytest.mark.long
@pytest.mark.parametrize(
    ("script", "message"),
    [("import sys; sys.exit(0)", "without a receipt"), ("pass", "without running the network once")],
)
def test_a_neosr_that_does_nothing_and_ends_with_0(
    tmp_path: Path, trained: Path, fused: Path, photos: Path, call: Call, script: str, message: str
) -> None:
    checkout = make_checkout(tmp_path / "checkout", test=f"import torch\n{script}\n")
    ran = call("validate", fused, "--against", trained, "--images", photos, "--neosr", checkout)
    assert ran.code == 1
    assert message in error_line(ran)


@pytest.mark.long
def test_an_arch_of_another_author_with_our_names(
    tmp_path: Path, trained: Path, fused: Path, photos: Path, call: Call
) -> None:
    other = (
        "from neosr.utils.registry import ARCH_REGISTRY\n\n@ARCH_REGISTRY.register()\ndef aether():\n    return None\n"
    )
    checkout = make_checkout(tmp_path / "checkout", aethernet_arch=other)
    ran = call("validate", fused, "--against", trained, "--images", photos, "--neosr", checkout)
    assert ran.code == 1
    assert "another *_arch.py of that neosr registers the same names" in error_line(ran)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("validate trained --against trained --images photos", "FUSED takes the fused checkpoint"),
        ("validate fused --against fused --images photos", "--against takes the unfused checkpoint"),
        ("validate fused --against other --images photos", "two networks"),
        ("validate fused --against gone --images photos", "cannot be read"),
        ("validate fused --against trained", "no images"),
        ("validate fused --against trained --images empty", "no picture"),
        ("validate fused --against trained --images mixed", "notes.txt is no image"),
        ("validate fused --against trained --images twins", "two images named photo_0"),
        ("validate fused --against trained --images photos --gt more", "not in both"),
        ("validate fused --against trained --images photos --neosr empty", "no test.py"),
        ("validate fused --against trained --opt gone", "cannot be read"),
        ("validate fused --against trained --opt training.toml", "[datasets.train]"),
        ("validate fused --against trained --opt amp.toml", "use_amp = true"),
        ("validate fused --against trained --opt tile.toml", "tile in [val]"),
        ("validate fused --against trained --opt plain.toml", "no [network_g]"),
    ],
)
def test_wrong_input_is_named_before_neosr_starts(
    tmp_path: Path, trained: Path, fused: Path, photos: Path, call: Call, words: str, message: str
) -> None:
    for name in ("mixed", "twins", "more"):
        make_photos(tmp_path / name, *[(4, 4)] * (2 if name == "more" else 1))
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed" / "notes.txt").touch()
    Image.new("RGB", (4, 4)).save(tmp_path / "twins" / "photo_0.jpg")
    (tmp_path / "training.toml").write_text(OWN.replace("test_1", "train"))
    (tmp_path / "amp.toml").write_text("use_amp = true\n" + OWN)
    (tmp_path / "tile.toml").write_text(OWN.replace("pbar = false", "tile = 64"))
    (tmp_path / "plain.toml").write_text("x = 1\n")
    save(tiny(embed_dim=8), tmp_path / "other")
    names: dict[str, Any] = {"trained": trained, "fused": fused}
    paths = [names.get(word, word if word.startswith("-") else tmp_path / word) for word in words.split()[1:]]
    ran = call("validate", *paths)
    assert ran.code == 1
    assert message in error_line(ran)


def test_quality_is_that_of_scikit_image() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)
    image = np.clip(truth + rng.integers(-20, 20, truth.shape), 0, 255).astype(np.uint8)
    assert psnr(truth, image) == pytest.approx(peak_signal_noise_ratio(truth, image))
    theirs = structural_similarity(
        truth, image, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(truth, image) == pytest.approx(theirs)
    assert psnr(truth, truth) == float("inf")
    assert np.isnan(ssim(truth[:4], image[:4]))
