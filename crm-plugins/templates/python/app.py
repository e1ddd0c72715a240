"""What the plugin does."""

import wit_world
from crm import plugin, read
from wit_world.imports import log


class WitWorld(wit_world.WitWorld):
    @plugin
    def handle(self, event):
        contact = read(event.after)
        log.log(log.Level.INFO, f"{event.kind}: {contact['name']}")
