"""The only place that joins ports to adapters. Read it to see what production is made of."""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import httpx2
from sqlalchemy import Engine as Readers

from experiment_engine.adapters.amplitude import export_api, upload
from experiment_engine.adapters.amplitude.export_api import ExportApi
from experiment_engine.adapters.amplitude.upload import AmplitudeUpload
from experiment_engine.adapters.by_channel import SenderByChannel
from experiment_engine.adapters.calling.provider import Opening
from experiment_engine.adapters.clevertap import events_api
from experiment_engine.adapters.clevertap.events_api import EventsApi
from experiment_engine.adapters.clevertap.sender import Account, base_url
from experiment_engine.adapters.dry_run.sender import DryRunSender
from experiment_engine.adapters.providers import PROVIDERS
from experiment_engine.adapters.storage import backups, copying, postgres_connections, sqlite
from experiment_engine.adapters.storage.copying import Tell
from experiment_engine.adapters.storage.evidence import EvidenceReader, consistent
from experiment_engine.adapters.storage.examining import (
    Condition,
    examine_postgresql,
    examine_sqlite,
)
from experiment_engine.adapters.storage.ledger_pages import LedgerPages
from experiment_engine.adapters.storage.postgres import PostgresStorage, migrate_database
from experiment_engine.adapters.storage.reading import StorageReader
from experiment_engine.adapters.storage.reading_pages import PageReader
from experiment_engine.adapters.storage.schema import require_newest
from experiment_engine.adapters.storage.sqlite import SqliteStorage, migrate_file
from experiment_engine.adapters.system.chance import SystemChance
from experiment_engine.adapters.system.clock import SystemClock
from experiment_engine.adapters.system.logs import Journal
from experiment_engine.application.ports import Chance, Clock, MessageSender
from experiment_engine.application.receipts import Reader, Receipts
from experiment_engine.application.report import Report
from experiment_engine.configuration.loading import bundled_example, load
from experiment_engine.domain.delivery.experiment import Mode
from experiment_engine.domain.errors import ConfigurationError
from experiment_engine.domain.identifiers import EVERY_CHANNEL, Channel, UserId
from experiment_engine.domain.moments import Duration
from experiment_engine.domain.rules import Rules
from experiment_engine.engine.engine import Engine
from experiment_engine.engine.ground import Ground
from experiment_engine.settings import Settings

T = TypeVar("T")

_PUSH = frozenset({EVERY_CHANNEL, Channel("push")})


def open_engine(
    settings: Settings,
    journal: Journal,
    clock: Clock | None = None,
    chance: Chance | None = None,
    *,
    patience: float = 0.0,
) -> Engine:
    """Read the configuration, open the database (making its schema if it is new), and join all.

    Waits at most `patience` seconds for the process that has the embedded database.
    Raises ConfigurationError, StorageInUse, UnknownSchema or StorageUnavailable.
    """
    rules = read_rules(settings)
    mode = mode_of(settings, rules)
    storage = open_storage(settings, patience)
    # Where hosts share a database, its time is the one that they agree on.
    clock = clock or (storage.clock if isinstance(storage, PostgresStorage) else SystemClock())
    return Engine(rules, Ground(mode, storage, journal, clock, chance or SystemChance()))


def read_rules(settings: Settings) -> Rules:
    """Read the configuration, and which channels are connected; raises ConfigurationError."""
    rules = load(configuration_folder(settings))
    channels = {
        name: replace(channel, connected=channel.provider in settings.connected)
        for name, channel in rules.channels.items()
    }
    return replace(rules, channels=channels)


def mode_of(settings: Settings, rules: Rules) -> Mode:
    """Return whether messages leave the house: the provider of some channel is connected."""
    providers = {channel.provider for channel in rules.channels.values()}
    return Mode.DRY_RUN if providers.isdisjoint(settings.connected) else Mode.LIVE


def configuration_folder(settings: Settings) -> Path:
    """Return where the configuration is read from."""
    return settings.engine_config or bundled_example()


def open_storage(settings: Settings, patience: float = 0.0) -> SqliteStorage | PostgresStorage:
    """Open the database, making its schema if it is new.

    Raises ConfigurationError, StorageInUse, UnknownSchema or StorageUnavailable.
    """
    if settings.is_sqlite:
        return SqliteStorage(settings.database_path, patience=patience)
    return PostgresStorage(settings.database_url)


def examine(settings: Settings) -> Condition:
    """Look at the database without changing anything; raises StorageUnavailable."""
    if settings.is_sqlite:
        return examine_sqlite(settings.database_path)
    return examine_postgresql(settings.database_url)


def require_schema(settings: Settings) -> None:
    """Raise UnknownSchema unless the database has this version's schema."""
    with _reading(settings):
        pass


def refuses_push(settings: Settings, user: UserId) -> bool:
    """Say whether the newest choice of a user's on push, or on every channel, is a no."""
    if settings.is_sqlite and not settings.database_path.is_file():
        return False
    with _reading(settings) as readers:
        choices = StorageReader(readers).users_choices(user)
    newest = {choice.channel: choice for choice in reversed(choices)}
    return any(not choice.allowed for name, choice in newest.items() if name in _PUSH)


@contextmanager
def open_log(settings: Settings) -> Iterator[EvidenceReader]:
    """Open one consistent view of the database that cannot write, beside whoever else has it.

    Raises ConfigurationError where there is no database yet, and UnknownSchema.
    """
    with _reading(settings) as readers, consistent(readers) as reader:
        yield reader


@contextmanager
def open_receipts(settings: Settings, read: Reader) -> Iterator[Receipts]:
    """Open what shows and redraws decisions, beside whoever else has the database.

    Raises ConfigurationError where there is no database yet, and UnknownSchema.
    """
    rules = read_rules(settings)
    mode = mode_of(settings, rules)
    with _reading(settings) as readers, consistent(readers) as evidence:
        report = Report(StorageReader(readers), rules, mode, SystemClock())
        yield Receipts(report, PageReader(readers), evidence, read)


@contextmanager
def open_ledger(settings: Settings) -> Iterator[LedgerPages]:
    """Open the ledger page by page, beside whoever else has the database.

    Raises ConfigurationError where there is no database yet, and UnknownSchema.
    """
    with _reading(settings) as readers:
        yield LedgerPages(readers)


@contextmanager
def _reading(settings: Settings) -> Iterator[Readers]:
    if settings.is_sqlite and not settings.database_path.is_file():
        raise ConfigurationError(
            f"DATABASE_URL: there is no database at {settings.database_path} yet:"
            " name the one that `serve` uses"
        )
    if settings.is_sqlite:
        url = sqlite.embedded_url(settings.database_path)
        readers = sqlite.open_readers(settings.database_path)
    else:
        url = postgres_connections.address(settings.database_url)
        readers = postgres_connections.open_readers(url)
    try:
        require_newest(url)
        yield readers
    finally:
        readers.dispose()


def open_throwaway(
    database: Path,
    rules: Rules,
    journal: Journal,
    *,
    clock: Clock,
    chance: Chance,
    lease: Duration,
) -> Engine:
    """Open an engine that takes itself to be live, on a database that nobody will miss."""
    storage = SqliteStorage(database, throwaway=True)
    return Engine(rules, Ground(Mode.LIVE, storage, journal, clock, chance, lease=lease))


def migrate(settings: Settings) -> tuple[str | None, str]:
    """Bring the database to this version's schema; return the revision before and after.

    Raises StorageInUse, StorageUnavailable or ConfigurationError.
    """
    if settings.is_sqlite:
        return migrate_file(settings.database_path)
    return migrate_database(settings.database_url)


def copy_to_postgresql(source: Settings, target: Settings, tell: Tell) -> Mapping[str, int]:
    """Copy a SQLite database into an empty PostgreSQL one; return the rows of each table."""
    now = SystemClock().now()
    return copying.copy_to_postgresql(source.database_path, target.database_url, now, tell)


def back_up(settings: Settings, copy: Path) -> None:
    """Write a copy of the database to a new file."""
    if settings.is_sqlite:
        backups.back_up_sqlite(settings.database_path, copy, SystemClock().now())
    else:
        backups.back_up_postgresql(settings.database_url, copy)


def restore(settings: Settings, copy: Path) -> None:
    """Make the database from a copy; there must be none yet."""
    now = SystemClock().now()
    if settings.is_sqlite:
        backups.restore_sqlite(copy, settings.database_path, now)
    else:
        backups.restore_postgresql(copy, settings.database_url, now)


def open_export(settings: Settings) -> AbstractContextManager[ExportApi]:
    """Open Amplitude's Export API; the client ends with the block."""
    url = settings.amplitude_export_url or export_api.BASE_URLS[settings.amplitude_region]
    client = export_api.open_client(url, settings.amplitude_api_key, settings.amplitude_secret_key)
    return _with(client, ExportApi(client, time.sleep))


def open_events(settings: Settings, zone: str) -> AbstractContextManager[EventsApi]:
    """Open CleverTap's events API; the client ends with the block."""
    account = Account(settings.clevertap_account_id, settings.clevertap_passcode)
    url = settings.clevertap_base_url or base_url(settings.clevertap_region)
    client = events_api.open_client(url, account.headers())
    return _with(client, EventsApi(client, zone, time.sleep))


@contextmanager
def _with(client: httpx2.Client, api: T) -> Iterator[T]:
    with client:
        yield api


def open_analytics(settings: Settings) -> AmplitudeUpload | None:
    """Return whom to tell of experiments; None where nobody asked for it."""
    if not settings.amplitude_tell:
        return None
    url = settings.amplitude_base_url or upload.base_url(settings.amplitude_region)
    return AmplitudeUpload(url, settings.amplitude_api_key)


def open_sender(settings: Settings, rules: Rules) -> MessageSender:
    """Return what hands each channel's calls to its provider, or in dry run calls nobody."""
    if mode_of(settings, rules) is Mode.DRY_RUN:
        return DryRunSender()
    senders: dict[Channel, MessageSender] = {}
    for provider in PROVIDERS.values():
        channels = {
            name: channel
            for name, channel in rules.channels.items()
            if channel.provider == provider.name
        }
        if channels and provider.name in settings.connected:
            opening = Opening(settings.settings_of(provider), channels, SystemClock())
            senders |= dict.fromkeys(channels, provider.open(opening))
    return SenderByChannel(senders)
