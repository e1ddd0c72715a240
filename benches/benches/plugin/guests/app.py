"""Reads the event's record, sets its score, logs the event's kind."""

import wit_world
from crm import plugin, read, write
from wit_world.imports import log, records


class WitWorld(wit_world.WitWorld):
    @plugin
    def handle(self, event):
        contact = read(records.get(event.module, event.record_id))
        records.update(event.module, event.record_id, None, write({"score": 7}))
        log.log(log.Level.INFO, f"{event.kind}: {contact['name']}")
