"""What a hub holds: repositories of models and data sets, with every commit that they ever had."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LFS_ENDINGS = (".safetensors", ".bin", ".parquet", ".pt", ".onnx", ".zip", ".gz")
Files = Mapping[str, bytes]


@dataclass
class Repository:
    """`kind` is "models" or "datasets"; `gated`: only who has access reads its files; `disabled`: no one does."""

    kind: str
    name: str
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    disabled: bool = False

    def commit(self, files: Files, branch: str = "main") -> str:
        """A branch moves to these files, and to no others; the commit."""
        history = [self.branches.get(branch), *((path, blob_of(path, content)) for path, content in sorted(files.items()))]
        sha = hashlib.sha1(json.dumps(history).encode()).hexdigest()
        self.commits[sha], self.branches[branch] = dict(files), sha
        return sha

    def find(self, revision: str) -> str | None:
        """The commit of a branch, a tag, a commit, or the start of one."""
        if revision in self.branches or revision in self.tags:
            return self.branches.get(revision) or self.tags[revision]
        return next((sha for sha in self.commits if len(revision) >= 7 and sha.startswith(revision)), None)

    def describe(self, sha: str) -> dict[str, Any]:
        """The hub's answer to "what is there of this repository?"."""
        files = self.commits[sha]
        told: dict[str, Any] = {
            "_id": hashlib.sha1(self.name.encode()).hexdigest()[:24], "id": self.name, "sha": sha, "tags": [],
            "private": self.private, "disabled": self.disabled, "gated": "auto" if self.gated else False,
            "downloads": 0, "likes": 0, "siblings": [{"rfilename": path} for path in sorted(files)],
        }  # fmt: skip
        if self.kind == "models" and "config.json" in files:
            told["config"] = json.loads(files["config.json"])
        return told

    def refs(self) -> dict[str, Any]:
        def listed(names: dict[str, str], under: str) -> list[dict[str, str]]:
            return [{"name": name, "ref": f"{under}{name}", "targetCommit": sha} for name, sha in names.items()]

        converts = {name: sha for name, sha in self.branches.items() if name.startswith("refs/")}
        branches = {name: sha for name, sha in self.branches.items() if name not in converts}
        return {
            "branches": listed(branches, "refs/heads/"), "tags": listed(self.tags, "refs/tags/"),
            "converts": listed(converts, ""), "pullRequests": [],
        }  # fmt: skip


def sha256_of(path: str, content: bytes) -> str | None:
    """The digest of a large file; None of one that git keeps itself."""
    return hashlib.sha256(content).hexdigest() if path.endswith(LFS_ENDINGS) else None


def blob_of(path: str, content: bytes) -> str:
    """Git's name of a file, or of the pointer to a large one."""
    if sha256 := sha256_of(path, content):
        content = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def entry_of(path: str, content: bytes) -> dict[str, Any]:
    """A file as trees list it."""
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob_of(path, content)}
    if sha256 := sha256_of(path, content):
        entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 135}
    return entry


def entries_under(files: Files, folder: str, recursive: bool) -> list[dict[str, Any]]:
    """The files and folders of a folder ("" for all), as trees list them."""
    prefix = f"{folder}/" if folder else ""
    found: dict[str, dict[str, Any]] = {}
    for path, content in sorted(files.items()):
        if path.startswith(prefix):
            parts = path.removeprefix(prefix).split("/")
            for depth in range(1, len(parts) if recursive else min(2, len(parts))):
                inner = prefix + "/".join(parts[:depth])
                found[inner] = {
                    "type": "directory",
                    "path": inner,
                    "size": 0,
                    "oid": hashlib.sha1(inner.encode()).hexdigest(),
                }
            if recursive or len(parts) == 1:
                found[path] = entry_of(path, content)
    return list(found.values())


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder of this machine."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
