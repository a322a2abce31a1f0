"""The proxy before a server does what it is told, to real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.servers.tcp_proxy import TcpProxy
from tests.waiting import eventually


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that answers every piece with itself."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


@pytest.fixture
def proxy(echo: tuple[str, int]) -> Iterator[TcpProxy]:
    with TcpProxy(*echo) as made:
        yield made


def connect(proxy: TcpProxy, *, timeout: float = 20) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=timeout)


def said(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    got = b""
    while len(got) < len(data) and (more := connection.recv(65536)):
        got += more
    return got


def is_silent(connection: socket.socket) -> bool:
    """Nothing comes of what was asked, nor does the connection end."""
    connection.sendall(b"anybody?")
    connection.settimeout(0.3)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.settimeout(20)
    return True


def test_everything_passes_both_ways_and_ends_pass_too(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        assert said(connection, b"x" * 1_000_000) == b"x" * 1_000_000
        assert (proxy.open, proxy.accepted) == (1, 1)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    eventually(lambda: proxy.open == 0)


def test_a_half_open_connection_stays_silent_for_good_and_later_ones_pass(proxy: TcpProxy) -> None:
    with connect(proxy) as before:
        assert said(before, b"hello") == b"hello"
        proxy.swallow()
        with connect(proxy) as during:
            assert is_silent(before)
            assert is_silent(during)
            proxy.heal()
            assert is_silent(before)
            assert is_silent(during)
            with connect(proxy) as after:
                assert said(after, b"hello") == b"hello"
            proxy.heal(reset_lost=True)
            for lost in (before, during):
                with pytest.raises(ConnectionResetError):
                    lost.recv(1)
    eventually(lambda: proxy.open == 0)


def test_the_end_of_the_server_is_not_told_through_a_half_open_connection(echo: tuple[str, int]) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with TcpProxy(*listener.getsockname()) as proxy, connect(proxy) as connection:
        server, _ = listener.accept()
        proxy.swallow()
        server.close()
        assert is_silent(connection)
    listener.close()


def test_a_connection_that_lost_nothing_survives(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        assert said(connection, b"one") == b"one"
        proxy.swallow()
        proxy.heal(reset_lost=True)
        assert said(connection, b"two") == b"two"


def test_reset_ends_what_is_open_and_nothing_later(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        assert said(connection, b"one") == b"one"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with connect(proxy) as connection:
        assert said(connection, b"two") == b"two"


def test_refuse_until_healed_on_the_same_port(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        assert said(connection, b"one") == b"one"
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                connect(proxy)
    proxy.heal()
    with connect(proxy) as connection:
        assert said(connection, b"two") == b"two"


def test_delay_holds_each_piece_and_healing_lets_it_go(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        proxy.delay(0.2)
        started = time.monotonic()
        assert said(connection, b"slow") == b"slow"
        assert time.monotonic() - started >= 0.4  # the question and the answer
        proxy.delay(600)
        connection.sendall(b"held")
        proxy.heal()
        assert connection.recv(4) == b"held"


def test_truncate_cuts_the_answer_after_so_many_bytes(proxy: TcpProxy) -> None:
    with connect(proxy) as connection:
        assert said(connection, b"whole") == b"whole"
        proxy.truncate(7)
        connection.sendall(b"0123456789")
        got = b""
        while more := connection.recv(100):
            got += more
        assert got == b"0123456"


def test_a_server_that_is_away_is_a_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = gone.getsockname()
    # The reset may come before connect() is back, or be read after it.
    with TcpProxy(*address) as proxy, pytest.raises(ConnectionResetError), connect(proxy) as connection:
        connection.recv(1)
