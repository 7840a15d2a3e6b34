"""The pictures of docs/report.md: a report of the packaged sample in Chromium, wide and narrow, light and dark.

    python -m benchmarks.screenshots demo/2x_aether_sample_fp16_op20.onnx.html

needs Chromium and the test extra, for Playwright.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parents[1] / "docs" / "images"
# Width of the window -> pixels of the page's height that are shown.
WINDOWS = {1280: 2450, 390: 1900}


def main(report: Path) -> None:
    """Writes `report-<width>-<scheme>.webp`."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width, height in WINDOWS.items():
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                page.goto(report.resolve().as_uri())
                shown = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
                target = FOLDER / f"report-{width}-{scheme}.webp"
                shown.crop((0, 0, width, min(height, shown.height))).save(target, quality=80, method=6)
                print(f"wrote {target} ({target.stat().st_size / 1e3:.0f} kB)")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
