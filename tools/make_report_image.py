"""Makes the picture of a report that the README shows: the first screen of a recorded run.

    python -m tools.make_report_image

It judges a run of docs/runs by the baselines of this repository, writes its page into a
temporary folder, and takes a picture of it in Chromium. PERFGATE_BROWSER names the
browser where it is not on PATH.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from click.testing import CliRunner

from perfgate.cli.main import main as perfgate

RUN = Path("docs/runs/h200x1-planted/eager/01")
IMAGE = Path("docs/images/report.png")
WIDTH, HEIGHT = 1280, 800
COLORS = 128  # of the picture, which keeps it small
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def browser_path() -> str | None:
    """A Chromium of this machine; None where there is none."""
    named = os.environ.get("PERFGATE_BROWSER")
    found = [named, *map(shutil.which, BROWSERS)]
    for path in found:
        if path:
            return path
    return None


def take(page: Path, image: Path, browser: str) -> None:
    """The first screen of a page as a picture."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    image.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        running = driver.chromium.launch(
            executable_path=browser, args=["--no-sandbox"]
        )
        window = running.new_page(
            viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light"
        )
        window.goto(page.absolute().as_uri())
        window.screenshot(path=image)
        running.close()
    with Image.open(image) as picture:
        small = picture.convert("RGB").quantize(COLORS)
    small.save(image, optimize=True)


def main(arguments: list[str] | None = None) -> None:
    """Write the page and take the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=RUN)
    parser.add_argument("--image", type=Path, default=IMAGE)
    options = parser.parse_args(arguments)
    browser = browser_path()
    if browser is None:
        sys.exit(
            "no Chromium on PATH: install it, or name one by PERFGATE_BROWSER"
        )
    with tempfile.TemporaryDirectory() as folder:
        command = ["report", str(options.run), "--out", folder]
        result = CliRunner().invoke(perfgate, command)
        if result.exit_code:
            sys.exit(result.output)
        take(Path(folder) / "report.html", options.image, browser)
    print(f"wrote {options.image} ({options.image.stat().st_size:,} bytes)")


if __name__ == "__main__":
    main()
