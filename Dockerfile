# The service. From the repository's root: `make images`, or by hand `docker build -t code-interpreter/service .`
# BASE is an image with a Python >= 3.11 that has pip and venv. The executor's file is sandbox-runtime/Dockerfile.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS dependencies
COPY requirements/server.lock /tmp/
# Where an index is behind a certificate authority of its own: `--secret id=ca,src=FILE`. A mount is in no layer.
RUN --mount=type=secret,id=ca \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && python3 -m venv --without-pip /opt/service \
    && python3 -m pip --python /opt/service/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes --no-deps --only-binary :all: -r /tmp/server.lock \
    && find /opt/service -type d -name tests -prune -exec rm -rf {} +

FROM dependencies AS project
COPY pyproject.toml LICENSE /source/
COPY broker /source/broker
COPY client /source/client
COPY pool /source/pool
COPY sandbox-runtime /source/sandbox-runtime
# Beside the dependencies, so that a layer of their own outlives our releases.
RUN python3 -m pip --python /opt/service/bin/python install --no-cache-dir --disable-pip-version-check \
        --no-warn-script-location --no-deps --no-index --no-build-isolation --prefix /project /source

# The lock pins the build backend too; what only that one needs goes with it.
FROM dependencies AS needed
RUN python3 -m pip --python /opt/service/bin/python uninstall --quiet --yes \
        hatchling packaging pathspec pluggy tomlkit trove-classifiers

FROM ${BASE}
# A service needs no pip, no account but its own and nothing that lends rights. Python's own modules come compiled, as
# no start could keep what it compiled: images of Python have them as source only.
RUN python3 -m compileall -q -x '/(tests?|idlelib|lib2to3|site-packages|dist-packages)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && rm -rf "$(python3 -c 'import os, pip; print(os.path.dirname(pip.__file__))')" /usr/bin/pip* /usr/local/bin/pip* \
    && rm -f /etc/passwd- /etc/group- /etc/shadow* /etc/gshadow* \
    && find / -xdev -type f -perm /6000 -delete \
    && echo 'root:x:0:0:root:/root:/usr/sbin/nologin' >/etc/passwd \
    && echo 'service:x:65532:65532:service:/tmp:/usr/sbin/nologin' >>/etc/passwd \
    && printf 'root:x:0:\nservice:x:65532:\n' >/etc/group
COPY --from=needed /opt/service /opt/service
COPY --from=project /project /opt/service
ENV PATH=/opt/service/bin:${PATH:-/usr/local/bin:/usr/bin:/bin} \
    HOST=0.0.0.0
USER 65532:65532
EXPOSE 8000
ENTRYPOINT ["code-interpreter"]
CMD ["serve"]
ARG VERSION=unknown
LABEL org.opencontainers.image.title="code-interpreter" \
      org.opencontainers.image.description="Runs untrusted Python in sandboxes that were started before the request came" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
