"""A `crm serve` on a new database, for as long as a `with` block runs."""

import os
import re
import secrets
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

START_SECONDS = 300
STOP_SECONDS = 120


class Server:
    """The running server: its `url` and the `setup_token` that it printed."""

    def __init__(self, crm: Path, work: Path, database: str = "sqlite://crm.db") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            listen = "127.0.0.1:%d" % probe.getsockname()[1]
        self.url = f"http://{listen}"
        self.setup_token = ""
        self._output: list[str] = []
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CRM_")}
        environment["CRM_SECRET_KEY"] = secrets.token_urlsafe(48)
        self._process = subprocess.Popen(
            [crm, "serve", "--listen", listen, "--database", database],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._output.append(line)
            found = re.search(r"setup[ _-]token\W+([\w.-]{16,})", line, re.IGNORECASE)
            if found and not self.setup_token:
                self.setup_token = found[1]

    def __enter__(self) -> "Server":
        deadline = time.monotonic() + START_SECONDS
        while not (self.setup_token and self._is_ready()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise SystemExit("the server does not become ready:\n" + "".join(self._output))
            time.sleep(0.05)
        return self

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = "none within %d s" % STOP_SECONDS
        self._reader.join(5)
        if kind or status != 0:
            print("".join(self._output), end="")
        if not kind and status != 0:
            raise SystemExit(f"the server did not stop cleanly: exit status {status}")
