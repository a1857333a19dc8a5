"""The site's build: pages that the code writes, pages from the root, links that stay inside."""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from tools.reference import PAGES

ROOT = Path(__file__).parents[1]
FROM_THE_ROOT = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")

_BLOCK = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_config(config: Any) -> Any:
    """List the decisions by their number."""
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    config["nav"].append({"Decisions": [f"decisions/{page.name}" for page in decisions]})
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Add what does not lie in `docs`."""
    for name, page in PAGES.items():
        files.append(File.generated(config, name, content=page()))
    for source, name in FROM_THE_ROOT.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Let links to pages of the repository lead to those of the site; others become plain text."""
    place = page.file.src_uri
    origin = next((s for s, name in FROM_THE_ROOT.items() if name == place), f"docs/{place}")
    return "".join(_relinked(markdown, origin, place))


def _relinked(markdown: str, origin: str, place: str) -> Iterator[str]:
    """Go through the text outside of code blocks."""
    for number, part in enumerate(_BLOCK.split(markdown)):
        yield part if number % 2 else _LINK.sub(lambda m: _link(m, origin, place), part)


def _link(found: re.Match[str], origin: str, place: str) -> str:
    picture, text, target = found[1], found[2], found[3]
    path, _, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", target):
        return found[0]
    there = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
    inside = FROM_THE_ROOT.get(there, there.removeprefix("docs/") if there[:5] == "docs/" else "")
    if not inside or (ROOT / there).is_dir():
        return text  # a file of the repository, which the site does not have
    to = posixpath.relpath(inside, posixpath.dirname(place) or ".")
    return f"{picture}[{text}]({to}{'#' if anchor else ''}{anchor})"
