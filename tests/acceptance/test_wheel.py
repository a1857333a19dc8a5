"""The wheel: everything is in it, and a stranger comes from `init` to a sent message with it."""

import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import httpx2
import pytest
from tests.support.clevertap_double import PUSH, CleverTapDouble
from tests.support.server import eventually, free_port
from tests.support.start import live

from experiment_engine import __version__
from tools import release_check

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")

PATIENCE = 60.0  # seconds; only a failing test waits that long


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build as for a release; return the wheel, which is ready to be released."""
    out = tmp_path_factory.mktemp("dist")
    assert release_check.main(["--out", str(out), "--tag", f"v{__version__}"]) == 0
    (built,) = out.glob("*.whl")
    return built


def install(wheel: Path, folder: Path, *requirements: str) -> Path:
    """Install the wheel alone into a fresh environment; return where its commands are."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    for what in (requirements, ("--no-deps", str(wheel))):
        if what:
            command = [str(UV), "pip", "install", "--quiet", "--python", str(python), *what]
            subprocess.run(command, check=True)
    return folder / "bin"


@pytest.fixture
def fresh(wheel: Path, tmp_path: Path) -> Path:
    """Return the commands of an environment with the wheel, and what the tests have installed."""
    commands = install(wheel, tmp_path / "fresh")
    (packages,) = (tmp_path / "fresh").glob("lib/python*/site-packages")
    (packages / "theirs.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    return commands


def test_what_is_not_ready_is_told(wheel: Path, tmp_path: Path) -> None:
    """A tag for another version, and a wheel without one of its files, are no release."""
    assert list(release_check.mistakes_of_version("v99.0.0"))
    poorer = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(poorer, "w") as part:
        for name in whole.namelist():
            if not name.endswith("app.css"):
                part.writestr(name, whole.read(name))
    (mistake,) = release_check.mistakes_of_wheel(poorer)
    assert "app.css" in mistake


def test_from_init_to_sent(fresh: Path, tmp_path: Path) -> None:
    """With the wheel alone: `init`, `config check`, `serve`, an event, and CleverTap has it."""
    said = subprocess.check_output([fresh / "experiment-engine", "--version"], text=True)
    assert said.strip() == __version__
    _come_to_sent(fresh, tmp_path)


@pytest.mark.long
def test_from_nothing_to_sent(wheel: Path, tmp_path: Path) -> None:
    """The same in an environment with nothing but the wheel and its locked dependencies."""
    lock = ROOT / "requirements" / "run.lock"
    commands = install(wheel, tmp_path / "bare", "--require-hashes", "-r", str(lock))
    _come_to_sent(commands, tmp_path)
    demo = subprocess.Popen(
        [commands / "experiment-engine", "demo", "--weeks", "1"],
        env={"PATH": "/usr/bin:/bin", "PORT": str(free_port())},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    assert "Watch it learn" in demo.stdout.readline()
    demo.terminate()
    demo.communicate(timeout=PATIENCE)


def _come_to_sent(commands: Path, folder: Path) -> None:
    """Do what the manual says, with delays for the impatient."""
    engine, place = commands / "experiment-engine", folder / "place"
    subprocess.run([engine, "init", place], check=True)
    for cohort in (place / "config" / "cohorts").glob("*.toml"):
        text = cohort.read_text(encoding="utf-8")
        text = re.sub(r"^delay = .*", 'delay = ["0.2s"]', text, flags=re.MULTILINE)
        text = re.sub(r"^channel = .*", 'channel = ["push"]', text, flags=re.MULTILINE)
        cohort.write_text(text, encoding="utf-8")
    rules = place / "config" / "engine.toml"
    quiet = re.compile(r"^\[quiet_hours\].*?^end.*?$", re.MULTILINE | re.DOTALL)
    text = quiet.sub("", rules.read_text(encoding="utf-8"))
    rules.write_text(text.replace("share = 0.05", "share = 0.0"), encoding="utf-8")
    with CleverTapDouble(folder / "ledger", fsync=False) as double:
        environ = {"PATH": "/usr/bin:/bin", "PORT": str(free_port()), "LOG_FORMAT": "console"}
        environ |= live(double)
        subprocess.run([engine, "config", "check"], cwd=place, env=environ, check=True)
        with (folder / "log").open("w") as log:
            serve = subprocess.Popen([engine, "serve"], cwd=place, env=environ, stdout=log)
        try:
            _tell_and_wait(environ["PORT"], place, folder / "log")
        finally:
            serve.terminate()
            assert serve.wait(PATIENCE) == 0
        (call,) = double.ledger()
    assert (call.path, call.users) == (PUSH, ("usr_123",))


def _tell_and_wait(port: str, place: Path, log: Path) -> None:
    settings = (place / ".env").read_text(encoding="utf-8")
    secret = re.search(r"^AMPLITUDE_WEBHOOK_SECRET=(\S+)", settings, re.MULTILINE)
    assert secret is not None
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        eventually(lambda: "serving" in log.read_text(encoding="utf-8"), PATIENCE)
        answer = client.get("/health", timeout=PATIENCE).json()
        assert (answer["version"], answer["mode"]) == (__version__, "live")
        told = client.post(
            "/webhook/amplitude",
            json={"event_type": "checkout_abandoned", "user_id": "usr_123", "$insert_id": "a1"},
            headers={"Authorization": f"Bearer {secret[1]}"},
        )
        assert told.json()["results"][0]["status"] == "scheduled"
        style = re.search(r'href="(/static/app[^"]*\.css)"', client.get("/login").text)
        assert style is not None
        assert client.get(style[1]).status_code == 200
    eventually(lambda: "[SENT]" in log.read_text(encoding="utf-8"), PATIENCE)
