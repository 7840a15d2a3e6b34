"""Recipes: what they may say, what is done of them, and above all what is not done again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import tomlkit
from click.testing import CliRunner

from aether_deploy.artifacts import pipeline
from aether_deploy.artifacts.opening import known_file
from aether_deploy.artifacts.pipeline import export_model
from aether_deploy.cli.app import main
from aether_deploy.errors import AetherDeployError, ConfigError
from aether_deploy.files import sha256_of
from aether_deploy.network.definition import arch
from aether_deploy.network.fusion import fuse_network
from aether_deploy.pictures.images import write_image
from aether_deploy.proof.manifest import read_manifest
from aether_deploy.recipes import keys, steps, work
from aether_deploy.recipes.recipe import Limits, read_recipe, schema
from aether_deploy.recipes.record import NAME
from aether_deploy.recipes.work import tolerances
from tests.helpers.commands import Ran, error_line
from tests.helpers.networks import calm, randomize, save, wrong_eps
from tests.helpers.variations import first_of

CONFIGS = Path(__file__).parents[1] / "export_configs"
RECIPES = sorted(CONFIGS.glob("recipe_*.toml"))
FUSED, ONNX, HALF = "2x_Tiny_fused.pth", "2x_Tiny_fp32_op20.onnx", "2x_Tiny_fp16_op20.onnx"


class Kitchen:
    """A recipe in a folder of its own, that tests change and run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoint = folder / "2x_Tiny.pth"
        self.out = folder / "out"
        self.photos = folder / "photos"
        self.recipe: dict[str, Any] = {
            "checkpoint": str(self.checkpoint),
            "output": str(self.out),
            "images": str(self.photos),
            "export": [{"precision": ["fp32", "fp16"]}],
            "report": {},
            "release": {"author": ["Ann"], "license": "MIT"},
        }

    def run(self, *words: object) -> Ran:
        path = self.folder / "recipe.toml"
        path.write_text(tomlkit.dumps(self.recipe))
        result = CliRunner().invoke(main, ["run", str(path), *map(str, words), "--json"], catch_exceptions=False)
        return Ran(result.exit_code, result.stdout, result.stderr)

    def states(self, *words: object) -> dict[str, str]:
        ran = self.run(*words)
        assert ran.code == 0, ran.err
        return {step["step"].split()[-1]: step["state"] for step in ran.json["steps"]}

    def hashes(self) -> dict[str, str]:
        return {
            path.relative_to(self.out).as_posix(): sha256_of(path) for path in self.out.rglob("*") if path.is_file()
        }


def fill(folder: Path) -> None:
    save(calm(scale=2, embed_dim=8, depths=(1,), lk_kernel=5, sk_kernel=3), folder / "2x_Tiny.pth")
    (folder / "photos").mkdir()
    _photo(folder / "photos" / "one.png", 0)


def _photo(path: Path, seed: int) -> None:
    write_image(path, np.random.default_rng(seed).random((1, 3, 20, 24)).astype(np.float32))


@pytest.fixture(scope="module")
def cooked(tmp_path_factory: pytest.TempPathFactory) -> Kitchen:
    """A recipe that was run once; nothing may change it."""
    kitchen = Kitchen(tmp_path_factory.mktemp("kitchen"))
    fill(kitchen.folder)
    states = kitchen.states()
    assert set(states.values()) == {"made"}
    return kitchen


@pytest.fixture
def kitchen(cooked: Kitchen, tmp_path: Path) -> Kitchen:
    """The same in a folder that may be changed, record and all."""
    copied = Kitchen(tmp_path / "k")
    shutil.copytree(cooked.folder, copied.folder)
    states = copied.states()
    assert set(states.values()) == {"unchanged"}, states
    return copied


def test_all_of_it_is_made(cooked: Kitchen) -> None:
    made = {path.name for path in cooked.out.iterdir()}
    files = [FUSED, ONNX, HALF]
    assert made == {*files, *(f"{name}.json" for name in files), f"{HALF}.html", "release", NAME}
    assert all(known_file(cooked.out / name).matches for name in files)
    assert (cooked.out / "release" / "SHA256SUMS").is_file()


def test_a_second_run_touches_nothing_and_imports_no_torch(cooked: Kitchen) -> None:
    before = {path: path.stat().st_mtime_ns for path in cooked.out.rglob("*")}
    code = (
        "import sys; from pathlib import Path; from aether_deploy.recipes.recipe import read_recipe; "
        "from aether_deploy.recipes.running import run_recipe; "
        "done = run_recipe(read_recipe(Path(sys.argv[1]))); "
        "assert {one.state for one in done} == {'unchanged'}, done; "
        "assert not {'torch', 'onnx', 'onnxruntime'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, cooked.folder / "recipe.toml"], check=True)
    assert {path: path.stat().st_mtime_ns for path in cooked.out.rglob("*")} == before


def test_times_are_nothing_to_it(kitchen: Kitchen) -> None:
    for path in kitchen.folder.rglob("*"):
        os.utime(path, (1, 1))
    assert set(kitchen.states().values()) == {"unchanged"}


def test_a_changed_photo_redoes_only_the_checks(kitchen: Kitchen) -> None:
    before = kitchen.hashes()
    _photo(kitchen.photos / "one.png", 1)
    assert kitchen.states() == {
        FUSED: "proved again",
        ONNX: "proved again",
        HALF: "proved again",
        f"{HALF}.html": "made",
        "release": "made",
    }
    after = kitchen.hashes()
    for name in (FUSED, ONNX, HALF):
        assert after[name] == before[name]
        assert after[f"{name}.json"] != before[f"{name}.json"]
        assert after[f"release/{name}"] == before[name]
        assert after[f"release/{name}.json"] == after[f"{name}.json"]
    assert set(kitchen.states().values()) == {"unchanged"}


def test_a_changed_limit_redoes_only_the_checks_of_its_precision(kitchen: Kitchen) -> None:
    kitchen.recipe["limits"] = {"fp16": {"levels": 0.45}}
    states = kitchen.states()
    assert (states[FUSED], states[ONNX], states[HALF]) == ("unchanged", "unchanged", "proved again")
    manifest = read_manifest(kitchen.out / HALF)
    assert manifest is not None
    assert manifest.parity is not None
    assert manifest.parity["tolerance"]["max_abs"] == pytest.approx(0.45 / 255)


def test_a_limit_that_is_not_met_ends_with_3_and_takes_nothing_away(kitchen: Kitchen) -> None:
    before = kitchen.hashes()
    kitchen.recipe["limits"] = {"fp16": {"levels": 1e-4}}
    ran = kitchen.run()
    assert ran.code == 3
    assert HALF in error_line(ran)
    assert {name: value for name, value in kitchen.hashes().items() if name != NAME} == {
        name: value for name, value in before.items() if name != NAME
    }
    assert kitchen.run().code == 3  # it is not forgotten
    del kitchen.recipe["limits"]
    assert set(kitchen.states().values()) == {"unchanged"}


def test_a_limit_holds_for_what_is_made_as_well(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path)
    fill(tmp_path)
    kitchen.recipe["limits"] = {"fp16": {"psnr": 150.0}}
    ran = kitchen.run()
    assert ran.code == 3
    assert not (kitchen.out / HALF).exists()
    assert known_file(kitchen.out / FUSED).matches


def test_another_precision_makes_only_its_file(kitchen: Kitchen) -> None:
    kitchen.recipe["export"][0]["precision"].append("bf16")
    kitchen.recipe["release"] = {**kitchen.recipe["release"], "description": "new"}
    states = kitchen.states("--dry-run")
    assert [states[name] for name in (FUSED, ONNX, HALF)] == ["unchanged"] * 3
    assert states["2x_Tiny_bf16_op22.onnx"] == "made"
    assert states["release"] == "made"


def test_8_bits_are_made_of_their_calibration(kitchen: Kitchen) -> None:
    """Another photo to calibrate on makes the file of 8 bits anew, and nothing else."""
    mine = kitchen.folder / "mine"
    mine.mkdir()
    _photo(mine / "a.png", 1)
    kitchen.recipe["export"].append({"precision": ["int8"], "calibration": str(mine), "quality": 71.0})

    def made_of() -> dict[str, str]:
        kitchen.run("--dry-run")
        steps_now = steps.plan_steps(work.Work(read_recipe(kitchen.folder / "recipe.toml")))
        return {step.files[0]: step.made_of() for step in steps_now if step.kind == "export"}

    before = made_of()
    assert len(before) == 3
    _photo(mine / "a.png", 2)
    after = made_of()
    assert [name for name in before if before[name] != after[name]] == ["2x_Tiny_int8_op20.onnx"]
    kitchen.recipe["export"][1]["quality"] = 60.0
    assert "need at least 70" in error_line(kitchen.run("--dry-run"))


def test_a_new_training_makes_everything(kitchen: Kitchen) -> None:
    save(calm(scale=2, embed_dim=8, depths=(1,), lk_kernel=3, sk_kernel=3), kitchen.checkpoint)
    assert set(kitchen.states("--dry-run").values()) == {"made"}


def test_a_new_tool_makes_everything(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = {**keys.tools(), "onnx": "99"}
    monkeypatch.setattr(work, "tools", lambda: newer)
    monkeypatch.setattr("aether_deploy.recipes.running.tools", lambda: newer)
    assert set(kitchen.states("--dry-run").values()) == {"made"}


@pytest.mark.parametrize("name", first_of([f"{ONNX}.json", FUSED, f"{HALF}.html", "release/README.md"]))
def test_a_file_that_is_gone_is_made_again(kitchen: Kitchen, name: str) -> None:
    (kitchen.out / name).unlink()
    states = kitchen.states()
    assert states[name.split("/")[0].removesuffix(".json")] == "made"
    assert (kitchen.out / name).is_file()
    assert set(kitchen.states().values()) == {"unchanged"}


def test_force_makes_everything(kitchen: Kitchen) -> None:
    assert set(kitchen.states("--force", "--dry-run").values()) == {"made"}


def test_a_file_of_somebody_elses_is_not_replaced(kitchen: Kitchen) -> None:
    (kitchen.out / ONNX).write_bytes(b"mine")
    ran = kitchen.run()
    assert ran.code == 1
    assert "was changed since this recipe made it" in error_line(ran)
    kitchen.recipe["name"] = "New"
    (kitchen.out / "2x_New_fused.pth").write_bytes(b"mine, too")
    assert "not made by this recipe" in error_line(kitchen.run())
    assert (kitchen.out / "2x_New_fused.pth").read_bytes() == b"mine, too"
    assert set(kitchen.states("--force").values()) == {"made"}


def test_edits_in_the_release_are_not_lost(kitchen: Kitchen) -> None:
    card = kitchen.out / "release/README.md"
    card.write_text("my own words")
    ran = kitchen.run()
    assert "release/README.md: was changed since the release was made" in error_line(ran)
    assert card.read_text() == "my own words"
    assert set(kitchen.states("--force").values()) == {"made"}
    (kitchen.out / "release/.git").mkdir()
    kitchen.recipe["name"] = "New"
    assert "release/.git: not of the release that would be replaced" in error_line(kitchen.run())
    assert "release/.git: not of" in error_line(kitchen.run("--force"))


@pytest.mark.long
def test_a_run_that_was_killed_goes_on(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    (kitchen.out / NAME).unlink()
    for path in (kitchen.out / ONNX, kitchen.out / HALF):
        path.unlink()
    shutil.rmtree(kitchen.out / "release")
    for path in kitchen.out.iterdir():
        path.unlink()

    def killed(*given: Any, **named: Any) -> Any:
        export_model(*given, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "export_model", killed)
    assert kitchen.run().code == 130
    assert (kitchen.out / ONNX).is_file()
    monkeypatch.undo()
    states = kitchen.states()
    assert states[FUSED] == "unchanged"
    assert states[ONNX] == "made"


def test_a_wrong_network_is_not_made(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    (kitchen.out / ONNX).unlink()
    monkeypatch.setattr(pipeline, "fuse_network", lambda *given: wrong_eps(fuse_network(*given)))
    ran = kitchen.run()
    assert ran.code == 3
    assert not (kitchen.out / ONNX).exists()


def test_a_file_that_became_wrong_is_found_when_it_is_checked_again(kitchen: Kitchen) -> None:
    """Somebody who changes the file, its manifest and the record is found by the photos."""
    import onnx
    from onnx import numpy_helper

    path = kitchen.out / ONNX
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda item: int(np.prod(item.dims)))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    onnx.save(model, path)
    text = (kitchen.out / f"{ONNX}.json").read_text()
    old = json.loads(text)["artifact"]["sha256"]
    (kitchen.out / f"{ONNX}.json").write_text(text.replace(old, sha256_of(path)))
    record = json.loads((kitchen.out / NAME).read_text())
    for step in record["steps"].values():
        for name in step["files"]:
            if name in (ONNX, f"{ONNX}.json"):
                step["files"][name] = sha256_of(kitchen.out / name)
    (kitchen.out / NAME).write_text(json.dumps(record))
    _photo(kitchen.photos / "one.png", 2)
    ran = kitchen.run()
    assert ran.code == 3
    assert ONNX in error_line(ran)


def test_a_damaged_record_is_no_record(kitchen: Kitchen) -> None:
    (kitchen.out / NAME).write_text("{")
    assert set(kitchen.states("--dry-run").values()) == {"made"}


def test_the_dry_run_shows_sizes_time_and_memory(cooked: Kitchen, tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path)
    kitchen.recipe = {**cooked.recipe, "output": str(tmp_path / "new")}
    ran = kitchen.run("--dry-run")
    assert ran.code == 0
    assert not (tmp_path / "new").exists()
    about = {step["step"].split()[-1]: step["about"] for step in ran.json["steps"]}
    for name in (FUSED, ONNX, HALF):
        real = (cooked.out / name).stat().st_size
        assert about[name]["bytes"] < real  # a network this small is mostly names
    assert all(0 < item["seconds"] < 120 and item["memory"] > 2**29 for item in about.values())
    assert "GiB of memory" in ran.err
    assert "next: python -m aether_deploy.run" in ran.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chekpoint": "x"}, "unknown key 'chekpoint'; did you mean 'checkpoint'?"),
        ({"export": [{"precison": ["fp32"]}]}, "unknown key 'export.1.precison'; did you mean 'precision'?"),
        ({"export": [{"precision": ["fp32"], "qqq": 1}]}, "unknown key 'export.1.qqq'; known: format, precision"),
        ({"limits": {"fp16": {"level": 1}}}, "did you mean 'levels'?"),
        ({"release": {"author": ["A"], "licence": "MIT", "license": "MIT"}}, "did you mean 'license'?"),
        ({"export": [{"precision": ["fp17"]}]}, "export.1.precision.1: 'fp17'; expected fp32, fp16, bf16"),
        ({"export": [{"static": "big"}]}, "'big'; expected four whole numbers"),
        ({"limits": {"fp17": {}}}, "'fp17'; expected fp32"),
        ({"output": 5}, "output: Input should be a valid string"),
        ({"output": ""}, "output: String should have at least 1 character"),
        ({"img_range": -1.0}, "img_range: Input should be greater than 0"),
        ({"release": {"author": ["A"]}}, "release.license is missing"),
        ({"release": {"author": [], "license": "MIT"}}, "release.author: List should have at least 1 item"),
    ],
)
def test_what_a_recipe_may_not_say(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(tomlkit.dumps({"checkpoint": "a", "output": "b", **change}))
    with pytest.raises(ConfigError) as caught:
        read_recipe(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    values = {"checkpoint": "a", "output": "b", **change}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"export": [{}, {}]}, "would be made twice"),
        ({"export": [{"precision": ["fp16"]}]}, "[release] needs an ONNX file in fp32"),
        ({"report": {"precision": "bf16"}}, "[report] needs an ONNX file in bf16"),
        ({"fuse": ["safetensors"], "validate": {"images": "."}}, '"pth" in fuse'),
        ({"limits": {"fp16": {"levels": 0.6}}}, "never the reverse"),
        ({"limits": {"fp16": {"psnr": 60.0}}}, "never the reverse"),
        ({"checkpoint": "no.pth"}, "no.pth: cannot be read"),
        ({"images": "nowhere"}, "no folder of pictures"),
        ({"release": {"author": ["A"], "license": "mine"}}, "SPDX"),
    ],
)
def test_what_cannot_be_done_ends_before_anything_is_run(
    cooked: Kitchen, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    kitchen = Kitchen(tmp_path)
    kitchen.recipe = {**cooked.recipe, "output": str(tmp_path / "out"), **change}
    ran = kitchen.run()
    assert ran.code == 1
    assert message in error_line(ran)
    assert not (tmp_path / "out").exists()


def test_limits_only_narrow() -> None:
    row = tolerances({"fp16": Limits(psnr=72.0)})["fp16"]
    assert (row.max_abs, row.min_psnr, row.drawn) == (0.5 / 255, 72.0, 2)
    assert tolerances({})["fp32"] is tolerances({"fp16": Limits()})["fp32"]


def test_the_schema_is_the_models() -> None:
    stored = json.loads((CONFIGS / "recipe.schema.json").read_text())
    assert stored == schema(), "python -m aether_deploy.run --schema > export_configs/recipe.schema.json"
    jsonschema.Draft202012Validator.check_schema(stored)


@pytest.mark.parametrize("path", first_of(RECIPES[::-1], 2), ids=lambda path: path.stem)
def test_every_recipe_plans(path: Path, tmp_path: Path, call: Callable[..., Ran]) -> None:
    """With random weights of its network, and as its comments say with every line in them."""
    text = path.read_text()
    assert text.startswith("#:schema recipe.schema.json\n")
    values: dict[str, Any] = tomlkit.parse(text).unwrap()
    jsonschema.validate(values, schema())
    _, size, *scale = path.stem.split("_")
    if size != "sample":
        network = getattr(arch, f"aether_{size}")(scale=int(scale[0][1:]))
        values["checkpoint"] = str(save(randomize(network), tmp_path / "net.pth"))
    values["output"] = str(tmp_path / "out")
    (tmp_path / "r.toml").write_text(tomlkit.dumps(values))
    ran = call("run", tmp_path / "r.toml", "--dry-run", "--json")
    assert ran.code == 0, ran.err
    assert len(ran.json["steps"]) == 7
    lines = [line.removeprefix("# ") if "=" in line or line.startswith("# [") else line for line in text.splitlines()]
    whole = "\n".join(line for line in lines if not line.startswith("#"))
    jsonschema.validate(tomlkit.parse(whole).unwrap(), schema())


def test_there_is_a_recipe_for_each_size_and_scale() -> None:
    sizes = {f"recipe_{size}_x{scale}" for size in ("small", "medium", "large") for scale in (2, 4)}
    assert {path.stem for path in RECIPES} == sizes | {"recipe_sample"}


def test_the_schema_is_printed(call: Callable[..., Ran]) -> None:
    assert call("run", "--schema").json == schema()


def test_somebody_elses_record_is_refused_as_a_folder(tmp_path: Path, cooked: Kitchen) -> None:
    kitchen = Kitchen(tmp_path)
    kitchen.recipe = {**cooked.recipe, "output": str(tmp_path / "out")}
    (tmp_path / "out" / NAME).mkdir(parents=True)
    ran = kitchen.run()
    assert ran.code == 1
    assert NAME in error_line(ran)
    assert issubclass(ConfigError, AetherDeployError)


@pytest.mark.slow
@pytest.mark.long
def test_neosr_validates_and_only_when_something_changed(kitchen: Kitchen) -> None:
    kitchen.recipe["validate"] = {"images": str(kitchen.photos)}
    states = kitchen.states()
    assert states["validation/validation.json"] == "made"
    assert states[FUSED] == "unchanged"
    found = json.loads((kitchen.out / "validation" / "validation.json").read_text())
    assert found["passed"] is True
    assert set(kitchen.states().values()) == {"unchanged"}
