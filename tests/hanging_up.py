"""A server that closes its connections as a request comes in, as one does that was idle long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class HangingUp:
    """What was heard, answered or not; every connection answers one request and no second."""

    url: str
    content: bytes
    heard: list[str] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)


@contextmanager
def hanging_up(content: bytes) -> Iterator[HangingUp]:
    """Give such a server, whose answer is always the same."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept
        answers = 0

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            request = f"{self.command} {self.path}"
            server.heard.append(request)
            if self.answers:
                self.close_connection = True
                return
            self.answers += 1
            server.answered.append(request)
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = HangingUp(f"http://127.0.0.1:{http.server_address[1]}", content)
        Thread(target=http.serve_forever, daemon=True).start()
        yield server
        http.shutdown()
