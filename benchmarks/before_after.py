"""The picture of README: a packaged photo, enlarged by bicubic and by the packaged sample.

python -m benchmarks.before_after
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from aether_deploy.artifacts.opening import open_runner
from aether_deploy.publishing.before_after import write_pictures
from aether_deploy.samples import SAMPLE

TARGET = Path(__file__).parents[1] / "docs" / "images" / "before-after.webp"
# (left, top, right, bottom) of the part shown, in pixels of the result.
PART = (150, 70, 450, 320)
ZOOM = 2


def main() -> None:
    """Writes both halves side by side, each with its name; pixels are doubled so that they can be seen."""
    with tempfile.TemporaryDirectory() as name, open_runner(SAMPLE) as runner:
        folder = Path(name)
        one = next(item for item in write_pictures(runner, folder) if item.name == "chelsea")
        halves = [Image.open(folder / file).convert("RGB").crop(PART) for file in (one.before, one.after)]
    width, height = (size * ZOOM for size in halves[0].size)
    sheet = Image.new("RGB", (2 * width + 8, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=26)
    for number, (half, label) in enumerate(zip(halves, ("bicubic", "2x AetherNet"), strict=True)):
        left = number * (width + 8)
        sheet.paste(half.resize((width, height), Image.Resampling.NEAREST), (left, 0))
        box = draw.textbbox((left + 14, height - 44), label, font=font)
        draw.rectangle((box[0] - 8, box[1] - 6, box[2] + 8, box[3] + 6), fill="black")
        draw.text((left + 14, height - 44), label, font=font, fill="white")
    TARGET.parent.mkdir(exist_ok=True)
    sheet.save(TARGET, quality=90, method=6)
    print(f"wrote {TARGET} ({TARGET.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()
