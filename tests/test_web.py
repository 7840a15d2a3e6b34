"""The page in a real browser: the pixels that it saves are ours, nothing leaves the machine, it fits a telephone."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from aether_deploy.artifacts import web_runtime
from aether_deploy.artifacts.opening import known_file, open_runner
from aether_deploy.pictures.upscale_any import upscale
from aether_deploy.samples import PHOTOS
from tests.helpers.browser import CHROMIUM, running_browser, silent_pages
from tests.helpers.commands import Ran, error_line
from tests.helpers.networks import SAMPLE, calm, save

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="no npm here, which fetches onnxruntime-web"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, call: Callable[..., Ran]) -> Path:
    """The page of the packaged sample."""
    output = tmp_path_factory.mktemp("web")
    ran = call("export", SAMPLE, "-o", output, "--format", "web")
    assert ran.code == 0, ran.err
    assert "next: python -m http.server --directory" in ran.out
    return output / "2x_aether_sample_fp32_web"


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Of a plain static server of that folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

    class Patient(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            return  # a page that was closed hangs up

    server = Patient(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Opens the page; at the end nothing may have been said on the console, and nothing asked for elsewhere."""
    with silent_pages(browser, height=800) as open_page:

        def opening(width: int = 1280, scheme: str = "light") -> Page:
            return open_page(address, (address, "blob:", "data:"), width, scheme)

        yield opening


def saved(page: Page, photo: Path, target: Path) -> str:
    """Gives the page a photo and saves its result; returns what it says."""
    page.set_input_files("#file", photo)
    page.wait_for_selector("#result:not([hidden])", timeout=40_000)
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(target)
    return page.inner_text("#status")


def test_what_is_written(folder: Path) -> None:
    assert known_file(folder / "model.onnx").matches
    assert {path.name for path in folder.iterdir()} >= {"index.html", "settings.json", *web_runtime.RUNTIME_FILES}


def test_the_pixels_are_ours(opened: Callable[..., Page], folder: Path, tmp_path: Path) -> None:
    """A photo in tiles, against the same file upscaled here."""
    with Image.open(PHOTOS / "chelsea.png") as photo:
        photo.convert("RGB").crop((0, 0, 200, 150)).save(tmp_path / "in.png")
    said = saved(opened(), tmp_path / "in.png", tmp_path / "theirs.png")
    assert "WebAssembly, 1 thread ran the network" in said or "WebGPU ran the network" in said
    with open_runner(folder / "model.onnx") as runner:
        upscale(runner, tmp_path / "in.png", tmp_path / "ours.png")
    with Image.open(tmp_path / "theirs.png") as theirs, Image.open(tmp_path / "ours.png") as ours:
        assert theirs.size == (400, 300)
        assert np.abs(np.asarray(theirs.convert("RGB")).astype(int) - np.asarray(ours)).max() <= 1


@pytest.mark.long
def test_without_a_connection(opened: Callable[..., Page], tmp_path: Path) -> None:
    """Once it is loaded."""
    page = opened()
    page.wait_for_selector("#status:has-text('Ready')", timeout=40_000)
    page.context.set_offline(True)
    shutil.copy(PHOTOS / "coffee.png", tmp_path / "in.png")
    assert "ran the network" in saved(page, tmp_path / "in.png", tmp_path / "out.png")


def test_transparent_pictures_stay_so(opened: Callable[..., Page], tmp_path: Path) -> None:
    pixels = np.zeros((20, 30, 4), np.uint8)
    pixels[..., 1] = 200
    pixels[:, 15:, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "in.png")
    saved(opened(), tmp_path / "in.png", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as result:
        alpha = np.asarray(result)[..., 3]
    assert alpha.shape == (40, 60) and alpha[:, :20].max() < 8 and alpha[:, 40:].min() > 247


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone(scheme: str, opened: Callable[..., Page], tmp_path: Path) -> None:
    page = opened(width=390, scheme=scheme)
    with Image.open(PHOTOS / "coffee.png") as photo:
        photo.crop((0, 0, 60, 40)).save(tmp_path / "in.png")
    saved(page, tmp_path / "in.png", tmp_path / "out.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(247, 246, 243)"
    assert light == (scheme == "light")
    page.focus("#at")
    before = page.evaluate("getComputedStyle(document.getElementById('slider')).getPropertyValue('--at')")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.getElementById('slider').style.getPropertyValue('--at')") != before


def test_what_is_no_picture(opened: Callable[..., Page], tmp_path: Path) -> None:
    (tmp_path / "in.png").write_text("no picture")
    page = opened()
    page.set_input_files("#file", tmp_path / "in.png")
    page.wait_for_selector("#status.bad")
    assert "in.png is no picture that the browser can read" in page.inner_text("#status")


class TestRefusals:
    def test_a_package_that_is_not_the_published_one(
        self, tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(web_runtime, "_SHA512", "0" * 88)
        ran = call("export", SAMPLE, "-o", tmp_path, "--format", "web")
        assert (ran.code, "as it was published (sha512)" in error_line(ran)) == (1, True)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    def test_no_npm_and_no_cache(
        self, tmp_path: Path, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(shutil, "which", lambda name: None)
        line = error_line(call("export", SAMPLE, "-o", tmp_path, "--format", "web"))
        assert f"npm pack onnxruntime-web@{web_runtime.VERSION}" in line

    @pytest.mark.parametrize("options", [("--static", "1x3x32x32"), ("--precision", "fp16", "--io", "fp16")])
    def test_what_a_page_cannot_take(self, options: tuple[str, ...], call: Callable[..., Ran]) -> None:
        assert "photos of any size" in error_line(call("export", SAMPLE, "--format", "web", *options))

    def test_one_channel(self, tmp_path: Path, call: Callable[..., Ran]) -> None:
        source = save(calm(in_chans=1, scale=2), tmp_path / "2x_Grey.pth")
        assert "photos of any size" in error_line(call("export", source, "--format", "web"))
