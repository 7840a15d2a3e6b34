"""A folder to publish: complete, true to its manifests, accepted by those who read it, and checked to the last byte."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from click.testing import CliRunner
from onnx import numpy_helper

from aether_deploy.artifacts import pipeline
from aether_deploy.artifacts.opening import open_runner
from aether_deploy.artifacts.verification import SUMS, files_below, write_sums
from aether_deploy.cli.app import main
from aether_deploy.errors import ConfigError
from aether_deploy.files import sha256_of
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.network.definition import arch
from aether_deploy.network.fusion import fuse_network
from aether_deploy.pictures.images import read_image, write_image
from aether_deploy.proof.manifest import Manifest, read_manifest
from aether_deploy.publishing import release_folder
from aether_deploy.publishing.details import Details
from aether_deploy.publishing.model_card import hub_license, render_card
from aether_deploy.publishing.openmodeldb import Entry, entry_id
from tests.helpers.commands import Ran, error_line
from tests.helpers.networks import SAMPLE, calm, save, wrong_eps

ARTIFACTS = [
    "2x_Tiny Net_fused.pth",
    "2x_Tiny Net_fused.safetensors",
    "2x_Tiny Net_fp32_op20.onnx",
    "2x_Tiny Net_fp16_op20.onnx",
    "2x_Tiny Net_fp16_op20_io16.onnx",
]
PICTURES = [f"images/{name}_{what}.png" for name in ("a-1", "a-1-2") for what in ("after", "before", "lr")]
FILES = sorted(
    [
        *ARTIFACTS,
        *(f"{name}.json" for name in ARTIFACTS),
        *PICTURES,
        "2x-Tiny-Net.json",
        "README.md",
        "report.html",
    ]
)
WORDS = ("--author", "Ann Example", "--author", "B", "--license", "cc-by-4.0", "--url-base", "https://example.org/m/")


def small(**options: Any) -> Any:
    return calm(**{"scale": 2, "embed_dim": 12, "depths": (1, 1), "lk_kernel": 7, "sk_kernel": 3, **options})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of a random network on two photos of the author's; no test changes it."""
    folder = tmp_path_factory.mktemp("release")
    checkpoint = save(small(), folder / "2x_Tiny Net.pth")
    photos = folder / "photos"
    photos.mkdir()
    for number, name in enumerate(["a 1.png", "a.1.png"]):
        noise = np.random.default_rng(number).random((1, 3, 5, 6)).astype(np.float32)
        write_image(photos / name, np.repeat(np.repeat(noise, 7, axis=2), 7, axis=3))
    words = ["release", checkpoint, *WORDS, "-o", folder / "out", "--images", photos, "--base-model", "x/y", "--json"]
    words += ["--precision", "fp32", "--precision", "fp16"]
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert sorted(json.loads(result.stdout)["files"]) == sorted([*FILES, SUMS])
    assert "next: python -m aether_deploy.verify" in result.stderr
    return folder / "out"


@pytest.fixture
def release(made: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(made, tmp_path / "release"))


def manifests(folder: Path) -> list[Manifest]:
    found = [read_manifest(folder / name) for name in ARTIFACTS]
    assert all(found)
    return [item for item in found if item]


def card(folder: Path) -> tuple[dict[str, Any], str]:
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def test_all_of_it_is_there_and_nothing_else(made: Path) -> None:
    assert files_below(made) == FILES
    assert [path.name for path in made.parent.iterdir() if path.name.startswith(".")] == []


def test_sha256sum_agrees(made: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=made, check=True)


def test_the_front_matter(made: Path) -> None:
    assert card(made)[0] == {
        "license": "cc-by-4.0",
        "pipeline_tag": "image-to-image",
        "library_name": "onnx",
        "base_model": "x/y",
        "tags": ["super-resolution", "image-upscaling", "neosr", "aether", "general-upscaler"],
    }


def test_every_figure_of_the_card_is_a_manifests(made: Path) -> None:
    text = card(made)[1]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("| `")]
    assert [row[0].strip("`") for row in rows] == ARTIFACTS
    for row, manifest in zip(rows, manifests(made), strict=True):
        parity = manifest.parity
        assert parity is not None
        assert row[1] == str(manifest.artifact["bytes"])
        assert float(row[2]) == pytest.approx(parity["figures"]["max_abs"] * 255, rel=0.06)
        assert float(row[3].split(";")[0]) == pytest.approx(parity["tolerance"]["max_abs"] * 255, rel=0.06)
        assert row[4] == f"{parity['figures']['psnr']:.1f}"
    source = manifests(made)[0].source
    assert f"`{source['file']}`" in text
    assert source["sha256"] in text
    # No figure beyond these: outside of tables, code, hashes and addresses stand only those of the network's name.
    prose = re.sub(r"```.*?```|`[^`]*`|\(.*?\)|^\|.*$", "", text, flags=re.DOTALL | re.MULTILINE)
    spec = load_checkpoint(made / ARTIFACTS[0]).spec
    known = {*re.findall(r"\d+", spec.describe()), str(spec.scale), "0", "1", "8", "4"}
    assert set(re.findall(r"\d+", prose)) <= known | set(
        re.findall(r"\d+", datetime.datetime.now(datetime.UTC).date().isoformat())
    )


def test_every_link_of_the_card_leads_to_a_file(made: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", card(made)[1])
    assert len([link for link in links if link.startswith("images/")]) == 4
    assert all((made / link).is_file() for link in links)


def test_the_cards_python_runs(made: Path, tmp_path: Path) -> None:
    text = card(made)[1]
    for name in ARTIFACTS[2:]:
        assert name in text
    code = re.search(r"```python\n(import.*?)```", text, re.DOTALL)
    assert code is not None
    shutil.copy(made / "images/a-1_lr.png", tmp_path / "in.png")
    shutil.copy(made / ARTIFACTS[2], tmp_path)
    subprocess.run([sys.executable, "-c", code[1]], cwd=tmp_path, check=True)
    ours = read_image(made / "images/a-1_after.png")
    assert np.abs(read_image(tmp_path / "out.png") - ours).max() <= 1.5 / 255


def test_the_cards_options_build_the_fused_network(made: Path) -> None:
    block = re.search(r"```toml\n(.*?)```", card(made)[1], re.DOTALL)
    assert block is not None
    options = tomllib.loads(block[1])["network_g"]
    loaded = load_checkpoint(made / ARTIFACTS[0])
    network = arch.AetherNet(**{key: value for key, value in options.items() if key != "type"}, scale=2)
    network.load_state_dict(loaded.state_dict, strict=True)


def test_pictures_are_the_networks(made: Path) -> None:
    lr = read_image(made / "images/a-1_lr.png")
    with open_runner(made / ARTIFACTS[2]) as runner:
        expected = runner.run(lr)
    shown = read_image(made / "images/a-1_after.png")
    assert shown.shape == read_image(made / "images/a-1_before.png").shape == (1, 3, 70, 84)
    assert np.abs(shown - expected.clip(0, 1)).max() < 0.51 / 255


def test_the_entry_is_openmodeldbs(made: Path) -> None:
    text = (made / "2x-Tiny-Net.json").read_text()
    entry = Entry.model_validate_json(text)
    assert entry.author == ["ann-example", "b"]
    assert (entry.name, entry.license, entry.scale, entry.architecture) == ("Tiny Net", "CC-BY-4.0", 2, "aether")
    assert [resource.type for resource in entry.resources] == ["pth", "safetensors", "onnx", "onnx", "onnx"]
    for resource, name in zip(entry.resources, ARTIFACTS, strict=True):
        assert resource.sha256 == sha256_of(made / name)
        assert resource.size == (made / name).stat().st_size
        assert resource.urls == [f"https://example.org/m/{name.replace(' ', '%20')}"]
    assert entry.images[0].lr == "https://example.org/m/images/a-1_lr.png"
    assert text == json.dumps(json.loads(text), indent=4, ensure_ascii=False)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_entry_is_written_as_json_stringify_does(made: Path) -> None:
    script = (
        "const text = require('fs').readFileSync(process.argv[1], 'utf8');"
        "process.exit(text === JSON.stringify(JSON.parse(text), null, 4) ? 0 : 1)"
    )
    subprocess.run(["node", "-e", script, made / "2x-Tiny-Net.json"], check=True)


@pytest.mark.parametrize(
    "change",
    [
        {"size": []},
        {"author": []},
        {"author": "Ann Example"},
        {"tags": []},
        {"description": " leading space"},
        {"date": "25.11.2026"},
        {"scale": 17},
        {"inputChannels": 5},
        {"resources": []},
        {"more": 1},
    ],
)
def test_what_openmodeldb_refuses_the_entry_refuses(made: Path, change: dict[str, Any]) -> None:
    values = json.loads((made / "2x-Tiny-Net.json").read_text())
    with pytest.raises(ValueError, match=next(iter(change))):
        Entry.model_validate_json(json.dumps({**values, **change}))


@pytest.mark.skipif(
    "OPENMODELDB" not in os.environ or shutil.which("npx") is None,
    reason="their own validator: set OPENMODELDB to a checkout of open-model-database, and install node",
)
def test_openmodeldbs_own_validator_accepts_the_entry(made: Path, tmp_path: Path) -> None:
    checkout = Path(shutil.copytree(os.environ["OPENMODELDB"], tmp_path / "db", symlinks=True))
    data = checkout / "data"
    for file in (*(data / "models").iterdir(), *(data / "datasets").iterdir()):
        file.unlink()
    shutil.copy(made / "2x-Tiny-Net.json", data / "models")
    # What a pull request adds with a new author's first model of a new architecture.
    for name, values in (
        ("users", {"ann-example": {"name": "Ann Example"}, "b": {"name": "B"}}),
        ("architectures", {"aether": {"name": "Aether", "input": "image", "compatiblePlatforms": ["pytorch", "onnx"]}}),
    ):
        known = json.loads((data / f"{name}.json").read_text())
        merged = dict(sorted({**known, **values}.items()))
        (data / f"{name}.json").write_text(json.dumps(merged, indent=4, ensure_ascii=False))

    def validate() -> subprocess.CompletedProcess[str]:
        command = ["npx", "--yes", "tsx", "scripts/validate-db.ts"]
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)

    ran = validate()
    assert ran.returncode == 0, ran.stderr
    entry = data / "models/2x-Tiny-Net.json"
    entry.write_text(entry.read_text().replace('"size": null', '"size": [""]'))
    assert "size" in validate().stderr


def test_ids_are_openmodeldbs() -> None:
    names = ["Tiny Net", "2x_Foo", "Foo-x2", "x2 Foo", "Foo_2x", "--a  b--", "é", "2x", "a/../b"]
    ids = [entry_id(2, name) for name in names]
    assert ids == ["2x-Tiny-Net", "2x-Foo", "2x-Foo", "2x-Foo", "2x-Foo", "2x-a-b", "", "2x-2x", "2x-a-b"]


def test_licences_have_their_hub_names() -> None:
    known = [hub_license(name) for name in ("MIT", "GPL-3.0-or-later", "CC-BY-NC-SA-4.0", "MIT OR Apache-2.0")]
    assert known == ["mit", "gpl-3.0", "cc-by-nc-sa-4.0", "other"]


def test_a_licence_that_the_hub_does_not_know_has_name_and_link(made: Path) -> None:
    found = manifests(made)
    spec = load_checkpoint(made / ARTIFACTS[0]).spec
    details = Details(("A",), "0BSD", tags=("photo",))
    text = render_card(spec, details, title="t", description="d", files=found, pictures=[], report="r.html")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "other"
    assert front["license_name"] == "0bsd"
    assert front["license_link"].startswith("https://spdx.org/licenses/0BSD")
    assert "base_model" not in front


def test_names_have_no_meaning_in_the_card(made: Path) -> None:
    found = manifests(made)
    found[0] = dataclasses.replace(found[0], source={**found[0].source, "file": "a`|<b>.pth"})
    spec = load_checkpoint(made / ARTIFACTS[0]).spec
    details = Details(('"[x](y)<script>',), "MIT", base_model='a": b')
    text = render_card(spec, details, title="a|b_c", description="d", files=found, pictures=[], report="r.html")
    assert "<script>" not in text
    assert "`a'/<b>.pth`" in text
    assert "a\\|b\\_c" in text
    assert yaml.safe_load(text.split("---\n")[1])["base_model"] == 'a": b'


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"authors": ()}, "expected a name"),
        ({"authors": ("a\nb",)}, "on one line"),
        ({"authors": ("---",)}, "letter or digit"),
        ({"license": "free"}, "SPDX identifier"),
        ({"license": ""}, "SPDX identifier"),
        ({"tags": ()}, "one or more"),
        ({"tags": ("Photo!",)}, "such as photo"),
        ({"url_base": "ftp://x"}, "an address"),
        ({"url_base": "https://"}, "an address"),
        ({"name": "a\x1b[2J"}, "one line"),
        ({"description": "x" * 5000}, "at most 4096"),
    ],
)
def test_details_that_cannot_be_published(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Details(**{"authors": ("A",), "license": "MIT", **values})


def test_a_wrong_licence_ends_before_anything_is_read(tmp_path: Path, call: Callable[..., Ran]) -> None:
    ran = call("release", tmp_path / "no.pth", "--author", "A", "--license", "mine", "-o", tmp_path / "out")
    assert ran.code == 1
    assert "SPDX identifier" in error_line(ran)


def test_verify_proves_all_of_it_again(made: Path, call: Callable[..., Ran]) -> None:
    ran = call("verify", made, "--parity", "--json")
    assert ran.code == 0, ran.err
    assert {item["file"] for item in ran.json["files"]} == set(FILES)
    proved = {item["file"]: item["parity"] for item in ran.json["proved"]}
    assert proved.keys() == set(ARTIFACTS)
    assert proved.pop(ARTIFACTS[0]) is None  # the reference
    assert all(parity["passed"] for parity in proved.values())
    ran = call("verify", made, "--parity", "--checkpoint", made.parent / "2x_Tiny Net.pth")
    assert ran.out.count("proved again") == len(ARTIFACTS)


def test_verify_finds_another_network(release: Path, call: Callable[..., Ran], tmp_path: Path) -> None:
    ran = call("verify", release, "--parity", "--checkpoint", save(small(depths=(1, 2)), tmp_path / "2x_other.pth"))
    assert ran.code == 3
    assert ran.out.count("✗") == len(ARTIFACTS)


def test_verify_finds_a_forger_by_running(release: Path, call: Callable[..., Ran]) -> None:
    """Who changes a weight, the manifest and the list is found only by the network's answers."""
    path = release / ARTIFACTS[2]
    model = onnx.load(path)
    weight = max(model.graph.initializer, key=lambda item: int(np.prod(item.dims)))
    changed = numpy_helper.to_array(weight) * np.float32(1.01)
    weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    onnx.save(model, path)
    manifest = read_manifest(path)
    assert manifest is not None
    artifact = {**manifest.artifact, "sha256": sha256_of(path), "bytes": path.stat().st_size}
    dataclasses.replace(manifest, artifact=artifact).write(path)
    write_sums(release)
    assert call("verify", release).code == 0
    ran = call("verify", release, "--parity")
    assert ran.code == 3
    assert ARTIFACTS[2] in error_line(ran)
    assert ran.out.count("✗") == 1


@pytest.mark.parametrize("name", [*FILES, SUMS])
def test_one_flipped_byte_is_found(name: str, release: Path, call: Callable[..., Ran]) -> None:
    path = release / name
    whole = path.read_bytes()
    places = range(len(whole)) if name == SUMS else (0, len(whole) // 3, len(whole) - 1)
    for place in places[:: 97 if name == SUMS else 1]:
        for bit in (0x01, 0x20):  # 0x20 changes only the case of a letter
            damaged = bytearray(whole)
            damaged[place] ^= bit
            path.write_bytes(damaged)
            ran = call("verify", release)
            assert ran.code == 1, (place, bit)
            error_line(ran)


def test_what_verify_found_is_one_object(release: Path, call: Callable[..., Ran], tmp_path: Path) -> None:
    other = save(small(depths=(1, 2)), tmp_path / "2x_other.pth")
    found = call("verify", release, "--parity", "--checkpoint", other, "--json").json
    assert (found["exit_code"], found["passed"], len(found["proved"])) == (3, False, len(ARTIFACTS))
    (release / "README.md").write_text("mine")
    found = call("verify", release, "--json").json
    assert (found["exit_code"], found["passed"], len(found["files"])) == (1, False, len(FILES))


def test_a_file_too_many_or_too_few_is_found(release: Path, call: Callable[..., Ran]) -> None:
    (release / "images/extra.png").write_bytes(b"x")
    ran = call("verify", release)
    assert ran.code == 1
    assert "images/extra.png: not in the list" in ran.out
    (release / "images/extra.png").unlink()
    (release / "README.md").unlink()
    assert "README.md: cannot be read" in call("verify", release).out


def test_only_a_release_is_replaced(release: Path, call: Callable[..., Ran], checkpoint_file: Path) -> None:
    before = sha256_of(release / SUMS)
    ran = call("release", checkpoint_file, *WORDS, "-o", release)
    assert ran.code == 1
    assert "--overwrite" in error_line(ran)
    assert sha256_of(release / SUMS) == before
    other = release.parent / "mine"
    other.mkdir()
    (other / "diary.txt").write_text("dear diary")
    ran = call("release", checkpoint_file, *WORDS, "-o", other, "--overwrite")
    assert "is no release" in error_line(ran)
    assert [path.name for path in other.iterdir()] == ["diary.txt"]


def test_what_is_not_of_the_older_release_is_not_lost(
    release: Path, call: Callable[..., Ran], checkpoint_file: Path
) -> None:
    for name in (".gitattributes", "images/mine.png"):
        (release / name).write_text("mine")
        ran = call("release", checkpoint_file, *WORDS, "-o", release, "--overwrite")
        assert f"{name}: not of the release" in error_line(ran)
        assert (release / name).read_text() == "mine"
        (release / name).unlink()


@pytest.mark.long
def test_int8_is_in_it_where_it_passes(tmp_path: Path, call: Callable[..., Ran]) -> None:
    """What 8 bits do not suit is left out with its reason; nothing else is."""
    assert call("release", SAMPLE, *WORDS, "-o", tmp_path / "out").code == 0
    assert "`2x_aether_sample_int8_op20.onnx`" in card(tmp_path / "out")[1]
    ran = call("release", save(small(), tmp_path / "2x_T.pth"), *WORDS, "-o", tmp_path / "other")
    assert ran.code == 0, ran.err
    made = sorted(path.name for path in (tmp_path / "other").glob("*.onnx"))
    assert made == ["2x_T_fp16_op20.onnx", "2x_T_fp16_op20_io16.onnx", "2x_T_fp32_op20.onnx"]
    assert "left out: 2x_T_int8_op20.onnx is not the network as it was trained" in ran.err


def test_a_name_without_a_letter_ends_before_anything_is_run(
    tmp_path: Path, call: Callable[..., Ran], checkpoint_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_folder, "Trained", lambda *_, **__: pytest.fail("something was run"))
    ran = call("release", checkpoint_file, *WORDS, "-o", tmp_path / "out", "--name", "--")
    assert "no letter or digit" in error_line(ran)


@pytest.mark.long
def test_a_network_of_another_value_range(tmp_path: Path, call: Callable[..., Ran]) -> None:
    """The file does not tell its range; the report, the proof and who opens the fused file know it all the same."""
    checkpoint = save(small(img_range=255.0), tmp_path / "2x_T.pth")
    out = tmp_path / "out"
    ran = call("release", checkpoint, *WORDS, "-o", out, "--precision", "fp32", "--img-range", "255")
    assert ran.code == 0, ran.err
    assert "✓ Passed:" in (out / "report.html").read_text()
    assert call("verify", out, "--parity").code == 0
    assert call("parity", out / "2x_T_fused.pth", out / "2x_T_fp32_op20.onnx").code == 0


def test_an_older_release_is_replaced_whole(release: Path, call: Callable[..., Ran], tmp_path: Path) -> None:
    checkpoint = save(small(), tmp_path / "2x_New.pth")
    assert call("release", checkpoint, *WORDS, "-o", release, "--precision", "fp32", "--overwrite").code == 0
    assert not (release / ARTIFACTS[0]).exists()
    assert (release / "2x-New.json").is_file()
    assert call("verify", release).code == 0
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_without_fp32_there_is_no_release(tmp_path: Path, call: Callable[..., Ran]) -> None:
    ran = call("release", save(small(), tmp_path / "2x_T.pth"), *WORDS, "-o", tmp_path / "out", "--precision", "fp16")
    assert ran.code == 1
    assert "a release needs fp32" in error_line(ran)
    assert [path.name for path in tmp_path.iterdir()] == ["2x_T.pth"]


def test_a_wrong_network_is_not_released(
    tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "fuse_network", lambda *given: wrong_eps(fuse_network(*given)))
    ran = call("release", save(small(), tmp_path / "2x_T.pth"), *WORDS, "-o", tmp_path / "out")
    assert ran.code == 3, ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["2x_T.pth"]


@pytest.mark.slow
@pytest.mark.long
def test_engines_if_asked(tmp_path: Path, call: Callable[..., Ran]) -> None:
    checkpoint = save(small(), tmp_path / "2x_T.pth")
    shapes = ("--min-shape", "1x3x32x32", "--opt-shape", "1x3x48x64", "--max-shape", "1x3x64x96")
    words = ["--engine", "tensorrt-rtx", "--gpu", "sm89", *shapes]
    ran = call("release", checkpoint, *WORDS, "-o", tmp_path / "out", *words)
    assert ran.code == 0, ran.err
    (engine,) = (tmp_path / "out").glob("*.engine")
    text = card(tmp_path / "out")[1]
    assert f"`{engine.name}` was built without its GPU and never executed" in text
    entry = json.loads((tmp_path / "out" / "2x-T.json").read_text())
    assert {resource["type"] for resource in entry["resources"]} == {"pth", "safetensors", "onnx"}
    ran = call("verify", tmp_path / "out", "--parity")
    assert ran.code == 0, ran.err
    assert f"{engine.name}: proved again" in ran.out
