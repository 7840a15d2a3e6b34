"""Every options file of export_configs in real neosr; and from a training to a validated fused file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tomlkit

from aether_deploy.neosr_run.neosr import Neosr, run_neosr
from aether_deploy.network.aether_spec import AetherSpec
from aether_deploy.network.checkpoint import load_checkpoint
from tests.helpers.commands import Ran, error_line
from tests.helpers.neosr_checkout import make_checkout, make_photos

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parents[1] / "export_configs"
TRAINING = sorted(path.stem for path in CONFIGS.glob("train_*.toml"))

# Builds what train.py builds before its first iteration: dataset, network, losses, optimizer, schedule.
BUILD_ALL = """
import sys
from pathlib import Path
import torch
from neosr.data import build_dataset
from neosr.models import build_model
from neosr.utils.options import parse_options

torch.set_default_device("cuda")
for path in Path("configs").glob("*.toml"):
    sys.argv[2] = str(path)
    options, _ = parse_options("here", is_train=True)
    sizes = [len(build_dataset(data)) for data in options["datasets"].values()]
    network = build_model(options).net_g
    shape = sum(len(stage) for stage in network.layers), network.conv_first.out_channels, network.scale
    print("built", path.stem, *shape, min(sizes), flush=True)
"""

SNIPPET = """
name = "snippet"
scale = 2
[datasets.test_1]
name = "none"
[path]

[network_g]
type = "aether_medium"
embed_dim = 24
depths = [2, 1, 1]
mlp_ratio = 2.0
lk_kernel = 9
sk_kernel = 3
fused_init = true
"""


@pytest.mark.long
@pytest.mark.parametrize("scale", [2, 4])
def test_each_training_options_file_loads_in_neosr_as_it_is(
    tmp_path: Path, scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process for each scale, which neosr keeps from its first import."""
    chosen = [CONFIGS / f"{name}.toml" for name in TRAINING if name.endswith(f"x{scale}")]
    assert len(chosen) >= 3
    checkout = make_checkout(tmp_path / "checkout", train=BUILD_ALL)
    (tmp_path / "configs").mkdir()
    for path in chosen:
        (tmp_path / "configs" / path.name).write_bytes(path.read_bytes())
        for data in tomllib.loads(path.read_text())["datasets"].values():
            for key in ("dataroot_gt", "dataroot_lq"):
                if not (tmp_path / data[key]).exists():
                    make_photos(tmp_path / data[key], (8, 8))
    monkeypatch.chdir(tmp_path)
    run_neosr(Neosr(checkout), "train", chosen[0], tmp_path / "log")
    log = (tmp_path / "log").read_text().splitlines()
    built = {words[1]: words[2:] for line in log if (words := line.split())[:1] == ["built"]}
    assert set(built) == {path.stem for path in chosen}
    assert built[f"train_small_x{scale}"] == ["16", "96", str(scale), "1"]
    assert built[f"train_medium_x{scale}"] == ["36", "128", str(scale), "1"]
    assert built[f"train_large_x{scale}"] == ["64", "180", str(scale), "1"]


@pytest.mark.long
def test_the_snippet_of_the_readme_works_with_its_parameters_uncommented(tmp_path: Path) -> None:
    script = """
from neosr.archs import build_network
from neosr.utils.options import parse_options

options, _ = parse_options("here", is_train=False)
network = build_network(options["network_g"])
assert [len(stage) for stage in network.layers] == [2, 1, 1]
assert network.layers[0][0].conv.fused_conv.weight.shape == (24, 1, 9, 9)
"""
    (tmp_path / "snippet.toml").write_text(SNIPPET)
    checkout = make_checkout(tmp_path / "checkout", test=script)
    run_neosr(Neosr(checkout), "test", tmp_path / "snippet.toml", tmp_path / "log")


def test_the_commented_parameters_are_the_variant_s_own() -> None:
    from aether_deploy.network.definition import arch

    for name in [*TRAINING, "test_validate"]:
        text = (CONFIGS / f"{name}.toml").read_text()
        if name == "train_sample_x2":
            continue
        network = tomllib.loads(text)["network_g"]
        section = text[text.index("[network_g]") :].replace("\n#", "\n").replace("\n ", "\n")
        stated = {key: value for line in section.splitlines() if (pair := _pair(line)) for key, value in [pair]}
        preset = arch.PRESETS[network["type"]]
        assert {key: stated[key] for key in preset} == preset | {"depths": list(preset["depths"])}


def _pair(line: str) -> tuple[str, object] | None:
    key = line.partition(" = ")[0]
    known = ("embed_dim", "depths", "mlp_ratio", "lk_kernel", "sk_kernel")
    return (key, tomllib.loads(line)[key]) if key in known else None


def test_from_a_training_to_a_validated_fused_file(
    tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From aether_small's options file, only shorter, on smaller patches, and two of its defaults overridden."""
    options = tomlkit.parse((CONFIGS / "train_small_x2.toml").read_text())
    options["datasets"]["train"].update({"patch_size": 8, "batch_size": 1, "num_worker_per_gpu": 1})
    options["network_g"].update({"embed_dim": 16, "depths": [1, 2]})
    options["val"]["val_freq"] = 2
    options["logger"].update({"total_iter": 4, "save_checkpoint_freq": 2, "print_freq": 1})
    (tmp_path / "options.toml").write_text(tomlkit.dumps(options))
    for kind in ("train", "val"):
        make_photos(tmp_path / "datasets" / kind / "gt", (12, 10), (12, 10), scale=2)
        photos = make_photos(tmp_path / "datasets" / kind / "lq_x2", (12, 10), (12, 10))
    monkeypatch.chdir(tmp_path)

    trained = call("train", "options.toml", "--json")
    assert trained.code == 0, trained.err
    experiment = Path(trained.json["experiment"])
    assert Path(trained.json["checkpoint"]).name == "net_g_latest.pth"
    assert {path.name for path in (experiment / "models").iterdir()} == {
        "net_g_2.pth",
        "net_g_4.pth",
        "net_g_latest.pth",
    }
    spec = load_checkpoint(experiment).spec
    assert isinstance(spec, AetherSpec)
    assert spec.depths == (1, 2)

    assert call("fuse", experiment, "-o", "2x_new_fused.pth").code == 0
    words = ["--images", photos, "--gt", tmp_path / "datasets" / "val" / "gt", "--json"]
    ran = call("validate", "2x_new_fused.pth", "--against", experiment, *words)
    assert ran.code == 0, ran.err
    found = ran.json
    assert found["unfused"]["forwards"] == 2
    assert (found["unfused"]["fused"], found["fused"]["fused"]) == (False, True)
    assert found["passed"] and found["parity"]["figures"]["max_abs"] < 1e-5
    assert all(np.isfinite(image["psnr"]).all() for image in found["images"])
    assert tomllib.loads((Path(found["folder"]) / "fused.toml").read_text())["network_g"]["fused_init"]


def test_training_options_are_checked_before_neosr_starts(tmp_path: Path, call: Callable[..., Ran]) -> None:
    wrong = tmp_path / "options.toml"
    wrong.write_text('name = "x"\n[network_g]\ntype = "aether"\n')
    assert "no [train] table" in error_line(call("train", wrong))
    wrong.write_text('name = "x"\n[network_g]\ntype = "aether"\n[train]\n')
    assert "--resume needs --neosr" in error_line(call("train", wrong, "--resume"))
    wrong.write_text('name = "x"\n[network_g]\ntype = "aether"\n[train]\n[datasets.train]\naccumulate = 2\n')
    assert "accumulate needs --neosr" in error_line(call("train", wrong))


@pytest.mark.long
def test_too_few_images_for_one_batch_end_a_training_at_once(
    tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("train", "val"):
        make_photos(tmp_path / "datasets" / kind / "gt", (12, 10), scale=2)
        make_photos(tmp_path / "datasets" / kind / "lq_x2", (12, 10))
    monkeypatch.chdir(tmp_path)
    ran = call("train", CONFIGS / "train_small_x2.toml")
    assert ran.code == 1
    assert "1 images are fewer than batch_size" in ran.err
