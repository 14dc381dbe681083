"""A small S3 of our own for tests: list, head and (ranged) get over real HTTP, for requests signed with our key."""

from __future__ import annotations

import hashlib
import http.server
import threading
import urllib.parse
from types import TracebackType
from xml.sax.saxutils import escape

KEY, SECRET = "planner", "s3cret/of+ours"


class ObjectStore:
    """``objects``: bytes by name. ``url``: the endpoint; ``requests``: (method, path, range) of what was asked."""

    def __init__(self, signed: bool = True) -> None:
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        store = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def do_HEAD(self) -> None:
                self._answer()

            def do_GET(self) -> None:
                self._answer()

            def _answer(self) -> None:
                path, _, query = self.path.partition("?")
                name = urllib.parse.unquote(path).lstrip("/")
                store.requests.append((self.command, name, self.headers.get("Range")))
                if signed and f"Credential={KEY}/" not in self.headers.get("Authorization", ""):
                    self._send(403, b"<Error><Code>AccessDenied</Code></Error>")
                    return
                asked = dict(urllib.parse.parse_qsl(query))
                if "list-type" in asked:
                    self._send(200, store.listing(name.rstrip("/"), asked.get("prefix", "")))
                elif name not in store.objects:
                    self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")
                else:
                    content = store.objects[name]
                    tag = {"ETag": f'"{hashlib.md5(content).hexdigest()}"'}
                    wanted = self.headers.get("Range")
                    if wanted and self.command == "GET":
                        first, _, last = wanted.removeprefix("bytes=").partition("-")
                        low = int(first) if first else len(content) - int(last)
                        high = min(int(last) if first and last else len(content) - 1, len(content) - 1)
                        tag["Content-Range"] = f"bytes {low}-{high}/{len(content)}"
                        self._send(206, content[low : high + 1], tag)
                    else:
                        self._send(200, content, tag)

            def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for key, value in (headers or {}).items():
                    self.send_header(key, value)
                self.send_header("Last-Modified", "Tue, 30 Jun 2026 12:00:00 GMT")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def listing(self, bucket: str, prefix: str) -> bytes:
        found = [
            f"<Contents><Key>{escape(name.removeprefix(bucket + '/'))}</Key><Size>{len(content)}</Size>"
            f"<LastModified>2026-06-30T12:00:00.000Z</LastModified>"
            f"<ETag>&quot;{hashlib.md5(content).hexdigest()}&quot;</ETag></Contents>"
            for name, content in sorted(self.objects.items())
            if name.startswith(f"{bucket}/{prefix}")
        ]
        return f"<ListBucketResult><Name>{bucket}</Name>{''.join(found)}</ListBucketResult>".encode()

    def __enter__(self) -> ObjectStore:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
