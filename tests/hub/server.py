"""A hub on 127.0.0.1 that huggingface_hub takes for the real one, with faults that can be switched on.

    with Hub() as hub:
        hub.publish("models", "owner/name", files_of(folder))
        ...  # HF_ENDPOINT=hub.address
        hub.fault = Fault("resolve/.*safetensors", status=500)
        print([request.line for request in hub.requests])

It speaks what loading and pushing need: information, trees, paths, refs, files (ranges, and the redirect that large ones
have), who am I, create, preupload, LFS and commit. It has no Xet: files come and go by plain HTTP. The token `hf_good` may do
all, `hf_stranger` is somebody without access to what is gated or private, and any other is not valid.
"""

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.hub.repositories import Files, Repository, blob_of, entries_under, entry_of, sha256_of
from tests.hub.uploads import take_commit, take_object, upload_modes, upload_orders

USERS = {"hf_good": "tester", "hf_stranger": "stranger"}


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD path" matches.

    Attributes:
        skip: so many of them go well first.
        after: all go well until one whose line matches this was answered.
        times: so many go wrong, then all is well again; None for all.
        delay: seconds before the answer.
        status: the answer's status, with `retry_after` as its header, and the words that the hub would say.
        cut: the connection ends after so many bytes of the body.
        hang: the request is taken and never answered.
        gone: the connection ends without an answer.
        changed: so many bytes of the body are others, as by a bad proxy.
        login: a login page with status 200, as of a captive portal.
    """

    match: str = ""
    skip: int = 0
    after: str = ""
    times: int | None = None
    delay: float = 0.0
    status: int = 0
    retry_after: str = ""
    words: str = ""
    code: str = ""
    cut: int | None = None
    hang: bool = False
    gone: bool = False
    changed: int = 0
    login: bool = False
    struck: int = field(default=0, init=False)  # how many went wrong

    def strikes(self, line: str) -> bool:
        """Whether this request goes wrong; counts it."""
        if self.after:
            self.after = "" if re.search(self.after, line) else self.after
            return False
        if not re.search(self.match, line):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        struck = self.times is None or self.times >= 0
        self.struck += struck
        return struck


@dataclass
class Request:
    line: str  # "GET /api/models/owner/name"
    token: str
    status: int = 0  # 0: no answer
    sent: int = 0  # bytes of the body


class Refusal(Exception):
    def __init__(self, status: int, code: str, words: str) -> None:
        self.status, self.code, self.words = status, code, words


class Hub(ThreadingHTTPServer):
    """The hub; a context that serves until it ends."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}  # large files on their way in
        self.requests: list[Request] = []
        self.fault: Fault | None = None
        self.lock = threading.Lock()
        self.closing = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=lambda: self.serve_forever(poll_interval=0.02), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def publish(self, kind: str, name: str, files: Files, branch: str = "main") -> str:
        """A branch of a repository moves to these files; the commit."""
        return self.repositories.setdefault((kind, name), Repository(kind, name)).commit(files, branch)

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


@dataclass
class Answer:
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200


def told(value: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(json.dumps(value).encode(), {"Content-Type": "application/json", **headers}, status)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def handle_one(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        self.request_noted = Request(f"{self.command} {unquote(self.path)}", self.token())
        with self.server.lock:
            self.server.requests.append(self.request_noted)
            fault = self.server.fault
            struck = fault if fault and fault.strikes(self.request_noted.line) else Fault()
        try:
            if answer := self.answer_of(struck):
                self.send(answer, struck)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = handle_one

    def log_message(self, *_: object) -> None:
        """Not on stderr: `Hub.requests` has it."""

    def answer_of(self, fault: Fault) -> Answer | None:
        self.server.closing.wait(3600 if fault.hang else fault.delay)
        if fault.hang or fault.gone:
            self.close_connection = True
            return None
        if fault.login:
            return Answer(b"<html><body>Please log in to this network</body></html>", {"Content-Type": "text/html"})
        try:
            if fault.status:
                raise Refusal(fault.status, fault.code, fault.words)
            return self.route()
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.words, "Retry-After": fault.retry_after}
            named = {name: value for name, value in headers.items() if value}
            return told({"error": refusal.words or refusal.code}, refusal.status, **named)

    def send(self, answer: Answer, fault: Fault) -> None:
        self.request_noted.status = answer.status
        self.send_response(answer.status)
        for name, value in ({"Content-Length": str(len(answer.body))} | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            body = bytes(255 - byte for byte in answer.body[: fault.changed]) + answer.body[fault.changed :]
            self.close_connection |= fault.cut is not None
            self.request_noted.sent = self.wfile.write(body[: fault.cut])

    # Who asks, and for what.

    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ").strip()

    def user(self) -> str:
        """Who asks; "" where no token is sent."""
        token = self.token()
        if token and token not in USERS:
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        return USERS.get(token, "")

    def repository(self, kind: str, name: str, *, read: bool) -> Repository:
        """The repository, as far as whoever asks may see it; `read`: its files, not only what there is of them."""
        user, found = self.user(), self.server.repositories.get((kind, name))
        if found is None or (found.private and user != "tester"):
            raise Refusal(404 if user else 401, "RepoNotFound", "Repository not found")
        if found.disabled:
            raise Refusal(403, "DisabledRepo", "Access to this resource is disabled.")
        if read and found.gated and user != "tester":
            raise Refusal(403 if user else 401, "GatedRepo", f"Access to {kind[:-1]} {name} is restricted.")
        return found

    def commit_of(self, repository: Repository, revision: str) -> str:
        if sha := repository.find(revision):
            return sha
        raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def route(self) -> Answer:
        parts = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        for pattern, respond in ROUTES.items():
            if found := re.fullmatch(pattern, f"{self.command} {parts.path}"):
                return respond(self, **{name: unquote(value or "") for name, value in found.groupdict().items()})
        raise Refusal(404, "", "Sorry, we can't find the page you are looking for.")

    # What is told.

    def whoami(self) -> Answer:
        if not (user := self.user()):
            raise Refusal(401, "", "Invalid username or password.")
        return told({"type": "user", "name": user, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def valid_card(self) -> Answer:
        return told({"errors": [], "warnings": []})

    def information(self, kind: str, name: str, revision: str = "") -> Answer:
        repository = self.repository(kind, name, read=False)
        return told(repository.describe(self.commit_of(repository, revision or "main")))

    def refs(self, kind: str, name: str) -> Answer:
        return told(self.repository(kind, name, read=False).refs())

    def tree(self, kind: str, name: str, revision: str, folder: str) -> Answer:
        repository = self.repository(kind, name, read=False)
        files = repository.commits[self.commit_of(repository, revision)]
        found = entries_under(files, folder, self.query.get("recursive", "").lower() in ("true", "1"))
        if not found:
            raise Refusal(404, "EntryNotFound", f"{folder} does not exist")
        return told(self.dated(found, self.query.get("expand", "")))

    def paths(self, kind: str, name: str, revision: str) -> Answer:
        repository = self.repository(kind, name, read=True)
        files = repository.commits[self.commit_of(repository, revision)]
        form = parse_qs(self.body.decode())
        folders = {folder["path"]: folder for folder in entries_under(files, "", True) if folder["type"] == "directory"}
        found = [
            entry_of(path, files[path]) if path in files else folders[path]
            for path in (asked.rstrip("/") for asked in form.get("paths", []))
            if path in files or path in folders
        ]
        return told(self.dated(found, form.get("expand", [""])[0]))

    def dated(self, entries: list[dict[str, Any]], expand: str) -> list[dict[str, Any]]:
        last = {"id": "0" * 40, "title": "all", "date": "2026-01-01T00:00:00.000Z"}
        return [entry | {"lastCommit": last} for entry in entries] if expand.lower() == "true" else entries

    def file(self, kind: str, name: str, revision: str, path: str) -> Answer:
        kind = kind.rstrip("/") or "models"
        repository = self.repository(kind, name, read=True)
        sha = self.commit_of(repository, revision)
        if (content := repository.commits[sha].get(path)) is None:
            return told({"error": "Entry not found"}, 404, **{"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
        large = sha256_of(path, content)
        headers = {"X-Repo-Commit": sha, "ETag": f'"{large or blob_of(path, content)}"', "Accept-Ranges": "bytes"}
        if not large:
            return self.part(content, headers)
        # As on the hub: elsewhere, where no token is sent; another name of this machine is elsewhere for a client.
        address = f"http://localhost:{self.server.server_port}/large/{kind}/{quote(name)}/{sha}/{quote(path)}"
        linked = {"X-Linked-Etag": f'"{large}"', "X-Linked-Size": str(len(content)), "Location": address}
        return Answer(b"", headers | linked, 302)

    def large_file(self, kind: str, name: str, sha: str, path: str) -> Answer:
        return self.part(self.server.repositories[kind, name].commits[sha][path], {"Accept-Ranges": "bytes"})

    def part(self, content: bytes, headers: dict[str, str]) -> Answer:
        """A file, or the range of it that is asked for; of a HEAD the length."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if self.command == "HEAD" or not asked:
            return Answer(content, headers)
        start, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        if start >= len(content):
            return Answer(b"", {"Content-Range": f"bytes */{len(content)}"}, 416)
        return Answer(content[start : end + 1], headers | {"Content-Range": f"bytes {start}-{end}/{len(content)}"}, 206)

    # What is taken.

    def writable(self, kind: str, name: str) -> Repository:
        repository = self.repository(kind, name, read=True)
        if self.user() != "tester":
            raise Refusal(403, "", "You don't have the rights to write here")
        return repository

    def create(self) -> Answer:
        if not (user := self.user()):
            raise Refusal(401, "", "Invalid username or password.")
        asked = json.loads(self.body)
        kind, owner = f"{asked.get('type') or 'model'}s", asked.get("organization") or user
        name = f"{owner}/{asked['name']}"
        address = {"url": f"{self.server.address}/{'datasets/' * (kind == 'datasets')}{name}", "id": name, "name": name}
        if (kind, name) in self.server.repositories:
            return told({"error": "You already created this repo", **address}, 409)
        if owner != user or user != "tester":
            raise Refusal(403, "", f'You don\'t have the rights to create a {kind[:-1]} under the namespace "{owner}"')
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        made = self.server.repositories[kind, name] = Repository(kind, name, private=private)
        made.commit({".gitattributes": b""})
        return told(address)

    def preupload(self, kind: str, name: str, revision: str) -> Answer:
        repository = self.writable(kind, name)
        return told(upload_modes(repository.commits[self.commit_of(repository, revision)], json.loads(self.body)))

    def batch(self, kind: str, name: str) -> Answer:
        self.writable(kind.rstrip("/") or "models", name)
        orders = upload_orders(json.loads(self.body), self.server.address, self.server.objects)
        return told(orders, **{"Content-Type": "application/vnd.git-lfs+json"})

    def object(self, oid: str) -> Answer:
        if not take_object(self.server.objects, oid, self.body):
            raise Refusal(400, "", "the content is not that of the oid")
        return Answer()

    def commit(self, kind: str, name: str, revision: str) -> Answer:
        repository = self.writable(kind, name)
        files = repository.commits[self.commit_of(repository, revision)]
        sha = repository.commit(take_commit(self.body, files, self.server.objects), revision)
        return told({"success": True, "commitOid": sha, "commitUrl": f"{self.server.address}/{name}/commit/{sha}"})


API = r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+(?:/[^/]+)??)"
ID = r"/(?P<kind>datasets/|)(?P<name>[^/]+(?:/[^/]+)?)"
REVISION = r"/(?P<revision>[^/]+)"
ROUTES: dict[str, Callable[..., Answer]] = {
    "GET /api/whoami-v2": Handler.whoami,
    "POST /api/validate-yaml": Handler.valid_card,
    "POST /api/repos/create": Handler.create,
    rf"GET {API}/revision{REVISION}": Handler.information,
    rf"GET {API}/refs": Handler.refs,
    rf"GET {API}/tree{REVISION}/?(?P<folder>.*)": Handler.tree,
    rf"POST {API}/paths-info{REVISION}": Handler.paths,
    rf"POST {API}/preupload{REVISION}": Handler.preupload,
    rf"POST {API}/commit{REVISION}": Handler.commit,
    rf"GET {API}": Handler.information,
    rf"POST {ID}\.git/info/lfs/objects/batch": Handler.batch,
    r"PUT /objects/(?P<oid>\w+)": Handler.object,
    rf"(GET|HEAD) {ID}/resolve{REVISION}/(?P<path>.+)": Handler.file,
    r"(GET|HEAD) /large/(?P<kind>\w+)/(?P<name>[^/]+(?:/[^/]+)?)/(?P<sha>[0-9a-f]{40})/(?P<path>.+)": Handler.large_file,
}
