"""The authority's certificates."""

from __future__ import annotations

from isthmus.service.call import Call, Reply
from isthmus.wire import api


async def show(call: Call) -> Reply:
    """Roots, and what is below them. Whoever reads them must know the root by other means before he trusts it."""
    signer = call.service.signer
    return Reply(200, api.AuthorityView(roots=list(signer.roots), authorities=list(signer.authorities)))
