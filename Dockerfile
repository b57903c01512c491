# syntax=docker/dockerfile:1
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY outboxd outboxd
COPY migrations migrations
RUN python -m venv /opt/outboxd \
    && /opt/outboxd/bin/python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && /opt/outboxd/bin/python -m pip install --no-cache-dir "$(ls /wheels/*.whl)[binlog,compression,otlp]"

FROM ${PYTHON_IMAGE}
# The image has no bytecode of the standard library, and user 900 can write none: each start would compile for half a
# second, and each health check for a fifth of one.
RUN python -m compileall -q -x '/(site-packages|tests?)/' "$(python -c 'import os; print(os.path.dirname(os.__file__))')"
# The venv refers to the Python of the image, which is the same in both stages.
COPY --from=build /opt/outboxd /opt/outboxd
RUN useradd --system --uid 900 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin outboxd
USER 900
WORKDIR /
ENV PATH=/opt/outboxd/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    OUTBOXD_HTTP__HOST=0.0.0.0 \
    OUTBOXD_HTTP__PORT=9464
EXPOSE 9464
# Alive means that the loops move. A broker or database that is gone makes it unready (/readyz), not unhealthy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-m", "outboxd.health"]
# Drains: finishes what is in flight within a deadline, gives the lanes back, exits 0.
STOPSIGNAL SIGTERM
ENTRYPOINT ["outboxd"]
CMD ["run"]
