"""Takes pictures of the pages of a run: on a desktop, a large screen and a phone, in light, dark and print.

    python scripts/screenshots.py runs/demo --out /tmp/pictures
    python scripts/screenshots.py runs/demo/report.html --out /tmp/pictures --whole

Every page below the folder is opened in Chromium (Debian: chromium, chromium-driver) from the disk. A picture shows the
window before scrolling; with --whole, the whole page. Files are named PAGE-WIDTHxHEIGHT-SCHEME.png; in print the width
is that of A4 within margins of 12 mm at 96 dots per inch.
"""

import argparse
import base64
import io
import tempfile
from pathlib import Path

from browser import CHROMIUM, DRIVER, Page, open_browser
from PIL import Image

from radvqa_jax.command_line.script import run_script

SIZES = ((1280, 800), (1920, 1080), (390, 844))
SCHEMES = ("light", "dark")
PRINTED = (703, 1032)  # CSS pixels of A4 less its margins
TALLEST = 12_000  # pixels; the rest is cut off


def picture(page: Page, file: Path, size: tuple[int, int], *, scheme: str, whole: bool) -> Image.Image:
    """A page as a window of `size` shows it when it is opened."""
    width, height = size
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": "dark" if scheme == "dark" else "light"}]
    media = "print" if scheme == "print" else "screen"
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    page.driver.get(file.resolve().as_uri())
    page.wait("return document.readyState === 'complete' && document.fonts.status === 'loaded'")
    page.wait("return !document.getElementById('panels') || document.querySelector('#words li') !== null")
    options: dict[str, object] = {"format": "png"}
    if whole:
        tall = min(TALLEST, int(page.run("return document.documentElement.scrollHeight")))
        clip = {"x": 0, "y": 0, "width": width, "height": tall, "scale": 1}
        options |= {"captureBeyondViewport": True, "clip": clip}
    shot = page.driver.execute_cdp_cmd("Page.captureScreenshot", options)
    return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")


def find_pages(paths: list[Path]) -> list[Path]:
    """The given pages, and those below the given folders."""
    return [page for path in paths for page in (sorted(path.rglob("*.html")) if path.is_dir() else [path])]


def take(page: Page, file: Path, out: Path, *, whole: bool) -> list[Path]:
    """Writes every picture of one page and returns their paths."""
    wanted = [(size, scheme) for size in SIZES for scheme in SCHEMES] + [(PRINTED, "print")]
    written = []
    for size, scheme in wanted:
        path = out / f"{file.stem}-{size[0]}x{size[1]}-{scheme}.png"
        picture(page, file, size, scheme=scheme, whole=whole).save(path)
        written.append(path)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, help="pages, or folders of a run")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--whole", action="store_true", help="the whole page, not only the top of it")
    options = parser.parse_args()
    if absent := [str(path) for path in options.paths if not path.exists()]:
        parser.error(f"{', '.join(absent)}: there is no such page or folder")
    files = find_pages(options.paths)
    if not files:
        parser.error(f"there is no page (*.html) in {', '.join(map(str, options.paths))}; give the folder of a run")
    if not (CHROMIUM and DRIVER):
        parser.error("Chromium and its driver are needed (Debian: apt install chromium chromium-driver)")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, open_browser(Path(profile)) as page:
        for file in files:
            for path in take(page, file, options.out, whole=options.whole):
                print(path)


if __name__ == "__main__":
    run_script(main)
