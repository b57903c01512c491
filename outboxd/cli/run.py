"""`outboxd run`: the daemon."""

import asyncio
import gc
import os
from functools import partial
from typing import Final

import click
import structlog

from outboxd import __version__, eventloop, systemd
from outboxd.backoff import Backoff
from outboxd.cli.options import config_options
from outboxd.composition import open_source, sink_factory
from outboxd.config.settings import Settings
from outboxd.errors import OutboxdError
from outboxd.health.server import HealthServer
from outboxd.pulse import Pulse
from outboxd.supervisor import Supervisor
from outboxd.telemetry import logs
from outboxd.telemetry.exposition import Telemetry

log = structlog.get_logger(__name__)

LISTEN: Final = Backoff(base=0.2, max=5.0, jitter=0.3)
"""How a port that is in use is asked for again: at a restart, by the daemon that is about to end."""


@click.command("run")
@config_options()
def command(settings: Settings) -> None:
    """Deliver events until SIGTERM or SIGINT; a second signal ends it at once.

    Exit codes: 0 stopped as asked, 1 cannot run (its reason on stderr), 2 configuration, 130 second signal.
    """
    handler = logs.configure(settings.log.level, settings.log.format)
    telemetry = Telemetry(
        settings.instance.name or f"{os.uname().nodename}-{os.getpid()}",
        settings.telemetry.otlp_endpoint or None,
        settings.telemetry.otlp_interval,
        handler,
    )
    # What was made so far stays: it is not worth a look. And a batch is thousands of short-lived tuples without cycles.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    guards: eventloop.Guards = []
    eventloop.run(serve(settings, telemetry, guards), guards)


async def serve(settings: Settings, telemetry: Telemetry, guards: eventloop.Guards) -> None:
    """Runs all sources until a signal."""
    pulse = Pulse()
    supervisor = Supervisor(
        {
            name: partial(
                open_source,
                name,
                source,
                build_sink=sink_factory(source),
                instance_name=settings.instance.name,
                metrics=telemetry.source(name),
                pulse=pulse,
                guards=guards,
            )
            for name, source in settings.sources.items()
        }
    )
    health = HealthServer(
        settings.http.host,
        settings.http.port,
        telemetry.render,
        pulse.checks,
        supervisor.readiness,
        paused=supervisor.paused_topics,
    )
    log.info("daemon.starting", version=__version__, pid=os.getpid(), sources=sorted(settings.sources))
    aside = [asyncio.create_task(systemd.feed_watchdog(pulse))]
    if settings.http.enabled:
        aside.append(asyncio.create_task(_listen(health, settings.http.host)))
    try:
        systemd.notify(ready=True)
        await supervisor.run()
        log.info("daemon.stopped")
    finally:
        for task in aside:
            task.cancel()
        await asyncio.gather(*aside, return_exceptions=True)
        await health.stop()
        await asyncio.to_thread(telemetry.shutdown)


async def _listen(health: HealthServer, host: str) -> None:
    """Until the address can be had: delivery does not wait for it."""
    failures = 0
    while True:
        try:
            await health.start()
        except OutboxdError as error:
            failures += 1
            if failures == 1:
                log.error("http.unavailable", reason=str(error))
            await asyncio.sleep(LISTEN.delay(failures))
        else:
            log.info("http.listening", host=host, port=health.port)
            return
