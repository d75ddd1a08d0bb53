# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds of local processes: which servers there are, and a real one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from itest import causes, naming, wait
from itest.cli.doctor.finding import NOTE, OK, PROBLEM, Finding
from itest.cli.doctor.machine import unwritable
from itest.clock import Deadline
from itest.config import Config
from itest.engines.privileges import Privileges
from itest.engines.process import ProcessEngine
from itest.errors import ConfigError, ItestError, StartError
from itest.services.kafka import jars, recipes
from itest.services.postgres import Postgres
from itest.services.redis import Redis
from itest.spec import ProcessSpec
from itest.trace import Recorder

TIMEOUT = 20.0
"""Seconds for the process."""


def servers(config: Config) -> Iterator[Finding]:
    """What would run in place of the image of each service that has no external server."""
    for service in _wanted(config):
        try:
            spec = service.process("", config)
            if Privileges(config.variable("PATH")).is_nameless(spec):
                known = causes.named(causes.NAMELESS, place="here")
                yield Finding(
                    "process", PROBLEM, f"{spec.version} would not start, as it runs as {known.name}: {known.cure}"
                )
            else:
                yield Finding("process", OK, f"{spec.version} would stand in for image {service.image}")
        except ItestError as error:
            yield _not_used(error)
    if config.kafka_bootstrap_servers:
        return
    try:
        java = jars.find_java(config)
        if (found := jars.present(config, recipes.VERSION)) is not None:
            yield Finding("process", OK, f"{found} would stand in for image {recipes.IMAGE}")
        elif jars.find_maven(config):
            fetched = f"Apache Kafka {recipes.VERSION} would be fetched by mvn once, for {java}"
            if reason := unwritable(config.cache_dir):
                fetched = (
                    f"not used: {fetched}, but {config.cache_dir} cannot be written to ({reason}): set ITEST_CACHE_DIR"
                )
            yield Finding("process", NOTE if reason else OK, fetched)
        else:
            yield Finding(
                "process", NOTE, "not used: no Apache Kafka for local processes; set ITEST_KAFKA_HOME or install Maven"
            )
    except ItestError as error:
        yield _not_used(error)


def trial(config: Config) -> Iterator[Finding]:
    """Start the server that is ready first, and stop it. Not where both are external: nothing would be started here."""
    if not _wanted(config):
        return
    spec = _quickest(config)
    if spec is None:
        yield Finding(
            "process",
            PROBLEM,
            "no server is here that could be started: pip install 'itest-containers[embedded]', or use Docker",
        )
        return
    labels = {naming.SESSION: naming.session_id(), naming.SERVICE: "doctor", naming.OWNER: naming.owner()}
    deadline = Deadline.after(TIMEOUT)
    with closing(ProcessEngine(config)) as engine:
        try:
            instance = engine.start(spec, labels, deadline, Recorder())
            try:
                wait.until_ready(wait.port(), instance, deadline, subject=str(spec))
                said = f"{spec} was started in {deadline.elapsed:.1f} s, answered at {instance.endpoint()}"
            finally:
                instance.stop()
            yield Finding("process", OK, f"{said} and was stopped")
        except StartError as error:
            yield Finding("process", PROBLEM, naming.shorten(str(error), 600))


def _quickest(config: Config) -> ProcessSpec | None:
    for service in _wanted(config):
        try:
            return service.process(naming.secret(), config)
        except ItestError:
            continue
    return None


def _wanted(config: Config) -> list[Redis | Postgres]:
    """Those that have no external server, the quickest to start first."""
    return [service for service in (Redis(), Postgres()) if not getattr(config, service.external_setting)]


def _not_used(error: ItestError) -> Finding:
    """Tests of what is not installed skip; those of what the settings name wrongly fail."""
    return Finding("process", PROBLEM if isinstance(error, ConfigError) else NOTE, f"not used: {error}")
