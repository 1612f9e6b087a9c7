"""Where a sweep is kept: Optuna's storage and our own tables in one database, its clock, its lock, its errors.

SQLite (a file in the sweep's folder) serves one machine; PostgreSQL serves any number of them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quincunx.errors import MissingExtra, RunError, UsageError

try:
    import sqlalchemy as sa
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
except ImportError as error:  # Optuna brings it
    raise MissingExtra("optuna", "sweep", "a sweep") from error

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

VERSION = 1
"""Of our tables; a database with a higher one was made by a later version of this package."""

PATIENCE = 60
"""Seconds that SQLite waits for another process's write."""

SECRET = ("password", "sslpassword")
"""Settings of a connection that are never shown."""

TABLES = sa.MetaData()

SCHEMA = sa.Table("quincunx_schema", TABLES, sa.Column("version", sa.Integer, primary_key=True))

SWEEPS = sa.Table(
    "quincunx_sweeps",
    TABLES,
    sa.Column("sweep", sa.Integer, primary_key=True, autoincrement=False),  # Optuna's study_id
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("snapshot", sa.Text),  # JSON: what the sweep is, for machines that join
    sa.Column("seconds", sa.Float, nullable=False),  # at work
    sa.Column("beat", sa.Float, nullable=False),  # of whichever worker, by the database's clock
)

WORKERS = sa.Table(
    "quincunx_workers",
    TABLES,
    sa.Column("sweep", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("owner", sa.String(300), primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("machine", sa.Text, nullable=False),
    sa.Column("beat", sa.Float, nullable=False),
)

RUNS = sa.Table(
    "quincunx_runs",
    TABLES,
    sa.Column("sweep", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("trial", sa.Integer, nullable=False),
    sa.Column("replicate", sa.Integer, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("target", sa.Integer),
    sa.Column("done", sa.Integer, nullable=False),  # RunRecord.update
    sa.Column("total", sa.Integer),
    sa.Column("value", sa.Text),  # as text, because SQLite turns nan into NULL
    sa.Column("curve", sa.Text, nullable=False),  # RunRecord.values as JSON: [[update, value], ...]
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("memory", sa.BigInteger),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("owner", sa.String(300)),
    sa.Column("host", sa.Text),
    sa.Column("same_as", sa.Integer),
    # what makes a doubled run impossible, whatever goes wrong with the lock
    sa.UniqueConstraint("sweep", "trial", "replicate"),
)


class Unreachable(RunError):
    """The database gives no answer at present; the same may succeed a little later."""


@dataclass(frozen=True)
class Database:
    """An open database."""

    engine: sa.Engine
    shown: str
    """Where it is, for people: never with a password."""
    now: sa.TextClause
    """Seconds since 1970 by the database's own clock, as an SQL expression."""
    lock: Callable[[], AbstractContextManager[None]]
    """Keeps every other worker of the sweep from looking, deciding and claiming at the same time."""
    optuna: Callable[[bool], RDBStorage]
    """Opens Optuna's storage in the same database; True: make its tables where they are missing."""
    secrets: tuple[str, ...] = ()
    """What must not appear in the text of an error."""

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A transaction: all of it or nothing, however the process ends.

        Raises:
            Unreachable: The database gives no answer.
            RunError: Anything else went wrong in it.
        """
        with self.guard(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn the errors of the database, Optuna's included, into ours, without a password in the text."""
        from optuna.exceptions import StorageInternalError

        try:
            yield
        except StorageInternalError as error:
            raise self._error(error.__cause__ or error) from None
        except SQLAlchemyError as error:
            raise self._error(error) from None

    def make_tables(self) -> None:
        """Make our tables where they are missing; called under the lock.

        Raises:
            RunError: They were made by a later version of this package.
        """
        with self.guard():
            TABLES.create_all(self.engine)
        with self.begin() as connection:
            found = connection.execute(sa.select(SCHEMA.c.version)).scalar()
            if found is None:
                connection.execute(SCHEMA.insert().values(version=VERSION))
        if found is not None and found > VERSION:
            raise RunError(
                f"{self.shown} was made by a later version of quincunx (tables of version {found}, known here: "
                f"{VERSION}): update quincunx"
            )

    def close(self) -> None:
        """Close its connections."""
        self.engine.dispose()

    def _error(self, error: BaseException) -> RunError:
        text = str(getattr(error, "orig", None) or error).strip()
        for secret in self.secrets:
            text = text.replace(secret, "***")
        lost = isinstance(error, OperationalError | InterfaceError) or (
            isinstance(error, DBAPIError) and error.connection_invalidated
        )
        if "password" in text:
            text += "\nA password is taken from PGPASSWORD, ~/.pgpass, or the URL (sweep.storage, --storage)"
        elif lost and not any(word in text for word in ("no such table", "readonly", "unable to open", "full")):
            return Unreachable(f"the sweep's storage {self.shown} gives no answer: {text}")
        return RunError(f"the sweep's storage {self.shown} cannot be used: {text}")


def open_database(storage: str | None, folder: Path, name: str) -> Database:
    """Open the database of a sweep; nothing is made in it yet (of SQLite's not even the file).

    Args:
        storage: `sweep.storage`.
        folder: The sweep's folder, which holds the SQLite file and the file that is its lock.
        name: Of the sweep in its storage.

    Raises:
        UsageError: `storage` is no URL of a database that can be used here.
        RunError: It cannot be opened.
    """
    if storage is None:
        return _sqlite(folder)
    try:
        url = sa.make_url(storage)
    except SQLAlchemyError:
        raise UsageError("sweep.storage is not an URL: write postgresql://user@host/database") from None
    if url.get_backend_name() != "postgresql":
        raise UsageError(
            f"sweep.storage is of kind {url.drivername}: write postgresql://user@host/database, or leave it out for an "
            "SQLite file in the sweep's folder"
        )
    try:
        import psycopg  # noqa: F401 # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise MissingExtra("psycopg", "sweep", "a sweep on PostgreSQL") from error
    return _postgresql(url.set(drivername="postgresql+psycopg"), name)


def _sqlite(folder: Path) -> Database:
    import sqlite3

    path = folder / "sweep.db"

    def connect() -> sqlite3.Connection:
        # by hand, because `?`, `%` and braces in a path would be read as parts of an URL
        return sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False)

    options: dict[str, Any] = {"creator": connect, "poolclass": sa.pool.QueuePool, "pool_size": 1}
    return Database(
        engine=sa.create_engine("sqlite://", **options),
        shown=str(path),
        now=sa.text("(julianday('now') - 2440587.5) * 86400.0"),
        lock=lambda: _file_lock(folder / "sweep.lock"),
        optuna=lambda make: _optuna("sqlite://", options, make),
    )


def _postgresql(url: sa.URL, name: str) -> Database:
    # a few idle connections a worker: servers allow a hundred
    options: dict[str, Any] = {
        "pool_size": 1,
        "max_overflow": 2,
        "pool_pre_ping": True,
        # the server and we notice a broken line in about a minute, so that a lock does not outlive its worker
        "connect_args": {
            "connect_timeout": 10,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "options": "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
        },
    }
    if "options" in url.query:
        del options["connect_args"]["options"]
    engine = sa.create_engine(url, **options)
    text = url.render_as_string(hide_password=False)
    database = Database(
        engine=engine,
        shown=url.set(drivername="postgresql").difference_update_query(SECRET).render_as_string(),
        now=sa.text("extract(epoch from clock_timestamp())::double precision"),
        lock=lambda: _advisory_lock(database, name),
        # Optuna fills in braces
        optuna=lambda make: _optuna(text.replace("{", "{{").replace("}", "}}"), options, make),
        secrets=tuple(str(value) for value in (url.password, *(url.query.get(name) for name in SECRET)) if value),
    )
    return database


def _optuna(url: str, options: dict[str, Any], make: bool) -> RDBStorage:
    try:
        import optuna
    except ImportError as error:
        raise MissingExtra("optuna", "sweep", "a sweep") from error
    # what it has to say, we say ourselves
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.storages.RDBStorage(url, engine_kwargs=dict(options), skip_table_creation=not make)


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    # the operating system's: it ends with the process, however that ends
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise RunError(f"{path} cannot be opened, so the sweep cannot be locked: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise RunError(
                f"{path} cannot be locked: {error.strerror}; does this file system have locks? sweep.storage on a "
                "PostgreSQL server needs none"
            ) from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _advisory_lock(database: Database, name: str) -> Iterator[None]:
    # the server's, of the session: it ends with the connection, so also with a killed worker
    key = int.from_bytes(blake2b(name.encode(), digest_size=8, person=b"quincunx").digest(), "big", signed=True)
    with database.guard():
        connection = database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        with database.guard():
            connection.execute(sa.text("select pg_advisory_lock(:key)"), {"key": key})
        try:
            yield
        finally:
            try:
                connection.execute(sa.text("select pg_advisory_unlock(:key)"), {"key": key})
            except SQLAlchemyError:  # the line is broken, and with it the lock
                connection.invalidate()
    finally:
        connection.close()
