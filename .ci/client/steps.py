"""The README's tour, taken with the generated client: every call is a function it generated."""

import importlib
import io
import pkgutil
import time
from http import HTTPStatus
from typing import Any

import crm_client.api
from crm_client import AuthenticatedClient, Client, models, types

SCORE_SECONDS = 300


def operation(name: str) -> Any:
    """The generated module of the operation with this id, whatever its tag."""
    prefix = crm_client.api.__name__ + "."
    for module in pkgutil.walk_packages(crm_client.api.__path__, prefix):
        if module.name.rpartition(".")[2] == name:
            return importlib.import_module(module.name)
    raise SystemExit(f"the document has no operation {name}")


def call(name: str, expected: HTTPStatus, *path: Any, **arguments: Any) -> Any:
    """Calls an operation and answers its parsed reply."""
    response = operation(name).sync_detailed(*path, **arguments)
    assert response.status_code == expected, (name, response.status_code, response.content)
    assert expected == HTTPStatus.NO_CONTENT or response.parsed is not None, (name, response.content)
    return response.parsed


def take(url: str, setup_token: str, plugin: bytes) -> None:
    """Setup token, login, a plugin, a contact, its score, and the trail that all this leaves."""
    anonymous = Client(base_url=url)
    email, password = "ada@example.com", "correct horse battery staple"

    call("register", HTTPStatus.CREATED, client=anonymous, body=models.Register(
        setup_token=setup_token, tenant="acme", name="Ada", email=email, password=password,
    ))
    tokens = call("login", HTTPStatus.OK, client=anonymous, body=models.Login(email=email, password=password))
    client = AuthenticatedClient(base_url=url, token=tokens.access_token)
    me = call("me", HTTPStatus.OK, client=client)
    assert me.user.email == email, me

    uploaded = call("upload_plugin", HTTPStatus.CREATED, client=client, body=types.File(io.BytesIO(plugin)))
    enabled = call("enable_plugin", HTTPStatus.OK, uploaded.id, client=client, sha256=uploaded.sha256)
    assert enabled.status == "enabled", enabled

    created = call("create_contact", HTTPStatus.CREATED, client=client, body=models.ContactCreate(
        name="Grace Hopper", email="grace@example.com", company="Navy", tags=["vip"],
    ))
    assert created.name == "Grace Hopper" and created.score is None, created

    deadline = time.monotonic() + SCORE_SECONDS
    scored = created
    while scored.score is None:
        assert time.monotonic() < deadline, "the plugin did not score the contact in time"
        time.sleep(0.05)
        scored = call("get_contact", HTTPStatus.OK, created.id, client=client)
    assert 0 < scored.score <= 100 and scored.version > created.version, scored

    updated = call("update_contact", HTTPStatus.OK, created.id, client=client,
                   body=models.ContactUpdate(job_title="Rear admiral"), if_match=f'"{scored.version}"')
    assert updated.job_title == "Rear admiral" and updated.score == scored.score, updated
    call("update_contact", HTTPStatus.PRECONDITION_FAILED, created.id, client=client,
         body=models.ContactUpdate(job_title="Ensign"), if_match=f'"{scored.version}"')

    page = call("list_contacts", HTTPStatus.OK, client=client, search="hopper", limit=20)
    assert [contact.id for contact in page.data] == [created.id] and page.next_cursor is None, page

    runs = call("list_plugin_runs", HTTPStatus.OK, uploaded.id, client=client)
    assert [run.outcome for run in runs.data] == ["succeeded"], runs

    audit = call("list_audit", HTTPStatus.OK, client=client)
    trail = [(entry.action, entry.actor.partition(":")[0]) for entry in audit.data]
    for step in [("contacts.create", "user"), ("contacts.update", "plugin"), ("contacts.update", "user")]:
        assert step in trail, (step, trail)

    refreshed = call("refresh", HTTPStatus.OK, client=anonymous,
                     body=models.Refresh(refresh_token=tokens.refresh_token))
    client = AuthenticatedClient(base_url=url, token=refreshed.access_token)
    call("logout", HTTPStatus.NO_CONTENT, client=anonymous,
         body=models.Refresh(refresh_token=refreshed.refresh_token))
    refused = call("refresh", HTTPStatus.UNAUTHORIZED, client=anonymous,
                   body=models.Refresh(refresh_token=refreshed.refresh_token))
    assert refused.code, refused
