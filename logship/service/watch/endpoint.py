"""The HTTP endpoint of a run: /metrics, /health, /ready, /status and the status page.

In: an address, and once the run has parts, its vitals. Out: answers to GET and HEAD, and to nothing else.
It reads and changes nothing; no row value and no password is in any answer. Requests are bounded
in size, time and number at once, in threads of their own: one that is slow or fails concerns nobody else.
There is no authentication: bind it to an address that only those reach who may know what it shows.
"""

from __future__ import annotations

import io
import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from logship.config import Address
from logship.errors import UsageError
from logship.service.watch.exposition import exposition
from logship.service.watch.lookout import Lookout
from logship.service.watch.page import PAGE
from logship.service.watch.vitals import ShipperVitals, Vitals

log = logging.getLogger(__name__)

_REQUEST_BYTES: Final = 16 * 1024
_REQUEST_S: Final = 10.0
_AT_ONCE: Final = 16
_HEADERS: Final = {
    "Content-Security-Policy": PAGE.policy,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_JSON: Final = "application/json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    content_type: str
    body: bytes


class Endpoint:
    """Listens from the start on; answers that it is starting until `show`."""

    def __init__(self, address: Address) -> None:
        """`UsageError` when nobody can listen there."""
        self._shown: Vitals | ShipperVitals | None = None
        self._lookout: Lookout | None = None
        try:
            self._server = _Server(address, self)
        except OSError as error:
            raise UsageError(
                f"--metrics: can't listen on {address}: {error.strerror or error}",
                hint="give another HOST:PORT, or end the program that listens there; port 0 takes a free one",
            ) from error
        host, port = self._server.server_address[:2]
        self.address = Address(str(host), int(port))
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.25}, name="endpoint", daemon=True
        )
        self._thread.start()
        log.info("figures and status page on http://%s/", self.address)

    def show(self, vitals: Vitals | ShipperVitals, lookout: Lookout | None = None) -> None:
        """``lookout``: of a program that replays; without one the status page has nothing to draw."""
        self._lookout = lookout
        self._shown = vitals

    def close(self) -> None:
        """Stop listening, and cut what is still being answered."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    # -- the answers ---------------------------------------------------------------------------------

    def answer(self, path: str, query: Mapping[str, list[str]], accept: str) -> _Answer:
        vitals = self._shown
        match path:
            case "/":
                return _Answer(HTTPStatus.OK, "text/html; charset=utf-8", PAGE.body)
            case "/metrics":
                body, content_type = exposition(vitals, accept)
                return _Answer(HTTPStatus.OK, content_type, body)
            case "/health":
                return _json(HTTPStatus.OK, {"status": "ok", **_state(vitals)})
            case "/ready":
                ready = vitals is not None and vitals.health.ready
                status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
                return _json(status, {"ready": ready, **_state(vitals)})
            case "/status":
                return self._status(query)
        known = ["/", "/metrics", "/health", "/ready", "/status"]
        return _json(HTTPStatus.NOT_FOUND, {"error": "there is no such page", "pages": known})

    def _status(self, query: Mapping[str, list[str]]) -> _Answer:
        after = query.get("after", ["0"])[-1]
        if not (after.isascii() and after.isdigit() and len(after) < 16):
            return _json(HTTPStatus.BAD_REQUEST, {"error": "after is a number: history.last of an answer"})
        vitals, lookout = self._shown, self._lookout
        if not isinstance(vitals, Vitals) or lookout is None:
            return _json(HTTPStatus.OK, _state(vitals))
        return _json(HTTPStatus.OK, vitals.status(lookout, int(after)))


def _state(vitals: Vitals | ShipperVitals | None) -> dict[str, Any]:
    if vitals is None:
        return {"state": "starting", "reason": ""}
    return {
        "replica": vitals.replica,
        "state": vitals.health.state.value,
        "reason": vitals.health.reason,
    }


def _json(status: HTTPStatus, value: Mapping[str, Any]) -> _Answer:
    return _Answer(status, _JSON, json.dumps(value).encode() + b"\n")


class _Server(ThreadingHTTPServer):
    """Cuts requests that take too long, and refuses those beyond `_AT_ONCE`."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: Address, endpoint: Endpoint) -> None:
        infos = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        self.address_family, _, _, _, place = infos[0]
        self.endpoint = endpoint
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float] = {}  # until when each may take
        super().__init__((str(place[0]), int(place[1])), _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own asks the name service who we are, which may take long and is nobody's business.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "", int(self.server_address[1])

    def verify_request(self, request: Any, client_address: Any) -> bool:
        with self._lock:
            if len(self._open) >= _AT_ONCE:
                return False
            self._open[request] = time.monotonic() + _REQUEST_S
        return True

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        self._cut(time.monotonic())

    def server_close(self) -> None:
        super().server_close()
        self._cut(float("inf"))

    def _cut(self, now_s: float) -> None:
        with self._lock:
            for request, until_s in list(self._open.items()):
                if until_s <= now_s:
                    _shut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing; anything else is a defect, and only its class is said."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.error("a request to the endpoint failed: %s", type(error).__name__)


def _shut(link: socket.socket) -> None:
    try:
        link.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is closed already


class _Bounded(io.RawIOBase):
    """The first bytes of a request; then its end, however much more the client sends."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._left = _REQUEST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._left == 0:
            return 0
        count = self._link.recv_into(memoryview(buffer)[: self._left])
        self._left -= count
        return count


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_S
    protocol_version = "HTTP/1.0"  # one request for each connection
    server_version = "logship"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_Bounded(self.connection))

    def do_GET(self) -> None:
        self._reply(with_body=True)

    def do_HEAD(self) -> None:
        self._reply(with_body=False)

    def _refuse(self) -> None:
        self._send(_json(HTTPStatus.METHOD_NOT_ALLOWED, {"error": "only GET and HEAD"}), with_body=True)

    # The library looks for do_<method>.
    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse  # noqa: N815

    def _reply(self, *, with_body: bool) -> None:
        try:
            url = urlsplit(self.path)
            query = parse_qs(url.query, max_num_fields=10)
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        answer = self.server.endpoint.answer(url.path, query, self.headers.get("Accept", ""))
        self._send(answer, with_body=with_body)

    def _send(self, answer: _Answer, *, with_body: bool) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library finds wrong with a request; never what the request said."""
        self.close_connection = True
        self._send(_json(HTTPStatus(code), {"error": HTTPStatus(code).phrase.lower()}), with_body=True)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Requests are not logged."""
