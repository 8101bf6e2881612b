# syntax=docker/dockerfile:1
# One image for every role: `docker run haulage worker`, `haulage flower`, `haulage doctor`.
# For a build that can be repeated to the byte, pass the digest of the day:
#   docker build --build-arg PYTHON=python:3.12-slim-bookworm@sha256:... -t haulage .
ARG PYTHON=python:3.12-slim-bookworm

# hadolint ignore=DL3006
FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1
# For the one dependency with a C module that comes as source only (crcmod, of oss2). Stays in this stage.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements-build.lock requirements.lock ./
# The locks first: a change of the code alone does not install these again.
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --requirement requirements-build.lock \
    && /opt/build/bin/pip wheel --require-hashes --no-build-isolation --no-deps --wheel-dir /wheels --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY providers providers
COPY orchestrator orchestrator
COPY workers workers
COPY haulage haulage
# Nothing is fetched here: every wheel was checked against its hash above.
RUN /opt/build/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /wheels . \
    && python -m venv --without-pip /opt/haulage \
    && /opt/build/bin/pip --python /opt/haulage/bin/python install --no-index --no-deps --compile /wheels/*.whl

# hadolint ignore=DL3006
FROM ${PYTHON}
# A fixed number, so that volumes and security policies can name it.
RUN groupadd --system --gid 10001 haulage \
    && useradd --system --uid 10001 --gid haulage --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin haulage \
    && install --directory --owner haulage --group haulage --mode 0750 /data
COPY --from=build /opt/haulage /opt/haulage
# The root file system may be read-only: the byte code is compiled, and only /tmp and /data are written to.
ENV PATH=/opt/haulage/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TMPDIR=/tmp
USER 10001:10001
WORKDIR /data
# The supervisor drains on SIGTERM: parts in flight are handed back at once. It starts, reaps and restarts its
# processes itself, so no other init is needed before it.
STOPSIGNAL SIGTERM
# For workers: every process that HAULAGE_POOLS asks for has beaten lately. True also while Redis is away, since a restart
# would not help. Flower needs a check of its own, see compose.yml; Kubernetes has its own probes.
HEALTHCHECK --interval=60s --timeout=20s --start-period=60s --retries=3 CMD ["haulage", "doctor", "--only", "worker"]
ENTRYPOINT ["haulage"]
CMD ["worker"]
