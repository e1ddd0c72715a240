"""Sends schemathesis at a running server, on both databases, as an admin of a tenant.

Whatever arrives, no answer is a 5xx, and every answer fits the OpenAPI document: its status, media
type, headers and body.
"""

import argparse
import json
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from postgres import Postgres
from server import Server

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


def post(url: str, body: dict[str, str], **headers: str) -> dict[str, str]:
    headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def admin_key(server: Server) -> str:
    """The key of a new tenant's API key with all rights, which outlives any session."""
    api = f"{server.url}/api/v1"
    session = post(f"{api}/auth/register", {
        "setup_token": server.setup_token, "tenant": "acme", "name": "Ada",
        "email": "ada@example.com", "password": "correct horse battery staple",
    })
    authorization = f"Bearer {session['access_token']}"
    body = {"name": "fuzz", "role": "admin"}
    return post(f"{api}/api_keys", body, Authorization=authorization)["key"]


def fuzz(crm: Path, work: Path, database: str, phases: str, examples: int) -> tuple[int, str]:
    """Runs schemathesis on a new server; answers its exit status and what it printed."""
    work.mkdir(parents=True)
    with Server(crm, work, database) as server:
        command = [
            "schemathesis", "run", f"{server.url}/openapi.json",
            "--header", f"Authorization: Bearer {admin_key(server)}",
            "--phases", phases, "--max-examples", str(examples), "--seed", "1",
            "--checks", ",".join(CHECKS), "--continue-on-failure", "--warnings", "off",
            # How fast a busy machine makes up requests, or answers, says nothing about the answers.
            "--suppress-health-check", "too_slow", "--request-timeout", "120",
        ]
        done = subprocess.run(
            command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return done.returncode, done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crm", type=Path, required=True, help="the crm program")
    parser.add_argument("--work", type=Path, required=True, help="a folder that does not exist")
    parser.add_argument("--examples", type=int, default=5, help="requests of each operation")
    # The phase `coverage` goes through tens of thousands of requests: for a quiet hour.
    parser.add_argument("--phases", default="examples,fuzzing", help="those of schemathesis")
    arguments = parser.parse_args()
    crm = arguments.crm.resolve()

    failed = []
    with Postgres() as postgres, ThreadPoolExecutor() as pool:
        databases = {"SQLite": "sqlite://crm.db", "PostgreSQL": postgres.url}
        runs = {
            name: pool.submit(
                fuzz, crm, arguments.work / name, database, arguments.phases, arguments.examples
            )
            for name, database in databases.items()
        }
        for name, run in runs.items():
            status, printed = run.result()
            print(f"---- {name}\n{printed}", flush=True)
            if status != 0:
                failed.append(name)
    if failed:
        print("schemathesis found faults on " + " and ".join(failed))
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
