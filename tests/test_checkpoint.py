"""Every wrapper, prefix and type that the wild has; and what is refused, in one line."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from aether_deploy.errors import CheckpointError, ConfigError
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.experiment import newest_checkpoint
from tests.helpers.commands import Ran, error_line
from tests.helpers.networks import save, tiny

State = dict[str, torch.Tensor]


def _prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize("key", ["params", "params_ema", "params-ema", "params_g", "net_g", "state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.module."])
def test_wrappers_and_prefixes(tmp_path: Path, key: str | None, prefix: str) -> None:
    state = _prefixed(tiny().state_dict(), prefix) | {"n_averaged": torch.tensor(3)}
    torch.save({key: OrderedDict(state)} if key else state, tmp_path / "net.pth")
    checkpoint = load_checkpoint(tmp_path / "net.pth")
    assert checkpoint.param_key == (key or "(bare)")
    assert set(checkpoint.state_dict) == set(tiny().state_dict())
    checkpoint.build()


def test_ema_is_preferred_in_neosr_order_and_a_key_can_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"params": tiny().state_dict(), "params_ema": tiny(scale=4).state_dict()}, path)
    assert load_checkpoint(path).spec.scale == 4
    assert load_checkpoint(path, param_key="params").spec.scale == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    checkpoint = load_checkpoint(save(tiny().to(dtype), tmp_path / "net.pth"))
    assert checkpoint.dtype == str(dtype).removeprefix("torch.")
    assert {value.dtype for value in checkpoint.state_dict.values()} == {torch.float32}


def test_channels_last_becomes_contiguous(tmp_path: Path) -> None:
    path = save(tiny().to(memory_format=torch.channels_last), tmp_path / "net.pth")
    assert all(value.is_contiguous() for value in load_checkpoint(path).state_dict.values())


def test_safetensors_equals_pth(tmp_path: Path) -> None:
    network = tiny()
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    first, second = load_checkpoint(tmp_path / "net.safetensors"), load_checkpoint(save(network, tmp_path / "net.pth"))
    assert first.spec == second.spec
    assert all(torch.equal(first.state_dict[key], value) for key, value in second.state_dict.items())


def test_img_range_from_options_and_flag(tmp_path: Path, checkpoint_file: Path) -> None:
    options = tmp_path / "train.toml"
    options.write_text(
        'scale = 2\n[network_g]\ntype = "aether"\nembed_dim = 12\ndepths = [1, 2]\nlk_kernel = 7\nimg_range = 255.0\n'
    )
    assert load_checkpoint(checkpoint_file).spec.img_range == 1.0
    assert load_checkpoint(checkpoint_file, options=options).spec.img_range == 255.0
    assert load_checkpoint(checkpoint_file, options=options, img_range=2.0).spec.img_range == 2.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("network_g: {type: aether}", "no TOML"),
        ("scale = 2", r"no \[network_g\]"),
        ('scale = 4\n[network_g]\ntype = "aether_small"', "scale is 4 there, but the weights have 2"),
        ('[network_g]\ntype = "aether_small"', "embed_dim is 96"),
        ('[network_g]\nembed_dim = 12\ndepths = [1, 2]\nlk_kernel = 7\nimg_range = "a"', "img_range"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, checkpoint_file: Path, text: str, says: str) -> None:
    options = tmp_path / "train.toml"
    options.write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_checkpoint(checkpoint_file, options=options)


class TestExperimentFolder:
    """`experiments/<name>`: the highest iteration, unless latest is at least as new."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        models = tmp_path / "my_experiment" / "models"
        models.mkdir(parents=True)
        names = ("net_g_900", "net_g_1000", "net_g_latest", "net_d_2000", "net_g_3000_archived_1", "readme")
        for seconds, name in enumerate(names):
            path = save(tiny(), models / f"{name}.pth")
            os.utime(path, (1000 + seconds, 1000 + seconds))
        return models.parent

    def test_latest_if_as_new(self, folder: Path) -> None:
        assert newest_checkpoint(folder).name == "net_g_latest.pth"

    def test_highest_iteration_if_newer(self, folder: Path) -> None:
        os.utime(folder / "models" / "net_g_1000.pth", (2000, 2000))
        assert newest_checkpoint(folder).name == "net_g_1000.pth"

    def test_without_latest(self, folder: Path) -> None:
        (folder / "models" / "net_g_latest.pth").unlink()
        assert newest_checkpoint(folder).name == "net_g_1000.pth"

    def test_names_the_model_after_the_experiment(self, folder: Path) -> None:
        assert load_checkpoint(folder).name == "my_experiment"

    def test_the_command_says_which_it_took(self, folder: Path, call: Callable[..., Ran]) -> None:
        ran = call("inspect", folder, "--json")
        assert ran.json["file"].endswith("net_g_latest.pth")
        assert "took net_g_latest.pth, the newest of 3" in ran.err

    def test_without_any(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no net_g_"):
            load_checkpoint(tmp_path)


class _RunsCode:
    def __reduce__(self) -> Any:
        return os.system, ("touch owned",)


def _missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def _truncated(path: Path) -> None:
    data = save(tiny(), path).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _with_nan(path: Path) -> None:
    network = tiny()
    network.layers[0][0].ffn.fc2.weight.data[1, 2] = float("nan")
    save(network, path)


def _without_a_key(path: Path) -> None:
    state = dict(tiny().state_dict())
    del state["layers.1.1.ffn.fc2.bias"]
    torch.save({"params": state}, path)


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing file": (_missing, "cannot be read"),
    "truncated": (_truncated, "damaged or cut off"),
    "pickle that runs code": (lambda path: torch.save({"params": _RunsCode()}, path), "posix.system"),
    "bare pickle that runs code": (
        lambda path: path.write_bytes(pickle.dumps(_RunsCode(), protocol=2)),
        "posix.system",
    ),
    "text": (lambda path: path.write_text("hello, I am no checkpoint"), "no PyTorch checkpoint"),
    "empty": (lambda path: path.write_bytes(b""), "no PyTorch checkpoint"),
    "second generation": (
        lambda path: torch.save({"stages.0.0.ffn.conv_gate.weight": torch.ones(1)}, path),
        "second generation",
    ),
    "no weights": (lambda path: torch.save({"iter": 3}, path), "no weights below"),
    "a list": (lambda path: torch.save([torch.ones(1)], path), "holds a list"),
    "NaN": (_with_nan, "layers.0.0.ffn.fc2.weight holds 1 NaN"),
    "one key missing": (_without_a_key, "missing: layers.1.1.ffn.fc2.bias"),
    "integers": (lambda path: torch.save({"conv_first.weight": torch.ones(1, dtype=torch.int8)}, path), "int8"),
    "twice": (
        lambda path: torch.save({"a": torch.ones(1), "module.a": torch.ones(1), "layers.0": torch.ones(1)}, path),
        "twice",
    ),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("command", ["inspect", "fuse", "export"])
def test_bad_input_is_one_line_and_no_file(
    tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, command: str, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make, says = BAD[what]
    make(tmp_path / "net.pth")
    before = sorted(tmp_path.iterdir())
    ran = call(command, tmp_path / "net.pth")
    assert ran.code == 1
    assert says in error_line(ran)
    assert sorted(tmp_path.iterdir()) == before


def test_a_param_key_that_is_not_there(call: Callable[..., Ran], checkpoint_file: Path) -> None:
    ran = call("fuse", checkpoint_file, "--param-key", "params_ema")
    assert ran.code == 1
    assert "no param_key 'params_ema'; available: params" in error_line(ran)
    assert list(checkpoint_file.parent.iterdir()) == [checkpoint_file]


def test_a_cut_safetensors_file(tmp_path: Path, call: Callable[..., Ran]) -> None:
    path = tmp_path / "net.safetensors"
    save_file(tiny().state_dict(), path)
    path.write_bytes(path.read_bytes()[:1000])
    ran = call("inspect", path)
    assert ran.code == 1
    assert "no whole safetensors file" in error_line(ran)
