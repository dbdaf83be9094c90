# The image of the pipeline: scheduler, migration and workers run from this one, in development and in production alike.
# Nothing in it says where it runs: that comes at run time, from the environment, /etc/pipeline and /run/secrets.
#
#   ./build                      the usual way; adds a site's own scripts and tools (`./build --help`)
#   docker build -t bag-pipeline .

# `build` gives its digest instead, where it came from a registry.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
# hadolint ignore=DL3008  # as below; of the compiler nothing comes into the image but what it made
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY locks/requirements.txt /build/
# The environment has no pip of its own: it is not needed later.
RUN python -m venv --without-pip /venv \
 && python -m pip --python /venv/bin/python install --no-cache-dir --disable-pip-version-check --require-hashes -r /build/requirements.txt
COPY native/ /build/native/
RUN python -m pip --python /venv/bin/python install --no-cache-dir --disable-pip-version-check --no-index --no-deps /build/native
COPY docker/site/requirements/ /build/site/
# A site's own are resolved together with what is there, which stays: pip names conflicts.
RUN sed -nE 's/^([A-Za-z0-9._-]+==[^ ;]+).*/\1/p' /build/requirements.txt >/build/pinned.txt \
 && set -- && for file in /build/site/*.txt; do [ ! -e "$file" ] || set -- "$@" -r "$file"; done \
 && { [ "$#" -eq 0 ] || python -m pip --python /venv/bin/python install --no-cache-dir --disable-pip-version-check -c /build/pinned.txt "$@"; }
WORKDIR /context
COPY . ./
# Whichever way the image is built: nothing goes in that is none of the program's files, or looks like a credential.
RUN bash docker/no-secrets .
# Compiled here: at run time nothing may be written, and every lane would compile anew.
RUN mkdir /app && cp -R run_pipeline.py luigi.cfg bin pipeline /app/ && cp -R docker/site/bin/. /app/bin/ \
 && rm -f /app/bin/README.md && chmod -R a+rX,go-w /app && python -m compileall -q /app

FROM ${BASE} AS pipeline
COPY docker/site/packages/ /packages/
# hadolint ignore=DL3008  # Debian keeps only its newest fixes: a pinned version would be gone next month
RUN apt-get update \
 && set -- rsync && for file in /packages/*.deb; do [ ! -e "$file" ] || set -- "$@" "$file"; done \
 && apt-get install -y --no-install-recommends "$@" \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /packages
ARG UID=5000
ARG GID=5000
# The numbers are for who runs the image as it is; `user:` at run time may be any other.
RUN groupadd --gid "$GID" pipeline \
 && useradd --uid "$UID" --gid "$GID" --home-dir /home/pipeline --shell /usr/sbin/nologin pipeline \
 && mkdir -p /data /logs /etc/pipeline /home/pipeline/.config/bdrc \
 && chown pipeline:pipeline /data /logs
COPY --from=build /venv /venv
COPY --from=build /app /app
COPY docker/healthy /usr/local/bin/healthy
COPY docker/pipeline.cfg /etc/pipeline/luigi.cfg
COPY docker/site/config/ /home/pipeline/.config/bdrc/
# What the environment brings is found by the sync script too, whose PATH has no /venv.
RUN rm -f /home/pipeline/.config/bdrc/README.md && chmod -R a+rX,go-w /home/pipeline /etc/pipeline \
 && for tool in /venv/bin/*; do case "${tool##*/}" in python*|[Aa]ctivate*|__pycache__) ;; *) ln -sf "$tool" /usr/local/bin/ ;; esac; done

ENV PATH=/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/home/pipeline \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIPELINE_BASE_CONFIG=/app/luigi.cfg \
    LUIGI_CONFIG_PATH=/etc/pipeline/luigi.cfg \
    PIPELINE_PIPELINE_STAGING=/data/staging \
    PIPELINE_PIPELINE_QUARANTINE=/data/quarantine \
    PIPELINE_PIPELINE_LOGS=/logs \
    PIPELINE_PIPELINE_ARCHIVE_ROOT=/mnt \
    PIPELINE_PIPELINE_LOG_FILES=false \
    PIPELINE_PIPELINE_ALIVE_FILE=/tmp/alive
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="bag-pipeline" \
      org.opencontainers.image.description="Brings BagIt bags home from S3 Glacier to the archive file system" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
WORKDIR /app
USER $UID:$GID
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["healthy"]
# A process as number 1 reaps no orphans and ignores signals: run with `docker run --init`, or `init: true` in compose.
ENTRYPOINT ["python", "run_pipeline.py"]
CMD ["run", "--watch"]
