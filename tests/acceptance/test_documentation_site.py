"""The pages' commands and snippets are run, or at least read by what they are for.

The tutorial is walked as its reader does, in one shell beside a server. What is to be done with
its blocks stands in comments that no reader sees: `run`, `start` (in the first terminal), `prints`
and `log` (what must then be seen).
"""

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.server import COMMAND, eventually, free_port

from experiment_engine.entrypoints.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
PATIENCE = 60.0  # seconds; only a failing test waits that long

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_STEP = re.compile(
    r"<!-- test: (\w+) ?([^\n]*?) ?-->(?:\s*^```sh\n(.*?)^```$)?", re.MULTILINE | re.DOTALL
)
_TYPED = re.compile(
    r"^ *(?:[A-Z_]+=\S+ )*(?:\S*/bin/)?(experiment-engine [^#\n|&;>]*)", re.MULTILINE
)


def blocks(kind: str) -> Iterator[tuple[str, str]]:
    """Return every block of a kind with the name of its page."""
    for page in PAGES:
        for found, text in _FENCE.findall(page.read_text(encoding="utf-8")):
            if found == kind:
                yield page.name, text


def typed() -> set[tuple[str, str]]:
    """Return every command of the engine that a page shows to be typed, and its page."""
    shown = list(blocks("sh"))
    for page in PAGES:
        text = _FENCE.sub("", page.read_text(encoding="utf-8"))
        shown += [(page.name, line) for line in re.findall(r"^    .*$", text, re.MULTILINE)]
    found = {(name, command) for name, text in shown for command in _TYPED.findall(text)}
    return {(name, command.strip()) for name, command in found if "..." not in command}


def test_commands_can_be_typed() -> None:
    """Every command of the engine on a page has its options, and would be run."""
    commands = typed()
    for page, command in sorted(commands):
        words = shlex.split(command)[1:]
        try:
            app.parse_args(words, exit_on_error=False, print_error=False)
        except Exception as error:
            raise AssertionError(f"{page}: {command}: {error}") from error
    print(f"{len(commands)} commands on {len(PAGES)} pages")
    assert len(commands) > 10


def test_configuration_on_pages_is_toml() -> None:
    """Every block of configuration can be read."""
    found = list(blocks("toml"))
    for page, text in found:
        lines = re.sub(r"^ +", "", text, flags=re.MULTILINE)
        assert tomllib.loads(lines) is not None, page
    assert found


def test_python_on_pages_runs(tmp_path: Path) -> None:
    """The Python of a page runs from top to bottom."""
    by_page: dict[str, str] = {}
    for page, text in blocks("python"):
        by_page[page] = by_page.get(page, "") + text
    del by_page["new-partner.md"]  # test_new_partner.py makes a package of it
    for page, program in by_page.items():
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, f"{page}: {ended.stderr}"
    assert by_page


class Reader:
    """Types a page's blocks into two terminals."""

    def __init__(self, folder: Path, shell: "subprocess.Popen[str]") -> None:
        self._shell, self._log = shell, folder / "first-terminal.log"
        self._port = str(free_port())
        self.printed = ""

    def run(self, block: str) -> None:
        """Type a block, wait for its end, and keep what it printed."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        block = block.replace(":3001", f":{self._port}")
        self._shell.stdin.write(f'{block}\necho; echo "ended with $?"\n')
        self._shell.stdin.flush()
        lines = []
        while not (line := self._shell.stdout.readline()).startswith("ended with"):
            assert line, f"the shell ended at:\n{block}"
            lines.append(line)
        self.printed = "".join(lines)
        assert line == "ended with 0\n", block + self.printed

    def start(self, block: str) -> None:
        """Type a block into the first terminal, where it stays."""
        self.run(f"PORT={self._port} {block.strip()} >{self._log} 2>&1 &\nserver=$!")
        self.log("serving")

    def log(self, text: str) -> None:
        """Wait until the first terminal shows a text."""
        self._log.touch()
        eventually(lambda: text in self._log.read_text(encoding="utf-8"), PATIENCE)

    def know(self, name: str) -> None:
        """Take an experiment's id from what was printed last."""
        found = re.search(r'"experiment_id":"([^"]+)"', self.printed.replace(" ", ""))
        assert found is not None, self.printed
        self.run(f"{name}={found[1]}")


@contextmanager
def reading(folder: Path) -> Iterator[Reader]:
    """Open a shell in which the engine and curl are there; end what it started."""
    curl = folder / "commands" / "curl"
    curl.parent.mkdir()
    double = ROOT / "tests" / "support" / "curl.py"
    curl.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{double}" "$@"\n', encoding="utf-8")
    curl.chmod(0o755)
    path = f"{curl.parent}:{COMMAND.parent}:/usr/bin:/bin"
    with subprocess.Popen(
        ["sh"],
        cwd=folder,
        env={"PATH": path, "LOG_FORMAT": "console", "HOME": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as shell:
        try:
            yield Reader(folder, shell)
        finally:
            assert shell.stdin is not None
            shell.stdin.write("kill $server; wait $server\n")
            shell.stdin.close()


@pytest.mark.parametrize("page", ["tutorial.md", "connect-amplitude.md", "connect-clevertap.md"])
def test_a_page_is_walked(tmp_path: Path, page: str) -> None:
    """Every block of the page works as it stands there, one after another."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    steps = _STEP.findall(text)
    assert sum(bool(block) for _, _, block in steps) == text.count("```sh\n")
    with reading(tmp_path) as reader:
        for do, what, block in steps:
            if do == "run":
                if what:
                    reader.know(what.removeprefix("with "))
                reader.run(block)
            elif do == "start":
                reader.start(block)
            elif do == "log":
                reader.log(what)
            else:
                assert what.replace(" ", "") in reader.printed.replace(" ", ""), reader.printed
    print(f"{page}: {len(steps)} steps")
