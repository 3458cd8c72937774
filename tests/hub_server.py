"""A server on this machine that answers as Hugging Face does, from a folder, and notes what it was asked for."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubServer:
    """One repository, lab/net.

    fault : "" or what is wrong with every file: "gated"; cut_after : bytes after which the connection of a large file
    is cut, as often as `cuts` says; asked : method and path of every request; ranges : of bytes that were asked for
    """

    folder: Path
    fault: str = ""
    cut_after: int = 0
    cuts: int = 0
    commit: str = COMMIT
    asked: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    url: str = ""

    def files(self) -> list[Path]:
        """The files of the repository."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def fetched(self) -> list[str]:
        """The files whose content was asked for."""
        return [one.split(f"/{self.commit}/")[1] for one in self.asked if one.startswith("GET /lab/net/resolve/")]


def _make_handler(server: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Stay silent."""

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            server.asked.append(f"{self.command} {path}")
            if path in {f"/api/models/lab/net/revision/{name}" for name in ("main", server.commit)}:
                siblings = [{"rfilename": str(file.relative_to(server.folder))} for file in server.files()]
                self.send_object({"id": "lab/net", "sha": server.commit, "siblings": siblings})
            elif path == f"/api/models/lab/net/tree/{server.commit}":
                self.send_object([_entry(file, server.folder) for file in server.files()])
            elif path.startswith(f"/lab/net/resolve/{server.commit}/"):
                self.send_file(server.folder / path.split(f"/{server.commit}/")[1])
            elif path.startswith("/api/models/lab/net/"):
                self.refuse(404, "RevisionNotFound", "Invalid rev id")
            else:  # as for whoever is not logged in
                self.refuse(401, "RepoNotFound", "Repository not found")

        def send_object(self, value: Any) -> None:
            self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def send_file(self, file: Path) -> None:
            if server.fault == "gated":
                self.refuse(403, "GatedRepo", "Access to model lab/net is restricted")
                return
            content = file.read_bytes()
            asked = self.headers.get("Range")
            start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
            if asked:
                server.ranges.append(asked)
            headers = {"ETag": f'"{_digest(file)}"', "X-Repo-Commit": server.commit, "Accept-Ranges": "bytes"}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.answer(206 if start else 200, content[start:], headers)

        def refuse(self, status: int, code: str, message: str) -> None:
            self.answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})

        def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if server.cuts and 0 < server.cut_after < len(content):
                server.cuts -= 1
                self.wfile.write(content[: server.cut_after])
                self.close_connection = True
                return
            self.wfile.write(content)

    return Handler


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _entry(file: Path, folder: Path) -> dict[str, Any]:
    digest, size = _digest(file), file.stat().st_size
    lfs = {"lfs": {"oid": digest, "size": size, "pointerSize": 130}} if size > 10_000 else {}
    return {"type": "file", "oid": digest[:40], "size": size, "path": str(file.relative_to(folder)), **lfs}


@contextmanager
def serve_hub(folder: Path, **options: Any) -> Iterator[HubServer]:
    """The server, while the context is open."""
    server = HubServer(folder, **options)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(server))
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
