"""Where events go. Each sink is found by its name under the entry-point group `outboxd.sinks`."""
