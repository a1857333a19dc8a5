"""What the engine runs on: hashed, listed with its reason, allowed by licence, not too old."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from tests.unit.supply_chain.lock import ROOT, hashes, pinned

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = [Requirement(line) for line in PROJECT["dependencies"]]

# Below these a hole is known (RELIABILITY C28); SQLite's is closed by the single writer instead.
OLDEST = {"jinja2": "3.1.6", "starlette": "0.49.1", "h11": "0.16.0"}

# LGPL: psycopg is used unmodified and can be replaced, which is all that it asks.
ALLOWED = {
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT"),
    *("LGPL-3.0-only", "PSF-2.0", "Zlib"),
}
# How older packages say it.
SPELLED = {
    "MIT License": "MIT",
    "OSI Approved :: MIT License": "MIT",
    "OSI Approved :: BSD License": "BSD-3-Clause",
    "OSI Approved :: Apache Software License": "Apache-2.0",
}


def licence_of(package: str) -> str:
    """Return what a package says of its licence, as an SPDX expression where it can be told."""
    data = distribution(package).metadata
    classifiers = [c for c in data.get_all("Classifier") or [] if c.startswith("License :: ")]
    said = data["License-Expression"] or data["License"]
    if said is None and classifiers:
        said = classifiers[0].removeprefix("License :: ")
    return SPELLED.get(said or "", said or "says nothing")


def is_allowed(expression: str) -> bool:
    """Say whether an SPDX expression without brackets can be kept with allowed licences alone."""
    every = [part.split(" OR ") for part in expression.split(" AND ")]
    return all(any(choice in ALLOWED for choice in choices) for choices in every)


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("says nothing", False),
    ],
)
def test_the_licence_check_knows_the_difference(expression: str, allowed: bool) -> None:  # noqa: FBT001
    assert is_allowed(expression) is allowed


@pytest.mark.parametrize("package", sorted(pinned()))
def test_every_locked_package_has_an_allowed_licence(package: str) -> None:
    assert is_allowed(licence_of(package)), licence_of(package)


def test_every_locked_package_has_its_hashes_and_no_address() -> None:
    """`pip --require-hashes` then takes exactly what was locked, from wherever."""
    text = (ROOT / "requirements" / "run.lock").read_text(encoding="utf-8")
    assert len(pinned()) > 30
    assert len(pinned()) == len(re.findall(r"^\w.*==", text, re.MULTILINE))
    assert [name for name, number in hashes().items() if not number] == []
    assert "://" not in text


def test_every_run_time_dependency_is_listed_with_its_reason() -> None:
    """`docs/dependencies.md` has each of them, and nothing else."""
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z0-9-]+)` \| .{20,} \|$", page, re.MULTILINE)
    assert sorted(listed) == sorted(dependency.name for dependency in DECLARED)
    for extra in PROJECT["optional-dependencies"].values():
        assert all(f"`{Requirement(line).name}`" in page for line in extra)


def test_what_is_imported_is_declared() -> None:
    """Nothing rests on what another package happens to bring along."""
    source = ROOT / "src" / "experiment_engine"
    imported = {
        name
        for path in source.rglob("*.py")
        for name in re.findall(r"^\s*(?:from|import) (\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    foreign = imported - set(sys.stdlib_module_names) - {"experiment_engine"}
    spelled = {"dotenv": "python-dotenv"}
    extras = PROJECT["optional-dependencies"].values()
    declared = {*(d.name for d in DECLARED), *(Requirement(x).name for e in extras for x in e)}
    imports = {spelled.get(name, name.replace("_", "-")) for name in foreign}
    assert imports - declared <= {"google"}  # google-auth's package


@pytest.mark.parametrize("package", OLDEST)
def test_no_version_with_a_known_hole_is_locked_or_installed(package: str) -> None:
    oldest = Version(OLDEST[package])
    assert Version(pinned()[package]) >= oldest
    assert Version(distribution(package).version) >= oldest


@pytest.mark.parametrize("dependency", DECLARED, ids=lambda dependency: dependency.name)
def test_the_lower_bounds_admit_what_is_locked_and_nothing_with_a_hole(
    dependency: Requirement,
) -> None:
    assert dependency.specifier.contains(pinned()[dependency.name])
    (bound,) = dependency.specifier
    assert bound.operator == ">="
    assert Version(bound.version) >= Version(OLDEST.get(dependency.name, "0"))


def test_the_bill_of_materials_holds_what_is_locked(tmp_path: Path) -> None:
    """`make sbom` writes CycloneDX with every package, its version and its hashes."""
    bill = tmp_path / "sbom.cdx.json"
    subprocess.run(
        ["make", "--no-print-directory", "sbom", f"SBOM={bill}"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    document = json.loads(bill.read_text(encoding="utf-8"))
    assert document["bomFormat"] == "CycloneDX"
    held = {component["name"]: component["version"] for component in document["components"]}
    assert held == pinned()
    assert document["metadata"]["component"]["name"] == PROJECT["name"]
