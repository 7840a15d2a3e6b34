"""The report in a real browser: it runs without an error or a request, its slider moves, and it fits a telephone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, Page

from aether_deploy.artifacts.model import ExportOptions
from aether_deploy.artifacts.pipeline import export_model
from aether_deploy.cli.app import main
from aether_deploy.html_report import page as pages
from aether_deploy.network.checkpoint import load_checkpoint
from aether_deploy.precisions.variant import variants
from tests.helpers.browser import CHROMIUM, running_browser, silent_pages
from tests.helpers.networks import calm, save

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report that passed, and one that failed."""
    folder = tmp_path_factory.mktemp("browser")
    made = {}
    checkpoint = save(calm(scale=2, embed_dim=8, depths=(1,), lk_kernel=5, sk_kernel=3), folder / "2x_Calm.pth")
    export_model(load_checkpoint(checkpoint), ExportOptions(variants=variants(("fp32", "fp16"))))
    other = calm(scale=2, embed_dim=8, depths=(1,), lk_kernel=5, sk_kernel=3)
    other.layers[0][0].conv.lk_bias.data[0] += 3
    bad = save(other, folder / "other.pth")
    for name, against in (("passed", checkpoint), ("failed", bad)):
        words = ["report", str(folder / "2x_Calm_fp16_op20.onnx"), str(against), "-o", str(folder / f"{name}.html")]
        CliRunner().invoke(main, words, catch_exceptions=False)
        made[name] = folder / f"{name}.html"
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture
def opened(browser: Browser, files: dict[str, Path]) -> Iterator[Callable[..., Page]]:
    """Opens a report; at the end nothing may have been said on the console, and nothing asked for."""
    with silent_pages(browser, height=900) as open_page:

        def opening(name: str = "passed", width: int = 1280, scheme: str = "light") -> Page:
            return open_page(files[name].as_uri(), ("data:", files[name].as_uri()), width, scheme)

        yield opening


def at(page: Page) -> float:
    """Where the handle is, as a share of the picture's width."""
    found = page.evaluate(
        "() => { const s = document.querySelector('.slider').getBoundingClientRect();"
        " const h = document.querySelector('.handle').getBoundingClientRect();"
        " return (h.left + h.width / 2 - s.left) / s.width; }"
    )
    return float(found)


def test_the_slider_moves_by_mouse_key_and_touch(opened: Callable[..., Page], browser: Browser) -> None:
    page = opened()
    assert at(page) == pytest.approx(0.5, abs=0.01)
    range_ = page.locator(".slider input").first
    range_.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert at(page) == pytest.approx(0.6, abs=0.01)
    page.keyboard.press("Home")
    assert at(page) == pytest.approx(0, abs=0.01)
    range_.scroll_into_view_if_needed()
    box = page.locator(".slider").first.bounding_box()
    assert box is not None
    y = box["y"] + min(box["height"], 300) / 2
    page.mouse.move(box["x"] + box["width"] * 0.1, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, y, steps=5)
    page.mouse.up()
    assert at(page) == pytest.approx(0.8, abs=0.03)


def test_what_is_left_of_the_handle_is_bicubic(opened: Callable[..., Page]) -> None:
    page = opened()
    clip = page.evaluate("() => getComputedStyle(document.querySelector('.slider .after')).clipPath")
    assert clip == "inset(0px 0px 0px 50%)"


def test_zoom_shows_pixels(opened: Callable[..., Page]) -> None:
    page = opened()
    width = int(page.locator(".slider img").first.get_attribute("width") or 0)
    page.get_by_role("button", name="4:1").first.click()
    box = page.locator(".slider").first.bounding_box()
    assert box is not None
    assert box["width"] == pytest.approx(4 * width)
    rendering = page.evaluate("() => getComputedStyle(document.querySelector('.slider img')).imageRendering")
    assert rendering == "pixelated"
    assert page.evaluate("document.documentElement.scrollWidth") == 1280


@pytest.mark.parametrize("name", ["passed", "failed"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overflows(opened: Callable[..., Page], name: str, scheme: str, width: int) -> None:
    page = opened(name, width, scheme)
    page.evaluate("() => document.querySelectorAll('details').forEach(d => d.open = true)")
    beyond = page.evaluate(
        "() => [...document.querySelectorAll('body *')].filter(e => {"
        "  for (let p = e.parentElement; p; p = p.parentElement)"
        "    if (getComputedStyle(p).overflowX !== 'visible' && p !== document.body) return false;"
        "  const r = e.getBoundingClientRect(); return r.width && (r.right > innerWidth + 1 || r.left < -1); })"
        ".map(e => e.tagName + '.' + e.className)"
    )
    assert beyond == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_first_screen_says_it(opened: Callable[..., Page]) -> None:
    for name, said in (("passed", "Your eyes cannot tell them apart"), ("failed", "It is another network: up to")):
        page = opened(name)
        box = page.get_by_text(said).bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 400


def test_it_prints(opened: Callable[..., Page]) -> None:
    page = opened()
    assert page.pdf().startswith(b"%PDF")
    page.emulate_media(media="print")
    assert page.evaluate("() => getComputedStyle(document.querySelector('h2')).breakAfter") == "avoid"
    assert page.evaluate("() => getComputedStyle(document.querySelector('button').parentElement).display") == "none"


def test_contrast_is_that_of_wcag_aa() -> None:
    css = (Path(pages.__file__).parent / "page.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    assert len(blocks) == 3  # light, dark, print
    for block in blocks:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6});", block))
        for text in ("ink", "quiet", "good", "bad", "open"):
            for ground in ("ground", "panel"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground, block)


def contrast(a: str, b: str) -> float:
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
