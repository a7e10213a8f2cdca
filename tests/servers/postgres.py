"""Starts a PostgreSQL on a new, empty cluster."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import psycopg

from .binaries import postgres_folder, server_user, within_reach
from .process import DISK, Server, free_port

USER = DATABASE = "mpdispatch"

SETTINGS = {
    # As honest as a server that people run: what is committed is on disk.
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "max_wal_size": "256MB",
    "unix_socket_permissions": "0777",
    "recovery_init_sync_method": "syncfs",  # after a kill: seconds less than file by file
    "log_checkpoints": "off",
    "log_timezone": "UTC",
}


class PostgresServer(Server):
    """A server with one empty database, on a unix socket; with `address`, on a TCP port of it as well."""

    def __init__(
        self, binaries: Path | None = None, address: str = "", *, root: Path = DISK, **settings: str
    ) -> None:
        """Its data are in a new folder within `root`. `settings` are PostgreSQL's own, of the configuration file.

        Raises:
            Absent: there is no PostgreSQL here, or no user to run it.
        """
        binaries = postgres_folder() if binaries is None else binaries
        user = server_user()
        folder = Path(tempfile.mkdtemp(prefix="mpd-pg-", dir=root))
        try:
            programs = within_reach(binaries, user, folder / "programs")
            self.binaries = programs
            """The folder of its programs, `psql` and `pg_dump` among them where the package has them."""
            port = free_port(address or "127.0.0.1")
            _make_cluster(programs, folder, user)
            chosen = {**SETTINGS, "listen_addresses": address, "port": str(port), **settings}
            chosen["unix_socket_directories"] = str(folder)
            (folder / "data" / "mpdispatch.conf").write_text(
                "".join(f"{name} = '{value}'\n" for name, value in chosen.items())
            )
            with (folder / "data" / "postgresql.conf").open("a") as config:
                config.write("include 'mpdispatch.conf'\n")
            with (folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet trust\n")  # hosts at the same bridge as its address
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.tcp_dsn = f"postgresql://{USER}@{address}:{port}/{DATABASE}" if address else ""
        """Its DSN by TCP, if it was given an address."""
        super().__init__(
            f"postgresql://{USER}@/{DATABASE}?host={quote(str(folder), safe='')}&port={port}",
            folder,
            [str(programs / "postgres"), "-D", str(folder / "data")],
            is_ready=self._answers,
            ends_by=signal.SIGINT,
            user=user,
        )

    @property
    def quick_dsn(self) -> str:
        """Commits of its connections do not wait for the disk: for tests that are not about power cuts."""
        return f"{self.dsn}&options={quote('-c synchronous_commit=off')}"

    def _answers(self) -> bool:
        try:
            # The database is made at the first start.
            with psycopg.connect(
                self.dsn.replace(f"/{DATABASE}?", "/postgres?"), autocommit=True
            ) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if found.fetchone() is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
            return True
        except psycopg.OperationalError:
            return False


def _make_cluster(programs: Path, folder: Path, user: str) -> None:
    entry = pwd.getpwnam(user) if user else None
    if entry is not None:
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    folder.chmod(0o755)
    done = subprocess.run(
        [
            *(programs / "initdb", "-D", folder / "data", "-U", USER),
            *("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
        ],
        cwd=folder,
        user=entry and entry.pw_uid,
        group=entry and entry.pw_gid,
        extra_groups=entry and [],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")
