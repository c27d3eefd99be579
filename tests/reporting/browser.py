"""A browser without a screen: a page as its script leaves it, and what can be measured of it on a phone."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=2000"),
    *("--disable-dev-shm-usage", "--dump-dom"),
]

MEASURE = """
<script>
addEventListener("load", async () => {
  const lightness = (colour) => {
    const [red, green, blue, alpha = 1] = colour.match(/[\\d.]+/g).map(Number);
    return alpha < 0.5 ? 0 : (red + green + blue) / 765;
  };
  const elements = [...document.querySelectorAll("*")].filter((e) => e.checkVisibility());
  const light = elements.filter((e) => e.offsetWidth > 40) // a swatch is no panel
    .filter((e) => lightness(getComputedStyle(e).backgroundColor) > 0.3);
  const panels = elements.filter((e) => e.matches("img.figure")).filter((image) => {
    const canvas = document.createElement("canvas");
    canvas.getContext("2d").drawImage(image, 0, 0);
    const [red, , , alpha] = canvas.getContext("2d").getImageData(1, 1, 1, 1).data;
    return alpha > 100 && red > 100;
  });
  const cut = elements.filter((e) => !e.closest(".scroll, .frame"))
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1);
  const scrolled = [...document.querySelectorAll(".scroll")].filter((e) => e.scrollWidth > e.clientWidth + 1);
  parent.postMessage(JSON.stringify({
    width: innerWidth,
    scroll_width: document.documentElement.scrollWidth,
    cut: cut.map((e) => `${e.tagName} ${e.className}`),
    scrolled: scrolled.map((e) => e.getAttribute("aria-label")),
    paper: lightness(getComputedStyle(document.documentElement).backgroundColor),
    light: light.map((e) => `${e.tagName} ${e.className}`),
    panels: panels.map((e) => e.alt),
    figures: elements.filter((e) => e.matches("img.figure")).length,
    requests: performance.getEntriesByType("resource").map((entry) => entry.name),
    errors: window.errors,
    ready: document.documentElement.dataset.ready,
  }), "*");
});
</script>
"""


def dom(page: Path, state: str, profile: Path, *more: str) -> str:
    """The page as its script leaves it, with `state` in its address."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium: apt install chromium")
    command = [browser, *QUIET, *more, f"--user-data-dir={profile}", f"{page.as_uri()}#{state}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def measured(page: Path, state: str, folder: Path, width: int, dark: bool) -> dict[str, Any]:
    """What a script of the tests finds on the page in a window of that width, pixels.

    A window of its own cannot be as narrow as a phone: the page stands in a frame.
    """
    text = page.read_text()
    listening = (
        "<script>window.errors = [];"
        " addEventListener('error', (event) => errors.push(event.message));"
        " addEventListener('securitypolicyviolation', (event) => errors.push(event.blockedURI));</script>"
    )
    assert text.count("</head>") == text.count("</body>") == 1
    (folder / "measured.html").write_text(
        text.replace("</head>", f"{listening}</head>").replace("</body>", f"{MEASURE}</body>")
    )
    frame = folder / "frame.html"
    frame.write_text(
        "<script>addEventListener('message', ({ data }) => document.body.dataset.found = data);</script>"
        f"<iframe src='measured.html#{state}' style='width: {width}px; height: 800px; border: 0'></iframe>"
    )
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    found = re.search('data-found="([^"]*)"', dom(frame, "", folder / "profile", scheme))
    assert found, "the page did not load"
    return json.loads(unescape(found[1]))


def assert_readable(found: dict[str, Any], width: int, dark: bool) -> None:
    """Nothing is wider than the screen or cut, nothing is asked of a network, and the dark is dark."""
    assert found["ready"] == "yes"
    assert found["scroll_width"] <= found["width"] == width
    assert (found["cut"], found["requests"], found["errors"]) == ([], [], [])
    assert found["figures"] == 1
    if dark:
        assert found["paper"] < 0.2
        assert (found["light"], found["panels"]) == ([], [])
    else:
        assert found["paper"] > 0.9
