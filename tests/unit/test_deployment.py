"""The files for platforms: each parses, and names only commands and settings that there are."""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiment_engine import __version__
from experiment_engine.entrypoints.cli.main import app
from experiment_engine.settings import SETTINGS, Settings

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "deploy" / "systemd"
KUBERNETES = ROOT / "deploy" / "kubernetes"
SECRETS = {"API_TOKEN", "AMPLITUDE_WEBHOOK_SECRET", "CLEVERTAP_WEBHOOK_SECRET"}

Instruction = tuple[str, str]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def read_yaml(name: str) -> Any:
    return yaml.safe_load(text(name))


def instructions() -> list[Instruction]:
    """Return the Dockerfile's instructions, each with what it is given."""
    joined = re.sub(r"\\\n\s*", "", text("Dockerfile"))
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def unit(name: str) -> dict[str, list[str]]:
    """Return a unit's settings; one may be there several times."""
    found: dict[str, list[str]] = {}
    for line in (SYSTEMD / name).read_text(encoding="utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def manifests() -> Iterator[dict[str, Any]]:
    for file in ("web.yaml", "worker.yaml", "service.yaml"):
        yield yaml.safe_load((KUBERNETES / file).read_text(encoding="utf-8"))


def commands() -> dict[str, list[str]]:
    """Return every command of the engine that a file runs, by where it stands."""
    found = {
        f"Dockerfile {word}": json.loads(rest.partition("CMD ")[2] or rest)
        for word, rest in instructions()
        if word in ("CMD", "HEALTHCHECK")
    }
    for name, service in read_yaml("compose.yaml")["services"].items():
        if name != "database":
            found[f"compose {name}"] = service["command"]
    for service in read_yaml("render.yaml")["services"]:
        found[f"render {service['name']}"] = shlex.split(service["dockerCommand"])
    for line in text("Procfile").splitlines():
        name, _, command = line.partition(": ")
        found[f"Procfile {name}"] = [w for w in shlex.split(command) if "=" not in w]
    for file in SYSTEMD.glob("*.service"):
        found[file.name] = shlex.split(unit(file.name)["ExecStart"][0])
    for manifest in manifests():
        if manifest["kind"] == "Deployment":
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            found[f"kubernetes {manifest['metadata']['name']}"] = container["args"]
    pm2 = text("deploy/pm2/ecosystem.config.cjs")
    script, arguments = (re.search(rf'{key}: "(.+)"', pm2) for key in ("script", "args"))
    assert script is not None
    assert arguments is not None
    found["pm2"] = [script[1], *shlex.split(arguments[1])]
    return found


def environments() -> dict[str, set[str]]:
    """Return the settings that each file gives the engine."""
    found = {}
    given = " ".join(rest for word, rest in instructions() if word == "ENV")
    theirs = {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
    found["Dockerfile"] = set(re.findall(r"(\w+)=", given)) - theirs
    compose = read_yaml("compose.yaml")["services"]
    for name in ("web", "worker"):
        found[f"compose {name}"] = set(compose[name]["environment"])
    render = read_yaml("render.yaml")
    (group,) = render["envVarGroups"]
    for service in render["services"]:
        entries = [*service["envVars"], *group["envVars"]]
        found[f"render {service['name']}"] = {e["key"] for e in entries if "key" in e}
    for file in SYSTEMD.glob("*.service"):
        values = unit(file.name).get("Environment", [])
        found[file.name] = {value.partition("=")[0] for value in values}
    found["Procfile"] = set(re.findall(r"([A-Z_]+)=", text("Procfile")))
    return found


@pytest.mark.parametrize("place", sorted(commands()))
def test_commands_are_there(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file runs a command of the engine with options that it has."""
    program, *words = commands()[place]
    assert Path(program).name == "experiment-engine"
    app.parse_args(words)  # raises for what it does not know
    assert not capsys.readouterr().err


@pytest.mark.parametrize("place", sorted(environments()))
def test_settings_are_there(place: str) -> None:
    """Every file sets settings that there are."""
    assert environments()[place] <= SETTINGS


@pytest.mark.parametrize(
    "place",
    [
        "compose web",
        "compose worker",
        "render experiment-engine",
        "render experiment-engine-worker",
    ],
)
def test_nobody_is_let_in_without_a_secret(place: str) -> None:
    """What can be reached from elsewhere has all three secrets, and a database to share."""
    assert environments()[place] >= SECRETS | {"DATABASE_URL"}


def test_the_image_runs_as_nobody_in_particular() -> None:
    """The image has two stages, no root, no entrypoint, no volume, and its own health check."""
    words = [word for word, _ in instructions()]
    rests = dict(instructions())
    assert words.count("FROM") == 2
    assert not {"ENTRYPOINT", "VOLUME", "ADD"} & set(words)  # Railway refuses VOLUME
    assert int(rests["USER"]) > 0
    assert words.index("USER") > len(words) - 1 - words[::-1].index(
        "RUN"
    )  # the last RUN is root's
    assert "--require-hashes" in text("Dockerfile")
    images = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert all(re.fullmatch(r"python:\d+\.\d+-slim-\w+", image) for image in images)


def test_the_image_gets_what_it_copies_and_no_more() -> None:
    """What the Dockerfile copies is let through, and everything else is kept out."""
    let_in = [line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")]
    copied = [
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert text(".dockerignore").splitlines()[1] == "*"
    assert sorted(copied) == sorted(let_in)
    assert all((ROOT / source).exists() for source in copied)


def test_everybody_waits_until_it_has_ended() -> None:
    """Every platform gives the engine the 20 seconds that it may need to end."""
    compose = read_yaml("compose.yaml")["services"]
    waits = [float(compose[name]["stop_grace_period"][:-1]) for name in ("web", "worker")]
    waits += [s["maxShutdownDelaySeconds"] for s in read_yaml("render.yaml")["services"]]
    waits += [float(unit(file.name)["TimeoutStopSec"][0]) for file in SYSTEMD.glob("*.service")]
    waits.append(json.loads(text("railway.json"))["deploy"]["drainingSeconds"])
    for manifest in manifests():
        if manifest["kind"] == "Deployment":
            waits.append(manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])
    kill = re.search(r"kill_timeout: (\d+)", text("deploy/pm2/ecosystem.config.cjs"))
    assert kill is not None
    assert min([*waits, int(kill[1]) / 1000]) >= 25


def test_health_is_asked_at_routes_that_are_there() -> None:
    """Platforms ask `/health` and `/ready`, which need no secret."""
    asked = {json.loads(text("railway.json"))["deploy"]["healthcheckPath"]}
    asked |= {
        s["healthCheckPath"] for s in read_yaml("render.yaml")["services"] if s["type"] == "web"
    }
    for manifest in manifests():
        asked |= set(re.findall(r"'path': '([^']+)'", str(manifest)))
    assert asked == {"/health", "/ready"}


def test_manifests_fit_together() -> None:
    """Selectors find their pods, the service its port, and nothing runs as root or may write."""
    by_name = {(m["kind"], m["metadata"]["name"]): m["spec"] for m in manifests()}
    web = by_name["Deployment", "experiment-engine"]
    (port,) = by_name["Service", "experiment-engine"]["ports"]
    assert by_name["Service", "experiment-engine"]["selector"] == web["selector"]["matchLabels"]
    assert port["targetPort"] in {p["name"] for p in _container(web)["ports"]}
    for (kind, _), spec in by_name.items():
        if kind == "Deployment":
            pod = spec["template"]
            assert spec["selector"]["matchLabels"] == pod["metadata"]["labels"]
            assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
            assert _container(spec)["securityContext"]["readOnlyRootFilesystem"] is True
    (image,) = yaml.safe_load(text("deploy/kubernetes/kustomization.yaml"))["images"]
    assert image["newTag"] == __version__


def _container(spec: Any) -> Any:
    (container,) = spec["template"]["spec"]["containers"]
    return container


def test_kustomize_builds() -> None:
    """Where kubectl is installed, it builds the manifests (it asks no cluster for that)."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here; the manifests themselves are checked above")
    built = subprocess.run(
        [kubectl, "kustomize", KUBERNETES], capture_output=True, text=True, check=True
    )
    kinds = [one["kind"] for one in yaml.safe_load_all(built.stdout)]
    assert sorted(kinds) == ["Deployment", "Deployment", "Service"]


def analyzed(*arguments: str, folder: Path, what: str = "*") -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze on the units, with programs and accounts that this machine has."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd here; the units' commands and settings are checked above")
    for file in SYSTEMD.iterdir():
        there = file.read_text(encoding="utf-8")
        there = re.sub(r"/opt/experiment-engine/bin/experiment-engine", "/bin/true", there)
        (folder / file.name).write_text(there, encoding="utf-8")
    names = [str(folder / file.name) for file in sorted(SYSTEMD.glob(what))]
    return subprocess.run(
        [program, *arguments, *names], capture_output=True, text=True, check=False
    )


def test_units_are_valid(tmp_path: Path) -> None:
    """Every line of the units is understood by systemd."""
    told = analyzed("verify", "--man=no", "--recursive-errors=no", folder=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "experiment-engine" not in told.stderr


def test_units_are_hardened(tmp_path: Path) -> None:
    """The services' exposure is "OK" in systemd's own judgement: at most 2 of 10."""
    told = analyzed(
        "security", "--offline=yes", "--threshold=20", folder=tmp_path, what="*.service"
    )
    levels = re.findall(r"Overall exposure level for (\S+): ([\d.]+)", told.stdout)
    assert len(levels) == 2, told.stdout + told.stderr
    assert told.returncode == 0
    assert all(float(level) <= 2.0 for _, level in levels), levels


def test_the_socket_is_the_services() -> None:
    """Socket and service have one name, the port is the setting's default, and one stays open."""
    socket = unit("experiment-engine.socket")
    assert socket["ListenStream"] == [f"127.0.0.1:{Settings().port}"]
    assert unit("experiment-engine.service")["Requires"] == ["experiment-engine.socket"]
    assert unit("experiment-engine.service")["Type"] == ["notify"]


def test_pm2_reads_its_file() -> None:
    """Where node is installed, the file of PM2 is a module with one program."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here; the file's command is checked above")
    file = json.dumps(str(ROOT / "deploy" / "pm2" / "ecosystem.config.cjs"))
    say = f"console.log(JSON.stringify(require({file})))"
    told = subprocess.run([node, "-e", say], capture_output=True, text=True, check=True)
    (one,) = json.loads(told.stdout)["apps"]
    assert (one["name"], one["interpreter"]) == ("experiment-engine", "none")


def test_the_lock_is_for_the_image() -> None:
    """The image's Python is one that the project supports, and the lock is resolved for."""
    (first, *_) = [rest for word, rest in instructions() if word == "FROM"]
    version = re.search(r"python:(\d+\.\d+)-", first)
    assert version is not None
    wanted = tomllib.loads(text("pyproject.toml"))["project"]["requires-python"]
    assert wanted == f">={version[1]}"
