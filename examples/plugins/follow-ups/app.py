"""Every night, makes a task for each open deal that should have closed by now: once for each date
that was expected, however many nights it is overdue. The tenant needs the module in tasks.toml."""

import json

import wit_world
from crm import plugin, read, write
from wit_world.imports import clock, kv, log, records

OPEN = ["qualification", "proposal", "negotiation"]


class WitWorld(wit_world.WitWorld):
    @plugin
    def cron(self, tick):
        today = clock.now()[:10]
        overdue = {"stage": {"in": OPEN}, "expected_close": {"lt": today}}
        made, cursor = 0, None
        while True:
            query = records.Query(json.dumps(overdue), ["expected_close"], 100, cursor)
            page = records.list("deals", query)
            made += sum(follow_up(read(deal), today) for deal in page.records)
            cursor = page.next_cursor
            if cursor is None:
                break
        log.log(log.Level.INFO, f"made {made} tasks")


def follow_up(deal, today):
    """Makes the deal's task, unless there is one for the date that was expected."""
    key, expected = f"deal:{deal['id']}", deal["expected_close"].encode()
    if kv.get(key) == expected:
        return False
    task = {"title": f"Follow up: {deal['title']}", "deal_id": deal["id"], "due": today}
    records.create("tasks", write(task))
    kv.set(key, expected)
    return True
