"""What stands on our side: secrets, configuration, database and clock."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from experiment_engine import bootstrap
from experiment_engine.adapters.storage.examining import Condition
from experiment_engine.adapters.system.clock import SystemClock
from experiment_engine.application.diagnosis import Finding, of_rules
from experiment_engine.configuration.checking import check
from experiment_engine.domain.errors import ConfigurationError, StorageUnavailable, UnknownSchema
from experiment_engine.domain.moments import SECOND, Instant
from experiment_engine.settings import SETTINGS, Credential, Settings, misspelt

_LENGTH, _SIGNS = 20, 8  # a secret's characters, and how many different ones
_NEEDED = ("API_TOKEN", "AMPLITUDE_WEBHOOK_SECRET", "CLEVERTAP_WEBHOOK_SECRET")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_ROOM, _LITTLE_ROOM = 256 * 2**20, 2 * 2**30  # bytes
_APART = 5 * SECOND


def of_env_file(path: Path) -> Iterator[Finding]:
    """Look at who may read `.env`."""
    if not path.is_file():
        yield Finding(path.name, "ok", "none here: the settings come from the environment")
    elif os.name == "posix" and (mode := stat.S_IMODE(path.stat().st_mode)) & _OTHERS:
        yield Finding(path.name, "wrong", f"others may read it ({mode:o})", "chmod 600 .env")
    else:
        yield Finding(path.name, "ok", "for its owner alone")


def of_names(path: Path) -> Iterator[Finding]:
    """Look for settings in `.env` that are misspelt, and so are not there."""
    for name, meant in misspelt(path).items():
        yield Finding(name, "note", f"in {path.name}, but there is no such setting", f"{meant}?")


def of_secrets(settings: Settings) -> Iterator[Finding]:
    """Look at what opens our doors; nothing of a secret is said but its length."""
    seen: dict[bytes, str] = {}
    for name in sorted(name for name in SETTINGS if _is_door(settings, name)):
        held = settings.secrets(name)
        weak = [why for place, one in enumerate(held, 1) if (why := _weakness(one, place))]
        twice = [seen[one.reveal()] for one in held if one.reveal() in seen]
        seen |= {one.reveal(): name for one in held}
        if weak:
            mend = "write one that nobody can guess: openssl rand -hex 32"
            yield Finding(name, "wrong", "; ".join(weak), mend)
        elif twice:
            mend = "give each door a secret of its own"
            yield Finding(name, "note", f"the same secret as {twice[0]}", mend)
        elif held:
            yield Finding(name, "ok", f"{len(held)} set, none short")
        elif name in _NEEDED:
            mend = "set it before anybody else can reach the engine: openssl rand -hex 32"
            yield Finding(name, "note", "not set: open to this machine alone", mend)


def _is_door(settings: Settings, name: str) -> bool:
    held = getattr(settings, name.lower(), None)
    return isinstance(held, tuple)


def _weakness(one: Credential, place: int) -> str:
    length, signs = len(one.reveal()), len(set(one.reveal()))
    if length < _LENGTH:
        return f"entry {place} has {length} characters: can be guessed"
    return f"entry {place} has {signs} different characters" if signs < _SIGNS else ""


def of_configuration(settings: Settings) -> Iterator[Finding]:
    """Look at the configuration folder, and at what its rules mean."""
    folder = bootstrap.configuration_folder(settings)
    found = check(folder)
    for mistake in found.mistakes:
        yield Finding("configuration", "wrong", str(mistake), "mend it; `config check` again")
    if found.mistakes:
        return
    try:
        rules = bootstrap.read_rules(settings)
    except ConfigurationError as error:  # what only the settings make wrong
        yield Finding("configuration", "wrong", str(error), "mend it; `config check` again")
        return
    said = f"{folder}: {len(rules.cohorts)} cohorts, fingerprint {rules.fingerprint[:12]}"
    if settings.engine_config is None:
        mend = "`init` writes one to edit; then set ENGINE_CONFIG"
        yield Finding("configuration", "note", f"the bundled example, {said}", mend)
    else:
        yield Finding("configuration", "ok", said)
    yield from of_rules(rules)


def of_database(settings: Settings) -> Iterator[Finding]:
    """Look at the database, its schema and its clock."""
    try:
        found = bootstrap.examine(settings)
    except StorageUnavailable as error:
        mend = "see that it runs and that DATABASE_URL names it, its user and password"
        yield Finding("database", "wrong", str(error), mend)
        return
    if found.faults:
        mend = "what was answered could be lost: set it as docs/operations.md says"
        yield Finding("database", "wrong", f"{found.described}: {', '.join(found.faults)}", mend)
    else:
        yield Finding("database", "ok", found.described)
    yield _room(settings, found)
    yield _schema(settings, found)
    yield _clock(found)


def _room(settings: Settings, found: Condition) -> Finding:
    if found.free is None:
        return Finding("disk", "ok", "the server's own, which cannot be seen from here")
    said = f"{found.free // 2**20:,} MiB free beside {settings.database_path}"
    if found.free < _ROOM:
        return Finding("disk", "wrong", said, "make room: a full disk takes no webhook in")
    if found.free < _LITTLE_ROOM:
        return Finding("disk", "note", said, "make room soon; see [retention] of engine.toml")
    return Finding("disk", "ok", said)


def _schema(settings: Settings, found: Condition) -> Finding:
    if found.is_new:
        return Finding("migrations", "ok", "nothing to migrate: the first start makes the tables")
    try:
        bootstrap.require_schema(settings)
    except UnknownSchema as error:
        return Finding("migrations", "wrong", str(error), "experiment-engine migrate")
    return Finding("migrations", "ok", "the schema is this version's")


def _clock(found: Condition) -> Finding:
    check = "clock of the database"
    if found.now is None:
        return Finding(check, "ok", "this machine's own")
    return of_clock(check, found.now, SystemClock().now())


def of_clock(check: str, theirs: Instant, ours: Instant) -> Finding:
    """Compare a clock with this machine's."""
    seconds = (theirs - ours) / SECOND
    said = f"{abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine's"
    if abs(theirs - ours) > _APART:
        mend = "let both machines take their time from NTP: delays and windows rest on it"
        return Finding(check, "wrong", said, mend)
    return Finding(check, "ok", said)
