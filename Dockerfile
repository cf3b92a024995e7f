# The gateway as a service of its own: no compiler, no test tools, not root.
FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv /opt/gateway
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
RUN /opt/gateway/bin/pip install --no-cache-dir --only-binary=:all: .

FROM python:3.13-slim
RUN groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid gateway --no-create-home --home-dir /data --shell /usr/sbin/nologin gateway \
    && install --directory --owner gateway --group gateway --mode 0700 /data
COPY --from=build /opt/gateway /opt/gateway
COPY config /etc/couch-gateway/config
COPY sync_functions /etc/couch-gateway/sync_functions
ENV PATH=/opt/gateway/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER gateway
WORKDIR /data
VOLUME /data
EXPOSE 4984
STOPSIGNAL SIGTERM
ENTRYPOINT ["couch-gateway"]
CMD ["serve", "--config", "/etc/couch-gateway/config/couchdb.yaml"]
