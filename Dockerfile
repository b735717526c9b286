# The gateway alone: no sandbox, no tests, no compiler, no package installer; runs as an ordinary user.
# Settings come from the environment (docs/settings.md); keys are mounted files.

FROM python:3.11-slim AS build
RUN python -m venv /opt/massar
COPY requirements.lock ./
RUN /opt/massar/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
    && /opt/massar/bin/pip uninstall --yes pip setuptools
# Our own packages are plain files on the interpreter's path: nothing is built, so nothing unhashed is fetched.
COPY auth /opt/massar/app/auth
COPY cache /opt/massar/app/cache
COPY datacenters /opt/massar/app/datacenters
COPY gateway /opt/massar/app/gateway
COPY routes /opt/massar/app/routes
RUN /opt/massar/bin/python -m compileall -q /opt/massar/app

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin massar \
    && install -d -o massar -m 0700 /var/lib/massar
COPY --from=build /opt/massar /opt/massar
ENV PATH=/opt/massar/bin:$PATH \
    PYTHONPATH=/opt/massar/app \
    PYTHONUNBUFFERED=1 \
    MASSAR_LISTEN=0.0.0.0:8080 \
    MASSAR_PRIVATE_LISTEN=0.0.0.0:9090 \
    MASSAR_METRICS_DIR=/var/lib/massar
USER massar
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=2s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/livez', timeout=2)"]
CMD ["python", "-m", "gateway", "gateway"]
