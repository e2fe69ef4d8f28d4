"""Routes that tell clients where the Xet store is; what is uploaded there is found when it is committed."""

from __future__ import annotations

import time

from starlette.responses import JSONResponse, Response

from tests.hub.errors import HubError
from tests.hub.metadata_routes import DATASET
from tests.hub.routing import Call, Router
from tests.hub.xet import SOON

router = Router()


@router.route("GET", f"{DATASET}/xet-write-token/{{revision}}")
def write_token(call: Call) -> Response:
    """Where to upload large files."""
    dataset, _ = call.writable()
    return _token(call, dataset.id)


@router.route("GET", f"{DATASET}/xet-read-token/{{revision}}")
def read_token(call: Call) -> Response:
    """Where large files are."""
    return _token(call, call.open_to().id)


def _token(call: Call, dataset_id: str) -> Response:
    if call.hub.xet is None:
        raise HubError(404, "Not Found")
    told = {"casUrl": call.hub.xet.url(dataset_id), "accessToken": "t", "exp": int(time.time()) + SOON}
    headers = {
        "X-Xet-Cas-Url": str(told["casUrl"]),
        "X-Xet-Access-Token": "t",
        "X-Xet-Token-Expiration": str(told["exp"]),
    }
    return JSONResponse(told, headers=headers)
