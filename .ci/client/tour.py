"""Starts the server, validates its OpenAPI document, generates a client from it, takes the tour.

The client is what openapi-python-client makes of the document, unmodified; a warning of the
generator is a fault of the document.
"""

import argparse
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import openapi_spec_validator
from server import Server

PACKAGE = "crm_client"


def generate(document: Path, package: Path) -> None:
    subprocess.run(
        ["openapi-python-client", "generate", "--fail-on-warning", "--meta", "none",
         "--path", str(document), "--output-path", str(package)],
        check=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crm", type=Path, required=True, help="the crm program")
    parser.add_argument("--plugin", type=Path, required=True, help="lead-scoring as a component")
    parser.add_argument("--work", type=Path, required=True, help="a folder that does not exist")
    arguments = parser.parse_args()

    arguments.work.mkdir(parents=True)
    with Server(arguments.crm.resolve(), arguments.work) as server:
        with urllib.request.urlopen(f"{server.url}/openapi.json", timeout=120) as answer:
            document = json.load(answer)
        openapi_spec_validator.validate(document)
        operations = sum(
            "operationId" in operation
            for item in document["paths"].values()
            for operation in item.values()
            if isinstance(operation, dict)
        )
        print(f"the document is valid: {operations} operations", flush=True)

        path = arguments.work / "openapi.json"
        path.write_text(json.dumps(document))
        generate(path, arguments.work / PACKAGE)

        sys.path.insert(0, str(arguments.work))
        import steps

        steps.take(server.url, server.setup_token, arguments.plugin.read_bytes())
    print("the generated client took the tour, and the server stopped cleanly")


if __name__ == "__main__":
    sys.exit(main())
