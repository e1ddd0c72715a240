"""A throwaway PostgreSQL cluster, for as long as a `with` block runs; the tests' own script runs it."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "crm-core/src/testing/postgres.sh"


def programs() -> Path:
    """The folder of the server programs: from PATH, else where Debian keeps the newest."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    newest = max(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), default=None
    )
    if newest is None:
        raise SystemExit("no PostgreSQL server is installed: install the package `postgresql`")
    return newest


class Postgres:
    """The running cluster and its `url`."""

    def __enter__(self) -> "Postgres":
        folder = tempfile.mkdtemp(prefix="crm-pg-")
        password = secrets.token_hex(16)
        Path(folder, "password").write_text(password)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        # PostgreSQL refuses to run as root.
        user = "postgres" if os.getuid() == 0 else None
        if user:
            shutil.chown(folder, user)
        self._process = subprocess.Popen(
            ["sh", SCRIPT, programs(), folder, port],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=user,
        )
        answer = self._process.stdout.readline()
        if answer != "ready\n":
            raise SystemExit("PostgreSQL does not start: " + answer + self._process.stdout.read())
        self.url = f"postgres://postgres:{password}@127.0.0.1:{port}/postgres?sslmode=disable"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(60)
