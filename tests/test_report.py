"""The report: one page that loads nothing, shows what was run, and fails where the comparison fails."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from PIL import Image

from aether_deploy.arrays import quantize
from aether_deploy.artifacts import onnx_file
from aether_deploy.artifacts.model import ExportOptions
from aether_deploy.artifacts.opening import open_runner
from aether_deploy.artifacts.pipeline import export_model
from aether_deploy.engines.gpus import read_driver
from aether_deploy.engines.plan import EngineOptions
from aether_deploy.engines.targets import ComputeCapability
from aether_deploy.files import sha256_of
from aether_deploy.html_report.crops import SHOWN, heat_uri, photo_of
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.pictures.images import write_image
from aether_deploy.precisions.variant import variants
from aether_deploy.proof.cases import Case
from aether_deploy.proof.manifest import manifest_path
from aether_deploy.proof.photos import parity_photos
from aether_deploy.runners.rounded import RoundedRunner
from tests.helpers.commands import Ran, error_line
from tests.helpers.engines import SMALL_PROFILE, driver, fake_path
from tests.helpers.networks import calm, save, tiny
from tests.helpers.pages import Page, assert_sound

pytestmark = pytest.mark.slow

Call = Callable[..., Ran]

FP32, FP16 = "2x_Calm_fp32_op20.onnx", "2x_Calm_fp16_op20.onnx"
HOSTILE = """<img src=x onerror=alert(1)>"'&{{ 7 * 7 }}"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, its ONNX files in both precisions, and two photos."""
    folder = tmp_path_factory.mktemp("made")
    checkpoint = save(calm(scale=2, embed_dim=16, depths=(1, 1)), folder / "2x_Calm.pth")
    export_model(load_checkpoint(checkpoint), ExportOptions(variants=variants(("fp32", "fp16"))))
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name, size in {"one": (24, 40), HOSTILE: (33, 17)}.items():
        write_image(folder / "photos" / f"{name}.png", rng.random((1, 3, *size), dtype=np.float32))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy to write in and to spoil."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def page_of(path: Path) -> Page:
    return assert_sound(path.read_text(encoding="utf-8"))


def test_a_passed_comparison(folder: Path, call: Call) -> None:
    before = set(folder.iterdir())
    ran = call("report", folder / FP32, folder / "2x_Calm.pth")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1] == f"next: python -m aether_deploy.upscale {folder / FP32} PHOTO.png"
    assert [path.name for path in set(folder.iterdir()) - before] == [f"{FP32}.html"]
    page = page_of(folder / f"{FP32}.html")
    assert page.text("h1") == FP32
    assert page.text("div", "verdict").startswith("Your eyes cannot tell them apart: at most 0.0")
    statements = " ".join(element.text for element in page.all("li"))
    assert "ran as ONNX Runtime fp32 CPU (--device auto; no GPU took part)" in statements
    assert f"2x_Calm.pth is the very file that {FP32} was made from" in statements
    cells = " ".join(element.text for element in page.all("td"))
    for fact in (sha256_of(folder / FP32), sha256_of(folder / "2x_Calm.pth"), "opset 20", "sha256 matches", "torch "):
        assert fact in cells
    # The photo with the most detail and four crops, each as bicubic and network; one map, and its scale.
    assert len(page.pictures()) == 12


def test_json_has_the_same_facts_and_no_pictures(folder: Path, call: Call) -> None:
    words = ["report", folder / FP32, folder / "2x_Calm.pth", "--images", folder / "photos", "-o", folder / "r.html"]
    ran = call(*words, "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    assert found["verdict"] == "passed" and found["parity"]["passed"]
    assert found["report"] == str(folder / "r.html") and found["bytes"] == (folder / "r.html").stat().st_size
    assert found["model"]["sha256"] == sha256_of(folder / FP32)
    assert found["model"]["recorded"]["of"] == "the file"
    assert found["against"]["network"]["sk_kernel"] == 3
    assert [photo["case"] for photo in found["photos"]] == [f"{HOSTILE} 1x3x33x17", "one 1x3x24x40"]
    assert "webp" not in ran.out
    # The page's table is of these cases.
    (table, *_) = [e for e in page_of(folder / "r.html").all("table") if "compared with" in e.text]
    assert all(case["case"] in table.text for case in found["parity"]["cases"])


def test_pictures_are_what_both_files_really_give(folder: Path, call: Call) -> None:
    words = ["--images", folder / "photos", "-o", folder / "r.html", "--json"]
    found = call("report", folder / FP16, folder / "2x_Calm.pth", *words).json
    lr = dict(parity_photos(folder / "photos"))["one"]
    trained, half = open_runner(folder / "2x_Calm.pth").run(lr)[0], RoundedRunner(folder / FP16).run(lr)[0]
    pictures = {alt: image for alt, image in page_of(folder / "r.html").pictures().items() if alt.startswith("one ")}
    before, after, heat = pictures.values()
    np.testing.assert_array_equal(after, quantize(half, 8).transpose(1, 2, 0))
    assert before.shape == after.shape and (before != after).any()
    # Grey where nothing differs, more colour where more does.
    difference = np.abs(half - trained).max(axis=0)
    colour = heat.max(axis=2).astype(int) - heat.min(axis=2)
    assert colour[difference < 1e-5].size == 0 or colour[difference < 1e-5].max() < 25
    most = difference > np.quantile(difference, 0.95)
    assert colour[most].mean() > 2 * colour[~most].mean()
    largest = next(photo for photo in found["photos"] if photo["case"].startswith("one "))["max_abs"]
    assert f"largest {largest * 255:.2g} of an 8-bit level" in list(pictures)[-1]


def test_half_precision_says_that_no_gpu_executed_it(folder: Path, call: Call) -> None:
    found = call("report", folder / FP16, folder / "2x_Calm.pth", "--images", folder / "photos", "--json").json
    assert found["runner"] == "faithful fp16 on the CPU"
    assert found["parity"]["gate"] == "fp16"
    assert any("no GPU executed it" in statement for statement in found["statements"])
    text = page_of(folder / f"{FP16}.html").text("main")
    assert "Before its weights were rounded" in text
    assert "on noise and patterns" in text


def test_without_anything_to_compare_with(folder: Path, call: Call) -> None:
    ran = call("report", folder / FP32, "--images", folder / "photos")
    assert ran.code == 0, ran.err
    assert "nothing was compared in this run" in ran.out
    # The source lies beside the model: the next command is the comparison.
    assert ran.out.splitlines()[-1].endswith(f"report {folder / FP32} {folder / '2x_Calm.pth'} --overwrite")
    page = page_of(folder / f"{FP32}.html")
    assert page.text("div", "verdict").startswith("○ Nothing was compared in this run.")
    assert (
        "Recorded, not checked now: passed, of the file, against the network as it was trained (2x_Calm.pth)"
        in page.text("main")
    )
    assert not [e for e in page.all("h2") if e.text == "Parity of this run"]
    assert all("bicubic" in alt or "output of" in alt for alt in page.pictures())
    assert "It shows what the network adds, and proves nothing." in page.text("main")
    manifest_path(folder / FP32).unlink()
    assert call("report", folder / FP32, "--overwrite", "--json").json["parity"] is None
    verdict = page_of(folder / f"{FP32}.html").text("div", "verdict")
    assert verdict.endswith("No proof is recorded beside it either.")


def test_a_failed_comparison_is_written_and_said_first(folder: Path, call: Call) -> None:
    other = calm(scale=2, embed_dim=16, depths=(1, 1))
    other.layers[0][0].conv.lk_bias.data[0] += 1e-2
    bad = save(other, folder / "other.pth")
    words = ["report", folder / FP32, bad, "--images", folder / "photos", "-o", folder / "r.html"]
    ran = call(*words, "--json")
    assert ran.code == 3
    found = ran.json
    worst = found["parity"]["worst"]
    assert f"is not the network as it was trained: {worst}: " in error_line(ran)
    assert f"; {folder / 'r.html'} shows it" in error_line(ran)
    assert found["verdict"] == "failed" and not found["parity"]["passed"] and "error" in found
    assert found["report"] == str(folder / "r.html")
    page = page_of(folder / "r.html")
    verdict = page.text("div", "verdict")
    assert verdict.startswith("It is another network: up to ")
    assert "✗ Failed: it is not the network of other.pth." in verdict
    assert worst in verdict
    header = next(e for e in page.all("div") if "verdict" in e.attributes.get("class", ""))
    assert page.elements.index(header) < page.elements.index(page.all("img")[0])
    assert "names another file as its source: 2x_Calm.pth" in page.text("ul", "statements")
    # For people, too: nothing on stdout but what was written for them.
    ran = call(*words, "--overwrite")
    assert (ran.code, ran.out) == (3, "")


def test_neosrs_folder_and_a_network_of_one_channel(folder: Path, call: Call) -> None:
    models = folder / "experiments" / "grey" / "models"
    models.mkdir(parents=True)
    save(tiny(in_chans=1), models / "net_g_latest.pth")
    ran = call("report", folder / "experiments" / "grey", folder / "experiments" / "grey", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["model"]["file"] == "net_g_latest.pth"
    assert ran.json["photos"] == [] and ran.json["parity"]["passed"]
    page = page_of(folder / "experiments" / "grey.html")
    assert "so there are no pictures" in page.text("ul", "statements")
    assert not [image for image in page.all("img") if image.attributes["width"] != "256"]


def test_nothing_is_replaced_unasked(folder: Path, call: Call) -> None:
    words = ["report", folder / FP32, "--images", folder / "photos", "-o", folder / "r.html"]
    (folder / "r.html").write_text("mine")
    ran = call(*words)
    assert ran.code == 1
    assert "is there already; add --overwrite" in error_line(ran)
    assert (folder / "r.html").read_text() == "mine"
    assert call(*words, "--overwrite").code == 0
    page_of(folder / "r.html")
    model = (folder / FP32).read_bytes()
    ran = call("report", folder / FP32, "-o", folder / FP32, "--overwrite")
    assert ran.code == 1
    assert "is an input itself" in error_line(ran)
    assert (folder / FP32).read_bytes() == model
    assert call(*words[:-2], "-o", folder / "photos").code == 0
    assert (folder / "photos" / f"{FP32}.html").is_file()


def test_a_write_that_fails_halfway_leaves_what_was_there(folder: Path, call: Call) -> None:
    resource = pytest.importorskip("resource", reason="limits of a process are POSIX's")
    (folder / "r.html").write_text("mine")
    before = sorted(folder.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        ran = call("report", folder / FP32, "--images", folder / "photos", "-o", folder / "r.html", "--overwrite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ran.code == 1
    assert "r.html: cannot be written (File too large)" in error_line(ran)
    assert (folder / "r.html").read_text() == "mine"
    assert sorted(folder.iterdir()) == before


def test_hostile_names_are_text(folder: Path, call: Call) -> None:
    for name in (f"{HOSTILE}.onnx", f"{HOSTILE}.onnx.json"):
        shutil.copy(folder / name.replace(f"{HOSTILE}.onnx", FP32), folder / name)
    against = Path(shutil.copy(folder / "2x_Calm.pth", folder / f"{HOSTILE}.pth"))
    ran = call("report", folder / f"{HOSTILE}.onnx", against, "--images", folder / "photos", "-o", folder / "r.html")
    assert ran.code == 0, ran.err
    page = page_of(folder / "r.html")
    assert page.text("h1") == f"{HOSTILE}.onnx"
    assert any(alt.startswith(f"{HOSTILE} 1x3x33x17: ") for alt in page.pictures())


def test_what_is_not_what_the_manifest_describes(folder: Path, call: Call) -> None:
    path = manifest_path(folder / FP32)
    path.write_text(path.read_text().replace(sha256_of(folder / FP32), "0" * 64))
    words = ["report", folder / FP32, "--images", folder / "photos", "-o", folder / "r.html"]
    ran = call(*words)
    assert ran.code == 1
    assert "not the file that was proved" in error_line(ran)
    assert not (folder / "r.html").exists()
    assert call(*words, "--trust").code == 0
    page = page_of(folder / "r.html")
    assert "The proof that was recorded is that of another file." in page.text("div", "verdict")
    assert "what it records was not proved of this one" in page.text("ul", "statements")


def test_known_errors_leave_no_page(folder: Path, call: Call) -> None:
    for words, said in (
        ([folder / "none.onnx"], "none.onnx: cannot be read (No such file or directory); check the path"),
        ([folder / FP32, save(tiny(scale=3), folder / "x3.pth")], "two files of one network"),
        ([folder / FP32, "--images", folder / "nowhere"], "not a folder; give one that holds pictures"),
        ([folder / FP32, "--benchmark", folder / "none.json"], "cannot be read"),
    ):
        ran = call("report", *words, "-o", folder / "r.html")
        assert ran.code == 1
        assert said in error_line(ran)
        assert not (folder / "r.html").exists()
    assert call("report").code == 2
    if not read_driver().gpus:
        ran = call("report", folder / FP32, "--device", "cuda", "-o", folder / "r.html")
        assert "no NVIDIA driver here" in error_line(ran)


def test_a_fall_to_the_cpu_is_stated(folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    # A provider whose library is missing: ONNX Runtime makes the session on the CPU.
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(onnx_file, "read_driver", lambda: driver(ComputeCapability(8, 9)))
    ran = call("report", folder / FP32, "--images", folder / "photos")
    assert ran.code == 0, ran.err
    said = page_of(folder / f"{FP32}.html").text("ul", "statements")
    assert "CUDAExecutionProvider did not load, ONNX Runtime fell back to CPUExecutionProvider; the CPU runs it" in said


def _foreign(path: Path, *nodes: onnx.NodeProto, half: float = 0.5) -> Path:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 3, "h", "w"]) for n in ("input", "output")]
    constant = helper.make_tensor("half", TensorProto.FLOAT, [], [half])
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [constant])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_values_that_are_not_finite_and_files_that_say_nothing(folder: Path, call: Call) -> None:
    same = _foreign(folder / "same.onnx", helper.make_node("Identity", ["input"], ["output"]))
    nan = _foreign(
        folder / "nan.onnx",
        helper.make_node("Sub", ["input", "half"], ["x"]),
        helper.make_node("Sqrt", ["x"], ["output"]),
    )
    ran = call("report", nan, same, "--images", folder / "photos", "--json")
    assert ran.code == 3
    assert "NaN" in error_line(ran)
    assert ran.json["parity"]["figures"]["max_abs"] is None
    page = page_of(folder / "nan.onnx.html")
    assert "not finite" in page.text("main")
    assert "None: there is no manifest beside the file." in page.text("main")
    # What is not a number is as bright as can be, so that it is seen.
    difference = next(image for alt, image in page.pictures().items() if "difference" in alt)
    assert difference.max() == 255
    assert "It is another network: its output is not even finite." in page.text("div", "verdict")
    # Equal outputs have no PSNR in JSON, and infinite on the page.
    assert call("report", same, same, "--images", folder / "photos").code == 0
    assert "∞" in page_of(folder / "same.onnx.html").text("main")


@pytest.mark.long
def test_a_benchmark_as_it_was_printed(folder: Path, call: Call) -> None:
    timed = call("benchmark", folder / FP32, "--shape", "1x3x16x24", "--rounds", 2, "--json")
    assert timed.code == 0, timed.err
    (folder / "speed.json").write_text(timed.out, encoding="utf-8")
    words = ["report", folder / FP32, "--images", folder / "photos", "--benchmark", folder / "speed.json"]
    ran = call(*words)
    assert ran.code == 0, ran.err
    page = page_of(folder / f"{FP32}.html")
    contenders = timed.json["results"][0]["contenders"]
    bars = [rect for rect in page.all("rect") if rect.attributes.get("height") == "10"]
    widths = [float(rect.attributes["width"]) for rect in bars]
    slowest = max(row["median_s"] for row in contenders)
    assert widths == pytest.approx([100 * row["median_s"] / slowest for row in contenders], abs=0.01)
    assert f"{contenders[0]['median_s']:.3f}" in page.text("main")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"results": []}',
        '{"measured": "", "device": "", "threads": 1, "rounds": 1, "tools": {}, "results": []}',
        '{"measured": "", "device": "", "threads": 1, "rounds": 1, "tools": {}, "results": [{"model": "", "shape": [1],'
        ' "contenders": [{"name": "x", "peer": false, "median_s": NaN, "spread": 0, "ratio": 1, "peak_rss_mib": 1}]}]}',
        '{"measured": "", "device": "", "threads": 1, "rounds": 1, "tools": {}, "results": [{"model": "", "shape": [1],'
        ' "contenders": [{"name": "x", "peer": false, "median_s": 0, "spread": 0, "ratio": 1, "peak_rss_mib": 1}]}]}',
    ],
)
def test_other_json_is_no_benchmark(folder: Path, call: Call, text: str) -> None:
    (folder / "speed.json").write_text(text)
    ran = call("report", folder / FP32, "--benchmark", folder / "speed.json")
    assert ran.code == 1
    assert "not what `benchmark --json` prints" in error_line(ran)
    assert not (folder / f"{FP32}.html").exists()


def test_what_each_layer_costs(folder: Path, call: Call) -> None:
    words = ["--images", folder / "photos", "--layers", "--json"]
    ran = call("report", folder / FP16, folder / "2x_Calm.pth", *words)
    assert ran.code == 0, ran.err
    rows = ran.json["layers"]["layers"]
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    page_of(folder / f"{FP16}.html")
    most = max(rows, key=lambda row: row["share"])
    text = (folder / f"{FP16}.html").read_text(encoding="utf-8")
    assert f"{most['layer']} causes {most['share']:.0%} of the error" in text
    assert "Which layer costs what" in text and "Share of the error that each layer causes" in text
    assert call("report", folder / FP16, "--layers").code == 2


@pytest.fixture(scope="module")
def built(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shapes = (SMALL_PROFILE.min,), (SMALL_PROFILE.opt,), (SMALL_PROFILE.max,)
    options = ExportOptions(
        ("tensorrt-rtx",), output=tmp_path_factory.mktemp("engine"), engine=EngineOptions(*shapes, ("sm86",))
    )
    (artifact,) = export_model(load_checkpoint(made / "2x_Calm.pth"), options)
    return artifact.path


class TestEngine:
    """A real engine, without a GPU and on the fake one, which executes its ONNX file."""

    def test_not_executed(self, built: Path, made: Path, tmp_path: Path, call: Call) -> None:
        words = ["report", built, "-o", tmp_path / "r.html", "--json"]
        ran = call(*words)
        assert ran.code == 0, ran.err
        if ran.json["runner"]:
            pytest.skip("a GPU is here")
        assert ran.err.splitlines()[-1] == "next: python -m aether_deploy.doctor"
        page = page_of(tmp_path / "r.html")
        assert "the engine itself was not executed then" in page.text("div", "verdict")
        assert "Not executed in this run: " in page.text("ul", "statements")
        assert "of the ONNX file" in page.text("main")
        assert not page.all("img")
        assert "1x3x32x32 / 1x3x48x64 / 1x3x64x96" in page.text("main")
        # A comparison that was asked for and cannot be made is an error.
        ran = call("report", built, made / "2x_Calm.pth", "-o", tmp_path / "second.html")
        assert ran.code == 1
        assert "driver" in error_line(ran)
        assert not (tmp_path / "second.html").exists()

    def test_on_a_gpu_the_cases_are_those_that_its_profiles_take(
        self, built: Path, made: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", fake_path("rtx"))
        monkeypatch.setenv("FAKE_ENGINE_ONNX", str(next(built.parent.glob("*.onnx"))))
        monkeypatch.setenv("FAKE_ENGINE_PROFILES", json.dumps([SMALL_PROFILE.as_dict()]))
        ran = call("report", built, made / "2x_Calm.pth", "-o", tmp_path / "r.html", "--json")
        assert ran.code == 0, ran.err
        cases = [case["case"] for case in ran.json["parity"]["cases"]]
        assert {"noise 1x3x48x64", "checkerboard 1x3x32x32", "chelsea 1x3x64x96"} < set(cases)
        assert "checkerboard 1x3x24x32" not in cases
        assert "Outside the engine's profiles, so not run: " in page_of(tmp_path / "r.html").text("ul", "statements")


class TestPictures:
    """Crops and colours."""

    def test_the_part_is_where_the_detail_is_not_where_the_difference_is(self) -> None:
        lr = np.full((1, 3, 400, 600), 0.5, np.float32)
        lr[0, :, 300:320:2, 500:520] = 1
        expected = lr.repeat(2, axis=2).repeat(2, axis=3)
        actual = expected.copy()
        actual[0, 1, 0, 0] += 0.25
        photo = photo_of(Case("large", lr), expected, actual)
        assert photo.actual.shape == (3, *SHOWN)
        assert photo.actual.max() == 1
        assert photo.difference.max() == 0
        assert photo.figures.max_abs == pytest.approx(0.25)

    def test_the_brightest_colour_is_what_is_allowed_and_more(self) -> None:
        lr = np.zeros((1, 3, 4, 6), np.float32)
        expected = np.zeros((1, 3, 8, 12), np.float32)
        actual = expected.copy()
        actual[0, 0, 0, :4] = 0, 0.1, 0.5, np.nan
        actual[0, 1, 1, :2] = 1, np.inf
        photo = photo_of(Case("dots", lr), expected, actual)
        data = base64.b64decode(heat_uri(photo, 0.5).partition(",")[2])
        with Image.open(io.BytesIO(data)) as image:
            shown = np.asarray(image.convert("RGB")).astype(int)
        assert (shown[4:] == 0).all()
        assert 50 < shown[0, 1].max() < 200
        for place in ((0, 2), (0, 3), (1, 0), (1, 1)):
            assert shown[place].tolist() == [252, 255, 164], place

    def test_a_batch_shows_its_first(self) -> None:
        lr = np.zeros((2, 3, 4, 6), np.float32)
        actual = np.stack([np.full((3, 8, 12), value, np.float32) for value in (0.25, 0.75)])
        photo = photo_of(Case("two", lr), None, actual)
        assert photo.actual.max() == 0.25
        assert photo.figures.max_abs == 0.75


def test_the_line_that_compares_again_works_where_the_page_lies(
    folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pages").mkdir()
    words = ["report", folder / FP16, folder / "2x_Calm.pth", "--images", folder / "photos"]
    assert call(*words, "-o", folder / "pages" / "p.html").code == 0
    line = page_of(folder / "pages" / "p.html").all("code")[-1].text
    assert line == f"python -m aether_deploy.parity ../2x_Calm.pth ../{FP16} --verbose"
    monkeypatch.chdir(folder / "pages")
    ran = call(*line.removeprefix("python -m aether_deploy.").split())
    assert ran.code == 0, ran.err
    assert "PROVED: " in ran.out


def test_a_fused_copy_is_of_the_same_checkpoint(folder: Path, call: Call) -> None:
    assert call("fuse", folder / "2x_Calm.pth", "-o", folder / "f.pth").code == 0
    ran = call("report", folder / FP32, folder / "f.pth", "--json")
    said = " ".join(ran.json["statements"])
    assert f"f.pth and {FP32} were made from one checkpoint, 2x_Calm.pth (same sha256)" in said
    assert "another file" not in said
