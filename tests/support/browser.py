"""A real browser for tests of pages: found once, started once, and asked what it shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.make_report_image import browser_path

BROWSER = browser_path()
# Where a person or CI wants to see the pages: each scene is saved there as a picture.
SCREENSHOTS = os.environ.get("PERFGATE_SCREENSHOTS", "")
DESK, PHONE = (1280, 800), (390, 844)
VIEWS = {
    "light": (DESK, "light"),
    "dark": (DESK, "dark"),
    "phone": (PHONE, "light"),
}
# Width, errors, and the least contrast and size of text, of all that is displayed.
_MEASURE = """() => {
  const channels = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const level = rgb => rgb.slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
      .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at).backgroundColor;
      const rgb = style.startsWith("color(srgb")
          ? channels(style.slice(10)).map((v, n) => n < 3 ? v * 255 : v) : channels(style);
      if (rgb.length === 3 || rgb[3] > 0.5) return rgb;
    }
    return [255, 255, 255];
  };
  const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  let least = 99, smallest = 99, poorest = "", tiniest = "";
  for (const element of document.querySelectorAll("body *")) {
    if (["SCRIPT", "STYLE", "OPTION"].includes(element.tagName)) continue;
    if (["title", "desc"].includes(element.tagName)) continue;
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), drawn = element instanceof SVGElement;
    let size = parseFloat(style.fontSize);
    if (drawn) size *= element.getScreenCTM().a ** 2 + element.getScreenCTM().b ** 2 > 0
        ? Math.hypot(element.getScreenCTM().a, element.getScreenCTM().b) : 1;
    const text = element.textContent.trim().slice(0, 40);
    if (size < smallest) { smallest = size; tiniest = text; }
    const color = channels(drawn ? style.fill : style.color);
    const found = contrast(level(color), level(ground(element)));
    if (found < least) { least = found; poorest = text; }
  }
  return {width: document.documentElement.scrollWidth, least, poorest, smallest, tiniest};
}"""


def start():
    """A generator of one running Chromium, for a fixture of a module."""
    if BROWSER is None:
        pytest.skip(
            "no chromium on PATH: install one, or name one by PERFGATE_BROWSER"
        )
    playwright = pytest.importorskip(
        "playwright.sync_api",
        reason="needs playwright, which drives the browser",
    )
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox"]
        )
        yield running
        running.close()


def opened(browser, path, view):
    """A window with the page; `troubles` collects its errors and requests off the disk."""
    (width, height), scheme = VIEWS[view]
    window = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme=scheme
    )
    window.troubles = []
    window.on("pageerror", lambda error: window.troubles.append(str(error)))

    def on_console(message):
        if message.type == "error":
            window.troubles.append(message.text)

    def on_request(request):
        if not request.url.startswith("file:"):
            window.troubles.append(request.url)

    window.on("console", on_console)
    window.on("request", on_request)
    window.goto(Path(path).as_uri())
    return window


def measured(window):
    """Width of the page, least contrast and smallest text, with the words that have them."""
    return window.evaluate(_MEASURE)


def first_screen(window):
    """The texts that lie wholly inside the window before anybody scrolls."""
    return window.evaluate(
        """() => [...document.querySelectorAll("h1, dt, dd p, th, td, .tile p, figcaption h3")]
            .filter(e => e.checkVisibility() && e.getBoundingClientRect().bottom <= innerHeight)
            .map(e => e.innerText.trim()).filter(Boolean)"""
    )


def save(window, name):
    """A picture of the first screen, and one of the whole page, where they are wanted."""
    if not SCREENSHOTS:
        return
    folder = Path(SCREENSHOTS)
    folder.mkdir(parents=True, exist_ok=True)
    window.screenshot(path=folder / f"{name}.png")
    window.screenshot(path=folder / f"{name}-whole.png", full_page=True)
