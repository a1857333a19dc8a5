"""The documentation's site: it builds without a warning, and loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tools.pictures import PICTURES
from tools.reference import PAGES

ROOT = Path(__file__).parents[2]

_POINTS = re.compile(r"-?\d+\.\d+,-?\d+\.\d+")
_MOST_APART = {"learning.svg": 30.0}  # pixels: its policies' last digits are the machine's


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, strictly."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_it_is_whole(site: Path) -> None:
    """Start page, tutorial and every page of the reference are there, and say something."""
    for name in ("index.md", "tutorial.md", "architecture.md", *PAGES):
        page = (site / name).with_suffix(".html").read_text(encoding="utf-8")
        assert len(page) > 5_000, name
    assert "--no-worker" in (site / "reference" / "commands.html").read_text(encoding="utf-8")


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and pictures come with the site: it works without a network."""
    loads = re.compile(r'<(?:script|img|iframe)[^>]+src="([^"]+)"|<link[^>]+href="([^"]+)"')
    seen = 0
    for page in site.rglob("*.html"):
        for source, style in loads.findall(page.read_text(encoding="utf-8")):
            seen += 1
            assert not re.match(r"(https?:)?//", source or style), (
                f"{page.name}: {source or style}"
            )
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style
    assert seen > 50


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_show_what_the_code_does(name: str) -> None:
    """A picture of the explanations is what the code draws today."""
    kept = (ROOT / "docs" / "pictures" / name).read_text(encoding="utf-8")
    drawn = PICTURES[name]()
    assert len(_POINTS.findall(kept)) == len(_POINTS.findall(drawn))
    for here, there in zip(_POINTS.findall(kept), _POINTS.findall(drawn), strict=True):
        (x, y), (p, q) = (map(float, point.split(",")) for point in (here, there))
        assert abs(x - p) <= 0.2
        assert abs(y - q) <= _MOST_APART.get(name, 0.2), f"draw it anew: {name}"
