"""Routes about users and datasets: settings, trees, history, branches and tags."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlencode

import yaml
from starlette.responses import JSONResponse, Response

from tests.hub.errors import HubError, entry_not_found, repository_not_found, revision_not_found
from tests.hub.hub import Dataset
from tests.hub.repository import Commit, Entry, MovedError
from tests.hub.routing import Call, Router
from tests.hub.xet import XetFile

DATASET = "/api/datasets/{owner}/{name}"
MAIN = "main"

router = Router()
Item = TypeVar("Item")


def commit_of(dataset: Dataset, revision: str) -> str:
    """The commit that a revision leads to."""
    commit = dataset.repository.resolve(revision)
    if commit is None:
        raise revision_not_found(revision)
    return commit


def _date(date: datetime) -> str:
    return date.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _page(call: Call, items: Sequence[Item], to_json: Callable[[Item], dict[str, Any]]) -> Response:
    """One page of a list, with a link to the next."""
    start = int(call.query.get("cursor", 0))
    stop = start + call.hub.options.page_size
    headers = {}
    if stop < len(items):
        query = [(name, value) for name, value in call.query.multi_items() if name != "cursor"]
        url = f"{call.hub.url}{call.path}?{urlencode([*query, ('cursor', stop)])}"
        headers["Link"] = f'<{url}>; rel="next"'
    return JSONResponse([to_json(item) for item in items[start:stop]], headers=headers)


# Users


@router.route("GET", "/api/whoami-v2")
def whoami(call: Call) -> Response:
    if call.user is None:
        raise HubError(401, "Invalid username or password.")
    name = call.user.name
    token = {"displayName": "test", "role": call.user.role}
    user = {"type": "user", "id": name, "name": name, "fullname": name, "email": f"{name}@localhost", "orgs": []}
    return JSONResponse({**user, "auth": {"type": "access_token", "accessToken": token}})


# A dataset as a whole


def _named(call: Call) -> tuple[str, str]:
    """Owner and name in the body of a request to create or delete."""
    asked = call.json()
    if asked.get("type") != "dataset":
        raise HubError(400, "Only datasets are served here")
    owner = asked.get("organization") or (call.user.name if call.user else None)
    if owner is None:
        raise repository_not_found(known_user=False)
    return owner, asked["name"]


@router.route("POST", "/api/repos/create")
def create_repository(call: Call) -> Response:
    owner, name = _named(call)
    dataset, is_new = call.hub.create(owner, name, call.user, private=call.json().get("visibility") == "private")
    url = call.hub.dataset_url(dataset)
    if not is_new:
        return JSONResponse({"error": "You already created this dataset repo", "url": url}, 409)
    return JSONResponse({"url": url, "name": dataset.id, "id": dataset.id})


@router.route("DELETE", "/api/repos/delete")
def delete_repository(call: Call) -> Response:
    call.hub.delete(*_named(call), call.user)
    return JSONResponse({})


@router.route("PUT", f"{DATASET}/settings")
def change_settings(call: Call) -> Response:
    dataset, _ = call.writable()
    asked = call.json()
    if "visibility" in asked:
        dataset.private = asked["visibility"] == "private"
    dataset.gated = asked.get("gated", dataset.gated)
    return JSONResponse({"private": dataset.private, "gated": dataset.gated})


@router.route("GET", f"{DATASET}/auth-check")
def check_reading(call: Call) -> Response:
    call.open_to()
    return JSONResponse({})


@router.route("GET", f"{DATASET}/auth-check/write")
def check_writing(call: Call) -> Response:
    call.writable()
    return JSONResponse({})


@router.route("POST", "/api/validate-yaml")
def validate_card(call: Call) -> Response:
    """The front matter of a README must be a YAML mapping."""
    lines = call.json()["content"].splitlines()
    if lines[:1] != ["---"] or "---" not in lines[1:]:
        return JSONResponse({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
    try:
        metadata = yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
    except yaml.YAMLError as error:
        return _invalid_card(str(error))
    return (
        JSONResponse({"errors": [], "warnings": []}) if isinstance(metadata, dict) else _invalid_card("not a mapping")
    )


def _invalid_card(message: str) -> Response:
    return JSONResponse({"errors": [{"message": message}], "warnings": [], "error": "Invalid metadata"}, 400)


@router.route("GET", DATASET)
def information(call: Call) -> Response:
    return _information(call, MAIN)


@router.route("GET", f"{DATASET}/revision/{{revision}}")
def information_at_revision(call: Call) -> Response:
    return _information(call, call.values["revision"])


def _information(call: Call, revision: str) -> Response:
    dataset = call.readable()
    commit = commit_of(dataset, revision)
    files = [entry for entry in dataset.repository.listing(commit, recursive=True) or [] if entry.kind == "file"]
    known = {
        "_id": hashlib.md5(dataset.id.encode(), usedforsecurity=False).hexdigest()[:24],
        "id": dataset.id,
        "author": dataset.owner,
        "sha": commit,
        "lastModified": _date(dataset.repository.commits(commit, limit=1)[0].date),
        "createdAt": _date(dataset.created),
        "private": dataset.private,
        "gated": dataset.gated,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": [_sibling(entry, with_blobs=call.flag("blobs")) for entry in files],
    }
    asked = call.query.getlist("expand")
    if asked:
        known = {name: value for name, value in known.items() if name in {"_id", "id", *asked}}
    return JSONResponse(known)


def _sibling(entry: Entry, *, with_blobs: bool) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": entry.path}
    if with_blobs:
        sibling |= {"size": entry.size, "blobId": entry.oid}
        if entry.pointer:
            sibling["lfs"] = {"sha256": entry.pointer.sha256, **_lfs_sizes(entry)}
    return sibling


# Trees


def _lfs_sizes(entry: Entry) -> dict[str, int]:
    return {"size": entry.size, "pointerSize": len(entry.pointer.text) if entry.pointer else 0}


def _tree_item(call: Call, dataset: Dataset, commit: str, *, expand: bool) -> Callable[[Entry], dict[str, Any]]:
    by_xet: dict[str, XetFile] = call.hub.xet.files(dataset.id) if call.hub.xet else {}

    def to_json(entry: Entry) -> dict[str, Any]:
        item: dict[str, Any] = {"type": entry.kind, "oid": entry.oid, "size": entry.size, "path": entry.path}
        if entry.pointer:
            item["lfs"] = {"oid": entry.pointer.sha256, **_lfs_sizes(entry)}
            if found := by_xet.get(entry.pointer.sha256):
                item["xetHash"] = found.xet_hash
        if expand:
            last = dataset.repository.commits(commit, path=entry.path, limit=1)[0]
            item["lastCommit"] = {"id": last.oid, "title": last.title, "date": _date(last.date)}
        return item

    return to_json


@router.route("GET", f"{DATASET}/tree/{{revision}}")
def root_tree(call: Call) -> Response:
    return _tree(call, "")


@router.route("GET", f"{DATASET}/tree/{{revision}}/{{path+}}")
def folder_tree(call: Call) -> Response:
    return _tree(call, call.values["path"].strip("/"))


def _tree(call: Call, folder: str) -> Response:
    dataset = call.readable()
    commit = commit_of(dataset, call.values["revision"])
    entries = dataset.repository.listing(commit, folder, recursive=call.flag("recursive"))
    if entries is None:
        raise entry_not_found(f"{folder} does not exist on {call.values['revision']}")
    return _page(call, entries, _tree_item(call, dataset, commit, expand=call.flag("expand")))


@router.route("POST", f"{DATASET}/paths-info/{{revision}}")
def paths_information(call: Call) -> Response:
    dataset = call.readable()
    commit = commit_of(dataset, call.values["revision"])
    form = parse_qs(call.body.decode())
    entries = dataset.repository.lookup(commit, form.get("paths", []))
    to_json = _tree_item(call, dataset, commit, expand=form.get("expand") == ["true"])
    return JSONResponse([to_json(entry) for entry in entries.values()])


# History, branches and tags


@router.route("GET", f"{DATASET}/commits/{{revision}}")
def history(call: Call) -> Response:
    dataset = call.readable()
    return _page(call, dataset.repository.commits(commit_of(dataset, call.values["revision"])), _commit_item)


def _commit_item(commit: Commit) -> dict[str, Any]:
    described = {"id": commit.oid, "title": commit.title, "message": commit.message, "date": _date(commit.date)}
    return {**described, "authors": [{"user": commit.author}]}


@router.route("GET", f"{DATASET}/refs")
def references(call: Call) -> Response:
    refs = call.readable().repository.refs()
    found = {
        kind: [
            {"name": ref.name.removeprefix(prefix), "ref": ref.name, "targetCommit": ref.commit}
            for ref in refs
            if ref.name.startswith(prefix)
        ]
        for kind, prefix in (("branches", "refs/heads/"), ("tags", "refs/tags/"))
    }
    return JSONResponse({**found, "converts": [], "pullRequests": []})


@router.route("POST", f"{DATASET}/branch/{{branch}}")
def create_branch(call: Call) -> Response:
    dataset, _ = call.writable()
    branch = call.values["branch"]
    commit = commit_of(dataset, call.json().get("startingPoint", MAIN))
    try:
        dataset.repository.create_branch(branch, commit)
    except MovedError as error:
        raise HubError(409, f"Reference refs/heads/{branch} already exists") from error
    return JSONResponse({}, 201)


@router.route("DELETE", f"{DATASET}/branch/{{branch}}")
def delete_branch(call: Call) -> Response:
    if call.values["branch"] == MAIN:
        raise HubError(403, f"Cannot delete refs/heads/{MAIN}")
    return _delete_ref(call, f"refs/heads/{call.values['branch']}")


@router.route("POST", f"{DATASET}/tag/{{revision}}")
def create_tag(call: Call) -> Response:
    dataset, user = call.writable()
    asked = call.json()
    commit = commit_of(dataset, call.values["revision"])
    try:
        dataset.repository.create_tag(asked["tag"], commit, message=asked.get("message"), author=user.name)
    except MovedError as error:
        raise HubError(409, f"Tag {asked['tag']} already exists") from error
    return JSONResponse({}, 201)


@router.route("DELETE", f"{DATASET}/tag/{{tag}}")
def delete_tag(call: Call) -> Response:
    return _delete_ref(call, f"refs/tags/{call.values['tag']}")


def _delete_ref(call: Call, name: str) -> Response:
    dataset, _ = call.writable()
    if not dataset.repository.delete_ref(name):
        raise revision_not_found(name)
    return JSONResponse({})


@router.route("POST", f"{DATASET}/super-squash/{{branch}}")
def squash(call: Call) -> Response:
    dataset, user = call.writable()
    branch = call.values["branch"]
    if dataset.repository.branch_head(branch) is None:
        raise revision_not_found(branch)
    dataset.repository.squash(branch, message=call.json()["message"], author=user.name)
    return JSONResponse({})
