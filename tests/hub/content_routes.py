"""Routes for the files themselves: how they are uploaded, committed and downloaded."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.responses import JSONResponse, Response

from tests.hub.errors import HubError, entry_not_found, revision_not_found
from tests.hub.hub import Dataset, Hub
from tests.hub.metadata_routes import DATASET, commit_of
from tests.hub.repository import Entry, MissingPathError, MovedError, Pointer
from tests.hub.routing import Call, Router

LFS = "/datasets/{owner}/{name}.git/info/lfs/objects"
RESOLVE = "/datasets/{owner}/{name}/resolve/{revision}/{path+}"
MOST_FILES = 256
STALE = "The branch was updated since you opened this page. Please refresh and try again."

router = Router()


@router.route("POST", f"{DATASET}/preupload/{{revision}}")
def before_upload(call: Call) -> Response:
    """Which files are large, and what is there now; nothing is ever ignored."""
    dataset, _ = call.writable()
    commit = commit_of(dataset, call.values["revision"])
    files = call.json()["files"]
    if len(files) > MOST_FILES:
        raise HubError(400, f"At most {MOST_FILES} files at a time")
    present = dataset.repository.lookup(commit, [file["path"] for file in files])
    return JSONResponse({"files": [_upload_mode(call.hub, file, present.get(file["path"])) for file in files]})


def _upload_mode(hub: Hub, file: dict[str, Any], present: Entry | None) -> dict[str, Any]:
    mode = "lfs" if hub.is_large(file["path"], file["size"]) else "regular"
    answer = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
    if present is not None and present.kind == "file":
        answer["oid"] = present.pointer.sha256 if present.pointer else present.oid
    return answer


# Large files


@router.route("POST", f"{LFS}/batch")
def lfs_batch(call: Call) -> Response:
    """Where to upload each object that is not stored yet."""
    dataset, _ = call.writable()
    asked = call.json()
    if asked["operation"] != "upload":
        raise HubError(400, "Only uploads go this way")
    actions = [_lfs_actions(call.hub, dataset, item["oid"], item["size"]) for item in asked["objects"]]
    body = json.dumps({"transfer": "multipart", "objects": actions})
    return Response(body, media_type="application/vnd.git-lfs+json")


def _lfs_actions(hub: Hub, dataset: Dataset, oid: str, size: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"oid": oid, "size": size}
    key = dataset.object_key(oid)
    if hub.store.size(key) == size:
        return answer
    url = f"{hub.dataset_url(dataset)}.git/info/lfs/objects"
    upload: dict[str, Any] = {"href": hub.store.upload_url(key)}
    if size > hub.store.part_size:
        multipart = hub.store.begin_multipart(key, size)
        parts = {f"{number:05}": part for number, part in enumerate(multipart.urls, start=1)}
        completion = urlencode({"uploadId": multipart.upload_id})
        upload = {"href": f"{url}/complete?{completion}", "header": {"chunk_size": str(hub.store.part_size), **parts}}
    return {**answer, "actions": {"upload": upload, "verify": {"href": f"{url}/verify"}}}


@router.route("POST", f"{LFS}/complete")
def lfs_complete(call: Call) -> Response:
    """Put the parts together; the id of the upload is all the permission that clients show here."""
    asked = call.json()
    key = f"{call.values['owner']}/{call.values['name']}/{asked['oid']}"
    parts = [(part["partNumber"], part["etag"]) for part in asked["parts"]]
    try:
        call.hub.store.complete_multipart(key, call.query["uploadId"], parts)
    except ValueError as error:
        raise HubError(400, str(error)) from error
    return JSONResponse({})


@router.route("POST", f"{LFS}/verify")
def lfs_verify(call: Call) -> Response:
    """Whether what is stored is what was announced; if not, it is dropped."""
    dataset, _ = call.writable()
    asked = call.json()
    key = dataset.object_key(asked["oid"])
    size = call.hub.store.size(key)
    if size is None:
        raise HubError(404, f"Object {asked['oid']} is not stored")
    if size != asked["size"] or call.hub.store.sha256(key) != asked["oid"]:
        call.hub.store.delete(key)
        raise HubError(400, f"Object {asked['oid']} is not what was announced")
    return JSONResponse({})


# Commits


@router.route("POST", f"{DATASET}/commit/{{revision}}")
def commit(call: Call) -> Response:
    dataset, user = call.writable()
    branch = call.values["revision"]
    if "create_pr" in call.query:
        raise HubError(400, "Pull requests are not served here")
    if dataset.repository.branch_head(branch) is None:
        raise revision_not_found(branch)
    lines = [json.loads(line) for line in call.body.split(b"\n") if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    deleted = [_deleted_path(line) for line in lines if line["key"] in {"deletedFile", "deletedFolder"}]
    try:
        oid = dataset.repository.commit(
            branch,
            _new_files(call.hub, dataset, lines),
            deleted,
            message=f"{header['summary']}\n\n{header.get('description', '')}".strip() + "\n",
            author=user.name,
            parent=header.get("parentCommit"),
        )
    except MovedError as error:
        raise HubError(412, STALE) from error
    except MissingPathError as error:
        raise entry_not_found(f"A file with this name doesn't exist: {error}") from error
    url = f"{call.hub.dataset_url(dataset)}/commit/{oid}"
    return JSONResponse({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})


def _deleted_path(line: dict[str, Any]) -> str:
    path: str = line["value"]["path"]
    return f"{path.rstrip('/')}/" if line["key"] == "deletedFolder" else path


def _new_files(hub: Hub, dataset: Dataset, lines: list[dict[str, Any]]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            files[value["path"]] = _pointer(hub, dataset, value).text
    return files


def _pointer(hub: Hub, dataset: Dataset, value: dict[str, Any]) -> Pointer:
    key = dataset.object_key(value["oid"])
    size = hub.store.size(key)
    if size is None and (content := _from_xet(hub, dataset, value["oid"])) is not None:
        hub.store.write(key, content)  # so that it is served like any other
        size = len(content)
    if size is None or size != value.get("size", size):
        raise HubError(400, f"LFS object {value['oid']} of {value['path']} is not stored")
    return Pointer(value["oid"], size)


def _from_xet(hub: Hub, dataset: Dataset, sha256: str) -> bytes | None:
    try:
        return hub.xet.content(dataset.id, sha256) if hub.xet else None
    except ValueError as error:
        raise HubError(400, str(error)) from error


# Downloads


@router.route("GET", RESOLVE)
@router.route("HEAD", RESOLVE)
def resolve(call: Call) -> Response:
    """A file: from git as it is, a large one from the store."""
    dataset = call.open_to()
    at = commit_of(dataset, call.values["revision"])
    headers = {"X-Repo-Commit": at, "Accept-Ranges": "bytes"}
    path = call.values["path"]
    entry = dataset.repository.lookup(at, [path]).get(path)
    if entry is None or entry.kind == "directory":
        raise entry_not_found("Entry not found", headers)
    if entry.pointer is None:
        content = dataset.repository.blob(entry.oid)
        return _bytes(call, entry.size, lambda start, stop: content[start:stop], {**headers, "ETag": f'"{entry.oid}"'})
    headers |= _xet_headers(call.hub, dataset, entry.pointer, at)
    return _large_file(call, dataset.object_key(entry.pointer.sha256), entry.pointer, headers)


def _xet_headers(hub: Hub, dataset: Dataset, pointer: Pointer, commit: str) -> dict[str, str]:
    """What tells clients that they may download a file by Xet."""
    file = hub.xet.files(dataset.id).get(pointer.sha256) if hub.xet else None
    if file is None:
        return {}
    route = f"{hub.url}/api/datasets/{dataset.id}/xet-read-token/{commit}"
    return {"X-Xet-Hash": file.xet_hash, "Link": f'<{route}>; rel="xet-auth"'}


def _large_file(call: Call, key: str, pointer: Pointer, headers: dict[str, str]) -> Response:
    store, etag = call.hub.store, f'"{pointer.sha256}"'
    headers |= {"X-Linked-Size": str(pointer.size), "X-Linked-ETag": etag}
    if call.hub.options.objects == "s3":
        return Response(status_code=302, headers={**headers, "Location": store.download_url(key)})
    return _bytes(call, pointer.size, lambda start, stop: store.read(key, start, stop), {**headers, "ETag": etag})


def _bytes(call: Call, size: int, read: Callable[[int, int], bytes], headers: Mapping[str, str]) -> Response:
    """A file, or the range of it that was asked for."""
    asked = _byte_range(call.headers.get("range"), size, headers)
    start, stop = asked or (0, size)
    headers = {**headers, "Content-Length": str(stop - start), "Content-Type": "application/octet-stream"}
    if asked:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    body = read(start, stop) if call.method == "GET" and stop > start else b""
    return Response(body, 206 if asked else 200, headers)


def _byte_range(header: str | None, size: int, headers: Mapping[str, str]) -> tuple[int, int] | None:
    """First byte and the one after the last; None if no single range was asked for."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    start, stop = int(first), min(size, int(last) + 1 if last else size)
    if start >= stop:
        raise HubError(416, "Range Not Satisfiable", headers={**headers, "Content-Range": f"bytes */{size}"})
    return start, stop
