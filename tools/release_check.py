"""Build the source archive and the wheel twice, and say whether they may be released.

    python -m tools.release_check [--out dist] [--tag v0.1.0]

What is checked: both builds are the same, byte for byte; the wheel holds every file of the package
and nothing else; its metadata are whole; the changelog knows the version; and, with `--tag`,
that the tag names it. The files and SHA256SUMS are left in `--out`.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from email.message import Message
from email.parser import Parser
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory

from experiment_engine import __version__

ROOT = Path(__file__).parents[1]
PACKAGE = "src/experiment_engine/"

_UV = Path(sys.executable).with_name("uv")


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, check and print what was found; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--tag", default=None)
    options = parser.parse_args(arguments)
    wheel, archive, differences = build_twice(options.out)
    mistakes = [
        *differences,
        *mistakes_of_wheel(wheel),
        *mistakes_of_archive(archive),
        *mistakes_of_version(options.tag),
    ]
    for mistake in mistakes:
        print(f"not ready: {mistake}")
    for line in _write_sums(options.out, (wheel, archive)):
        print(line)
    print(f"{wheel.name} and {archive.name}: {'not ready' if mistakes else 'ready'}")
    return 1 if mistakes else 0


def build_twice(out: Path) -> tuple[Path, Path, list[str]]:
    """Build into `out` and once more elsewhere; return wheel, archive and what differs."""
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        builds = [_build(Path(folder)) for folder in (first, second)]
        differences = [
            f"{one.name} is not the same when it is built again"
            for one, other in zip(*builds, strict=True)
            if one.read_bytes() != other.read_bytes()
        ]
        out.mkdir(parents=True, exist_ok=True)
        wheel, archive = (Path(copy(file, out)) for file in builds[0])
    return wheel, archive, differences


def _build(folder: Path) -> tuple[Path, Path]:
    """Build the source archive, and the wheel from it; both carry the last commit's time."""
    environ = os.environ | {"SOURCE_DATE_EPOCH": str(_time_of_the_last_commit())}
    command = [str(_UV), "build", "--quiet", "--out-dir", str(folder), str(ROOT)]
    subprocess.run(command, env=environ, check=True)
    (wheel,), (archive,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, archive


def _time_of_the_last_commit() -> int:
    return int(_git("log", "-1", "--format=%ct")[0])


def _git(*arguments: str) -> list[str]:
    answer = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return answer.stdout.splitlines()


def package_files() -> set[str]:
    """Return every file that a wheel must hold, as git knows them, by its name in the wheel."""
    known = _git("ls-files", "--cached", "--others", "--exclude-standard", PACKAGE)
    return {file.removeprefix("src/") for file in known if (ROOT / file).is_file()}


def mistakes_of_wheel(wheel: Path) -> Iterator[str]:
    """Say what is missing in a wheel, and what should not be in it."""
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        about = f"experiment_engine-{__version__}.dist-info"
        inside = {name for name in names if not name.startswith(about)}
        metadata = Parser().parsestr(opened.read(f"{about}/METADATA").decode())
        commands = opened.read(f"{about}/entry_points.txt").decode()
    yield from (f"{name} is missing in the wheel" for name in sorted(package_files() - inside))
    yield from (f"{name} does not belong there" for name in sorted(inside - package_files()))
    if f"{about}/licenses/LICENSE" not in names:
        yield "the licence is missing in the wheel"
    if "experiment-engine = experiment_engine.entrypoints.cli.main:run" not in commands:
        yield "the command is missing in the wheel"
    if not wheel.name.endswith("-py3-none-any.whl"):
        yield f"{wheel.name} is not for every platform"
    yield from mistakes_of_metadata(metadata)


def mistakes_of_metadata(metadata: Message) -> Iterator[str]:
    """Say what an index would refuse, or could not show."""
    wanted = {
        "Name": "experiment-engine",
        "Version": __version__,
        "License-Expression": "Apache-2.0",
        "Requires-Python": ">=3.11",
        "Description-Content-Type": "text/markdown",
    }
    for name, value in wanted.items():
        if metadata[name] != value:
            yield f"{name} is {metadata[name]!r} and not {value!r}"
    if not metadata["Summary"] or not str(metadata.get_payload()).strip():
        yield "the summary or the description is empty"
    locked = (ROOT / "requirements" / "run.lock").read_text(encoding="utf-8")
    for needed in metadata.get_all("Requires-Dist", []):
        name = re.split(r"[^A-Za-z0-9._-]", needed, maxsplit=1)[0]
        if "extra ==" not in needed and not re.search(rf"^{name}==", locked, re.MULTILINE):
            yield f"{name} is needed and not locked"


def mistakes_of_archive(archive: Path) -> Iterator[str]:
    """Say what is missing in the source archive."""
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    wanted = {f"src/{name}" for name in package_files()} | {"LICENSE", "README.md", "CHANGELOG.md"}
    yield from (f"{name} is missing in the archive" for name in sorted(wanted - names))


def mistakes_of_version(tag: str | None) -> Iterator[str]:
    """Say where another version is named than the one that was built."""
    if tag is not None and tag != f"v{__version__}":
        yield f"the tag {tag} does not name version {__version__}"
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    dated = rf"^## \[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(dated, changes, re.MULTILINE):
        yield f"CHANGELOG.md has no dated section for {__version__}"


def _write_sums(out: Path, files: Sequence[Path]) -> list[str]:
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in files]
    (out / "SHA256SUMS").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return lines


if __name__ == "__main__":
    sys.exit(main())
