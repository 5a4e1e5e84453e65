"""What cannot exist here, answered as Manila does for back ends that do not have it: no replicas, no share servers
(``driver_handles_share_servers`` is False)."""

from __future__ import annotations

from isthmus.model.errors import Invalid, NotFound
from isthmus.service.manila.ask import Ask
from isthmus.store.rows import ShareRow
from isthmus.store.tx import ReadTx, Tx


def replicas(_ask: Ask, _tx: ReadTx) -> object:
    """None."""
    return {"share_replicas": []}


def replica(ask: Ask, _tx: ReadTx) -> object:
    """Not one."""
    raise NotFound("share replica", ask.id[:80])


def create_replica(ask: Ask, tx: Tx) -> object:
    """No share type replicates."""
    share = tx.need(ShareRow, ask.body["share_id"])
    raise Invalid(f"cannot replicate share {share.id}: its share type has replication disabled", field="share_id")


def servers(_ask: Ask, _tx: ReadTx) -> object:
    """None."""
    return {"share_servers": []}


def server(ask: Ask, _tx: ReadTx) -> object:
    """Not one."""
    raise NotFound("share server", ask.id[:80])


def manage_server(_ask: Ask, _tx: Tx) -> object:
    """No driver would know what to do with one."""
    raise Invalid("cannot manage a share server: no pool here has driver_handles_share_servers = True")
