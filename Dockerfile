# featx on CPUs; docs/containers.md says how it is built and run
FROM python:3.12-slim

ENV KERAS_HOME=/data/.keras \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=3

WORKDIR /opt/featx
COPY LICENSE README.md pyproject.toml setup.cfg ./
COPY featx featx
COPY pipelines pipelines
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --disable-pip-version-check '.[export,serve,zstd]' \
    && rm -rf build ./*.egg-info

RUN useradd --create-home --uid 1000 featx \
    && install --directory --owner=featx --group=featx /data /data/cache /data/runs
USER featx
WORKDIR /data
VOLUME ["/data"]

ENTRYPOINT ["featx"]
CMD ["--help"]
