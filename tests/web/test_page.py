"""The status page as a headless Chromium shows it: idle, under load, stalled, off, old. `make test-web`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from logship.service.watch.page import PAGE
from tests.conftest import Pair
from tests.follow import Follower
from tests.integration.endpoint.scrape import get, until_ready, until_stalled, watched
from tests.servers import eventually

pytestmark = pytest.mark.web

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic", "--hide-scrollbars",
)  # fmt: skip


class Seen(HTMLParser):
    """The page's elements after the script has run: attributes by id, texts by id and by stage."""

    def __init__(self, dom: str) -> None:
        super().__init__()
        self.dom = dom
        self.attributes: dict[str, dict[str, str | None]] = {}
        self.traces: dict[str, str] = {}
        self.body: dict[str, str | None] = {}
        self._open: list[str] = []
        self._texts: dict[str, list[str]] = {}
        self.feed(dom)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        stage = given.get("data-stage")
        name = given.get("id") or (f"stage {stage}" if stage else "")
        if given.get("id"):
            self.attributes[name] = given
        if tag == "body":
            self.body = given
        if given.get("data-trace"):
            self.traces[str(given["data-trace"])] = str(given["d"])
        if tag not in {"meta", "link", "br", "input"}:
            self._open.append(name)

    def handle_endtag(self, tag: str) -> None:
        if self._open:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        for name in {each for each in self._open if each}:
            self._texts.setdefault(name, []).append(data.strip())

    def text(self, name: str) -> str:
        return " ".join(part for part in self._texts.get(name, []) if part)


class Browser:
    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self._count = 0

    def _run(self, *arguments: str) -> str:
        self._count += 1
        profile = self._directory / f"profile-{self._count}"
        done = subprocess.run(
            [self._program, *_FLAGS, f"--user-data-dir={profile}", *arguments],
            capture_output=True, text=True, timeout=90, check=True,
        )  # fmt: skip
        return done.stdout

    def look(self, address: str, *, for_ms: int = 3000) -> Seen:
        return Seen(self._run(f"--virtual-time-budget={for_ms}", "--dump-dom", address))

    def picture(self, address: str, *, dark: bool, width: int = 1400) -> Path:
        to = self._directory / f"picture-{self._count + 1}.png"
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        self._run(
            scheme, f"--window-size={width},1000", "--virtual-time-budget=3000", f"--screenshot={to}", address
        )
        return to


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    program = next((path for path in found if path), None)
    if program is None:
        pytest.fail("no Chromium here: on Debian, apt-get install chromium")
    (tmp_path / "browser").mkdir()
    return Browser(program, tmp_path / "browser")


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[], bytes | None]], str]]:
    """Serves the page itself, and as /status what a test wants the process to have said; None: no answer."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: Callable[[], bytes | None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = PAGE.body if self.path.split("?")[0] == "/" else status()
                if body is None:
                    self.close_connection = True
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/html" if body is PAGE.body else "application/json")
                self.send_header("Content-Security-Policy", PAGE.policy)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
                """Not in the tests' output."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def url(replica: Follower, query: str = "") -> str:
    return f"http://{replica.run.metrics}/{query}"


def test_a_replica_at_work(pair: Pair, tmp_path: Path, browser: Browser) -> None:
    pair.primary.execute(
        'create table "<b>odd</b>" (id int primary key); create table t (id int primary key)'
    )
    with Follower(*pair, tmp_path, settings=watched()) as replica:
        until_ready(replica)
        pair.primary.execute(
            'insert into t select generate_series(1, 1234); insert into "<b>odd</b>" values (1)'
        )
        replica.catch_up()
        eventually(
            lambda: len(json.loads(get(replica, "/status")[1])["history"]["at"]) >= 3, what="a history"
        )
        seen = browser.look(url(replica))
        assert seen.body["data-state"] == "streaming"
        assert seen.text("state") == "streaming"
        assert seen.attributes["stale"].get("hidden") is not None
        for stage in ("received", "flushed", "memory", "persistence"):
            assert "well" in seen.text(f"stage {stage}")
            assert seen.traces[stage].startswith("M"), "its lag is drawn"
        assert "has everything" in seen.text("stage persistence")
        assert "public.t" in seen.text("objects")
        assert "1,234" in seen.text("objects")
        assert "public.<b>odd</b>" in seen.text("objects"), "a name is text, whatever is in it"
        assert "<b>odd" not in seen.dom
        assert "reserved" in seen.text("slot")
        assert "no limit" in seen.text("slot")
        assert re.search(r"<title>streaming · \S+ · logship</title>", seen.dom)
        light, dark = (browser.picture(url(replica), dark=dark).read_bytes() for dark in (False, True))
        assert light != dark
        assert browser.picture(url(replica, "?theme=dark"), dark=False, width=420).stat().st_size > 10_000


def test_a_stage_that_stands(pair: Pair, tmp_path: Path, browser: Browser) -> None:
    pair.primary.execute("create table t (id int primary key)")
    with Follower(*pair, tmp_path, settings=watched()) as replica:
        until_ready(replica)
        with pair.secondary.connect() as blocker:
            blocker.execute("begin")
            blocker.execute("lock table t in access exclusive mode")
            pid = blocker.info.backend_pid
            pair.primary.execute("insert into t values (1)")
            until_stalled(replica, "persistence")
            seen = browser.look(url(replica))
            blocker.execute("rollback")
        assert seen.body["data-state"] == "stalled"
        assert f"held by process {pid}" in seen.text("reason")
        assert "stalled" in seen.text("stage persistence")
        assert "well" in seen.text("stage flushed")
        assert "persistence stands" in seen.text("last-error")
        assert seen.attributes["state"]["class"] == "pill"
        until_ready(replica)


def test_without_memory(pair: Pair, tmp_path: Path, browser: Browser) -> None:
    with Follower(*pair, tmp_path, memory=False, settings=watched()) as replica:
        until_ready(replica)
        eventually(lambda: json.loads(get(replica, "/status")[1])["history"]["at"], what="a history")
        seen = browser.look(url(replica))
        assert "this run keeps no tables in memory" in seen.text("stage memory")
        assert "memory" not in seen.traces, "what isn't there isn't drawn as 0"
        assert "no table has changed" in seen.text("objects")


def _status(pair: Pair, tmp_path: Path) -> dict[str, Any]:
    with Follower(*pair, tmp_path, settings=watched()) as replica:
        until_ready(replica)
        eventually(lambda: json.loads(get(replica, "/status")[1])["history"]["at"], what="a history")
        status: dict[str, Any] = json.loads(get(replica, "/status")[1])
        return status


def test_unknown_is_shown_as_unknown(
    pair: Pair, tmp_path: Path, browser: Browser, serve: Callable[..., str]
) -> None:
    """Everything that may be unknown, in a real answer, made so."""
    status = _status(pair, tmp_path)
    for stage in status["stages"]:
        stage |= {"lsn": None, "lag": None, "lag_bytes": None, "condition": "unknown", "standing": None}
        status["history"]["lag"][stage["stage"]] = [None for _ in status["history"]["at"]]
    status |= {"primary": {"lsn": None, "age": None}, "slot": None, "resident_memory": None}
    seen = browser.look(serve(lambda: json.dumps(status).encode()))
    for stage in ("received", "flushed", "memory", "persistence"):
        assert "unknown" in seen.text(f"stage {stage}")
        assert not re.search(r"\b0 (s|B|ms)\b", seen.text(f"stage {stage}"))
    assert "unknown" in seen.text("slot")
    assert seen.traces == {}


def test_a_page_that_gets_no_answers_any_more_says_so(
    pair: Pair, tmp_path: Path, browser: Browser, serve: Callable[..., str]
) -> None:
    status = json.dumps(_status(pair, tmp_path)).encode()
    answers = iter([status, status])
    seen = browser.look(serve(lambda: next(answers, None)), for_ms=20_000)
    assert seen.body["data-state"] == "unknown"
    assert seen.text("state") == "unknown"
    assert "old" in str(seen.body.get("class"))
    assert "doesn't answer" in seen.text("stale")
    assert "what you see is old, as of" in seen.text("stale")


def test_nobody_there_from_the_start(browser: Browser, serve: Callable[..., str]) -> None:
    seen = browser.look(serve(lambda: None), for_ms=8000)
    assert seen.text("state") == "unknown"
    assert "nothing is known" in seen.text("stale")
