# The engine in a container: built from the lock file, run by nobody in particular.
# On SQLite put a volume at /data; with DATABASE_URL=postgresql://... nothing is written.
# Pin both images by their digest (`docker buildx imagetools inspect`) before you rely on them.

FROM python:3.11-slim-bookworm AS build

WORKDIR /build
RUN python -m venv /opt/engine
COPY requirements/run.lock requirements/run.lock
RUN /opt/engine/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements/run.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/engine/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps . && \
    /opt/engine/bin/pip uninstall --yes --quiet pip setuptools

FROM python:3.11-slim-bookworm

RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin engine && \
    install --directory --owner=engine --mode=0700 /data
COPY --from=build /opt/engine /opt/engine
ENV PATH=/opt/engine/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    LOG_FORMAT=json \
    DATABASE_URL=sqlite:////data/experiment_engine.db
WORKDIR /data
USER 10001
EXPOSE 3001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["experiment-engine", "health"]
CMD ["experiment-engine", "serve"]
