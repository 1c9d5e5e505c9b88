# credrotator in a container: `docker build .` where a registry is in reach, `make image` where none is.
#
# BASE is any image with Python 3.11 or newer as `python3`, the same for both stages: the virtual environment is made in
# the first and started in the second.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# Extras of the package, separated by commas; `sandbox` brings the servers to try things against.
ARG EXTRAS=""
WORKDIR /src
# pip stays here: it installs into the other environment from outside.
RUN python3 -m venv /pip && python3 -m venv --without-pip /opt/credrotator

# The part of the lock that the project needs when it runs, with the lock's hashes. Only wheels: nothing is compiled,
# and no package's build script runs. The secret `ca`, where it is given, is the CA of a package index of your own.
COPY pyproject.toml requirements.build requirements.lock tools/image_requirements.py ./
RUN --mount=type=secret,id=ca \
    if [ -f /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    pip="/pip/bin/pip --quiet --disable-pip-version-check --no-cache-dir"; \
    resolve="install --dry-run --only-binary :all: --constraint pins.txt"; \
    locked="install --no-deps --only-binary :all: --require-hashes"; \
    python3 image_requirements.py pins requirements.lock > pins.txt && \
    python3 image_requirements.py direct pyproject.toml "${EXTRAS}" > direct.txt && \
    $pip $resolve --report run.json --requirement direct.txt && \
    $pip $resolve --report build.json --requirement requirements.build && \
    python3 image_requirements.py locked requirements.lock run.json > run.txt && \
    python3 image_requirements.py locked requirements.lock build.json > build.txt && \
    $pip $locked --requirement build.txt && \
    $pip --python /opt/credrotator/bin/python $locked --requirement run.txt

COPY LICENSE README.md ./
COPY docs/credrotator.1 docs/
COPY credrotator credrotator
RUN pip="/pip/bin/pip --disable-pip-version-check --no-cache-dir --quiet"; \
    $pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist . && \
    $pip --python /opt/credrotator/bin/python install --no-index --no-deps /dist/*.whl && \
    /opt/credrotator/bin/credrotator --version
# The asynchronous twin of the Kubernetes client: a quarter of the whole, and nothing imports it.
RUN rm -rf /opt/credrotator/lib/python3*/site-packages/kubernetes/aio

FROM ${BASE}
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="credrotator" \
      org.opencontainers.image.description="Keeps the cloud credentials of an Envoy AI Gateway fresh" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Nothing in a running container can install anything.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip \
           /usr/lib/python3*/ensurepip /usr/share/python-wheels
COPY --from=build /opt/credrotator /opt/credrotator
# Files are complete and compiled: the root file system may be read-only.
ENV PATH=/opt/credrotator/bin:$PATH \
    HOME=/nonexistent \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that Kubernetes can check runAsNonRoot without a look into /etc/passwd.
USER 65532:65532
WORKDIR /
EXPOSE 8080
ENTRYPOINT ["credrotator"]
