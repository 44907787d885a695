"""How files come to a hub: what is told before they are sent, large objects, and the commit that joins them."""

import base64
import hashlib
import json
from typing import Any

from tests.hub.repositories import LFS_ENDINGS, Files, blob_of


def upload_modes(files: Files, asked: dict[str, Any]) -> dict[str, Any]:
    """Which of the files are sent as large ones, and git's name of those that are there."""
    paths = [file["path"] for file in asked["files"]]
    modes = [
        {
            "path": path,
            "uploadMode": "lfs" if path.endswith(LFS_ENDINGS) else "regular",
            "shouldIgnore": False,
            "oid": blob_of(path, files[path]) if path in files else None,
        }
        for path in paths
    ]
    return {"files": modes}


def upload_orders(asked: dict[str, Any], address: str, objects: dict[str, bytes]) -> dict[str, Any]:
    """Where each large object goes; nowhere where it is there."""
    orders = []
    for one in asked["objects"]:
        action = {"actions": {"upload": {"href": f"{address}/objects/{one['oid']}", "header": {}}}}
        orders.append({"oid": one["oid"], "size": one["size"]} | ({} if one["oid"] in objects else action))
    return {"transfer": "basic", "objects": orders}


def take_object(objects: dict[str, bytes], oid: str, content: bytes) -> bool:
    """Keep a large object; False where it is not the one that was announced."""
    if hashlib.sha256(content).hexdigest() != oid:
        return False
    objects[oid] = content
    return True


def take_commit(body: bytes, files: Files, objects: dict[str, bytes]) -> dict[str, bytes]:
    """The files after a commit of lines `{"key": ..., "value": {"path": ...}}`."""
    kept = dict(files)
    for step in map(json.loads, body.splitlines()):
        value = step["value"]
        if step["key"] == "file":
            kept[value["path"]] = base64.b64decode(value["content"])
        elif step["key"] == "lfsFile":
            kept[value["path"]] = objects[value["oid"]]
        elif step["key"] == "deletedFile":
            kept.pop(value["path"], None)
        elif step["key"] == "deletedFolder":
            kept = {path: content for path, content in kept.items() if not path.startswith(value["path"].rstrip("/") + "/")}
    return kept
