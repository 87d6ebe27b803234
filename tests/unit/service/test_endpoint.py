"""The HTTP server by itself: what it takes, what it refuses, what a slow or hostile client can do."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from logship.config import Address
from logship.errors import UsageError
from logship.service.watch import endpoint as module
from logship.service.watch.endpoint import Endpoint
from tests.servers import eventually


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint(Address("127.0.0.1", 0))
    yield made
    made.close()


def ask(endpoint: Endpoint, path: str, method: str = "GET") -> tuple[int, bytes, http.client.HTTPMessage]:
    link = http.client.HTTPConnection(endpoint.address.host, endpoint.address.port, timeout=10)
    try:
        link.request(method, path)
        answer = link.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        link.close()


def raw(endpoint: Endpoint, sent: bytes) -> bytes:
    with socket.create_connection((endpoint.address.host, endpoint.address.port), 10) as link:
        link.sendall(sent)
        answer = b""
        try:
            while data := link.recv(65536):
                answer += data
        except ConnectionResetError:
            return answer
        return answer


def test_while_the_run_starts(endpoint: Endpoint) -> None:
    assert ask(endpoint, "/health")[0] == 200
    status, body, _ = ask(endpoint, "/ready")
    assert (status, json.loads(body)) == (503, {"ready": False, "state": "starting", "reason": ""})
    assert json.loads(ask(endpoint, "/status")[1])["state"] == "starting"
    assert b"logship_build_info" in ask(endpoint, "/metrics")[1]


def test_head_has_the_headers_and_no_body(endpoint: Endpoint) -> None:
    status, body, headers = ask(endpoint, "/", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 1000


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_only_get_and_head(endpoint: Endpoint, method: str) -> None:
    status, _, headers = ask(endpoint, "/status", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_a_method_that_nobody_knows(endpoint: Endpoint) -> None:
    assert raw(endpoint, b"BREW / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 501 ")


def test_other_paths_are_named(endpoint: Endpoint) -> None:
    status, body, _ = ask(endpoint, "/metrics/../../etc/passwd")
    assert status == 404
    assert "/metrics" in json.loads(body)["pages"]


@pytest.mark.parametrize("query", ["after=x", "after=-1", "after=1e9", "after=" + "9" * 40])
def test_a_wrong_parameter(endpoint: Endpoint, query: str) -> None:
    assert ask(endpoint, f"/status?{query}")[0] == 400


@pytest.mark.parametrize("sent", [
    b"\x00\xff\xfe\r\n\r\n", b"GET\r\n\r\n", b"GET http://[ HTTP/1.0\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
    b"GET /" + b"x" * 100_000 + b" HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.0\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.0\r\n" + b"".join(b"h%d: 1\r\n" % i for i in range(500)) + b"\r\n",
])  # fmt: skip
def test_malformed_and_endless_requests(endpoint: Endpoint, sent: bytes) -> None:
    """Refused in a word or cut off, and nothing of them comes back."""
    answer = raw(endpoint, sent)
    assert not answer.startswith(b"HTTP/1.0 200") or b"X: " in sent, answer[:80]
    assert b"xxxx" not in answer
    assert b"yyyy" not in answer
    assert ask(endpoint, "/health")[0] == 200


def test_slow_clients_are_cut_and_hold_up_nobody(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REQUEST_S", 0.5)
    links = [socket.create_connection((endpoint.address.host, endpoint.address.port), 10) for _ in range(40)]
    for link in links:
        link.sendall(b"GET / HT")
    try:
        eventually(lambda: _answers(endpoint), 10, what="the endpoint answers again")
        for link in links:
            link.settimeout(10)
            assert _ended(link)
    finally:
        for link in links:
            link.close()


def _answers(endpoint: Endpoint) -> bool:
    try:
        return ask(endpoint, "/health")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def _ended(link: socket.socket) -> bool:
    try:
        while link.recv(65536):
            continue
    except ConnectionResetError:
        return True
    return True


def test_the_page_needs_nothing_from_elsewhere(endpoint: Endpoint) -> None:
    _, body, headers = ask(endpoint, "/")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    page = body.decode()
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert "innerHTML" not in page
    assert "/* page." not in page, "style and script are in it"


def test_an_address_in_use_is_a_usage_error(endpoint: Endpoint) -> None:
    with pytest.raises(UsageError) as raised:
        Endpoint(endpoint.address)
    assert str(endpoint.address) in raised.value.message
    assert "in use" in raised.value.message


def test_an_address_of_somebody_else() -> None:
    with pytest.raises(UsageError, match="can't listen"):
        Endpoint(Address("192.0.2.1", 9187))
    with pytest.raises(UsageError, match="can't listen"):
        Endpoint(Address("no-such-host.invalid", 9187))


def test_closing_ends_it(endpoint: Endpoint) -> None:
    other = Endpoint(Address("127.0.0.1", 0))
    with socket.create_connection((other.address.host, other.address.port), 10) as link:
        link.sendall(b"GET /hea")
        other.close()
        link.settimeout(10)
        assert _ended(link)
    Endpoint(other.address).close()
