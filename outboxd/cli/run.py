"""`outboxd run`: the daemon."""

import asyncio
import gc
import os
from functools import partial

import click
import structlog

from outboxd import __version__, eventloop, systemd
from outboxd.cli.options import config_options
from outboxd.composition import open_source, sink_factory
from outboxd.config.settings import Settings
from outboxd.health.server import HealthServer
from outboxd.pulse import Pulse
from outboxd.supervisor import Supervisor
from outboxd.telemetry import logs
from outboxd.telemetry.exposition import Telemetry

log = structlog.get_logger(__name__)


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
    # A batch is thousands of short-lived tuples without cycles: looking through them all the time finds nothing.
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
    watchdog = asyncio.create_task(systemd.feed_watchdog(pulse))
    try:
        if settings.http.enabled:
            await health.start()
            log.info("http.listening", host=settings.http.host, port=health.port)
        systemd.notify(ready=True)
        await supervisor.run()
        log.info("daemon.stopped")
    finally:
        await health.stop()
        watchdog.cancel()
        await asyncio.to_thread(telemetry.shutdown)
