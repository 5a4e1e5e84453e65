"""Rows as the API shows them."""

from __future__ import annotations

import ssl

from isthmus.store.rows import (
    AttachmentRow,
    AuditRow,
    EventRow,
    GrantRow,
    GuestRow,
    HostRow,
    PoolRow,
    ShareRow,
    SnapshotRow,
    TypeRow,
)
from isthmus.store.tx import ReadTx
from isthmus.wire import api


class Views:
    """Makes views within one transaction; remembers what many rows have in common."""

    def __init__(self, tx: ReadTx) -> None:
        self._tx = tx
        self._pool_hosts: dict[str, str] = {}
        self._guest_hosts: dict[str, str] = {}

    def host(self, row: HostRow) -> api.HostView:
        """A host."""
        return api.HostView(
            name=row.name,
            zone=row.zone,
            desired_revision=row.desired,
            applied_revision=row.applied,
            seen_at=row.seen_at,
            revision=row.revision,
            created_at=row.created_at,
        )

    def pool(self, row: PoolRow) -> api.PoolView:
        """A pool."""
        return api.PoolView(
            name=row.name,
            driver=row.driver,
            host=row.host,
            path=row.path,
            overcommit=row.overcommit,
            reserve=row.reserve,
            total=row.total,
            free=row.free,
            promised=self._tx.promised(row.name),
            powers={name: sorted(powers) for name, powers in row.powers.items()},
            minimum=dict(row.minimum),
            error=row.error,
            backups=row.backups,
            revision=row.revision,
            created_at=row.created_at,
        )

    def type(self, row: TypeRow) -> api.TypeView:
        """A share type."""
        return api.TypeView(
            name=row.name,
            filesystem=row.filesystem,
            checksums=row.checksums,
            revision=row.revision,
            created_at=row.created_at,
        )

    def share(self, row: ShareRow) -> api.ShareView:
        """A share."""
        if row.pool not in self._pool_hosts:
            self._pool_hosts[row.pool] = self._tx.need(PoolRow, row.pool).host
        return api.ShareView(
            id=row.id,
            volume=row.volume_id,
            project=row.project,
            name=row.name,
            pool=row.pool,
            host=self._pool_hosts[row.pool],
            type=row.type,
            filesystem=row.filesystem,
            checksums=row.checksums,
            size=row.size,
            used=row.used,
            status=row.status,
            reason=row.reason,
            code=row.code,
            source_snapshot=row.origin_snapshot,
            source_share=None if row.origin_snapshot else row.origin_share,
            public=row.public,
            revision=row.revision,
            created_at=row.created_at,
        )

    def snapshot(self, row: SnapshotRow) -> api.SnapshotView:
        """A snapshot."""
        return api.SnapshotView(
            id=row.id,
            share=row.share,
            project=row.project,
            name=row.name,
            status=row.status,
            reason=row.reason,
            code=row.code,
            revision=row.revision,
            created_at=row.created_at,
        )

    def guest(self, row: GuestRow) -> api.GuestView:
        """A guest."""
        return api.GuestView(
            id=row.id,
            project=row.project,
            host=row.host,
            name=row.name,
            static=row.static,
            addresses=sorted(row.addresses),
            state=row.state,
            plugs=sorted(row.plugs),
            revision=row.revision,
            created_at=row.created_at,
        )

    def attachment(self, row: AttachmentRow) -> api.AttachmentView:
        """An attachment."""
        if row.guest not in self._guest_hosts:
            self._guest_hosts[row.guest] = self._tx.need(GuestRow, row.guest).host
        return api.AttachmentView(
            id=row.id,
            share=row.share,
            guest=row.guest,
            project=row.project,
            host=self._guest_hosts[row.guest],
            at=row.place,
            mode=row.mode,
            mode_reason=row.mode_reason,
            access=row.access,
            slot=row.slot,
            status=row.status,
            reason=row.reason,
            code=row.code,
            revision=row.revision,
            created_at=row.created_at,
        )


def grant(row: GrantRow) -> api.GrantView:
    """A grant."""
    return api.GrantView(
        serial=row.serial,
        attachment=row.attachment,
        share=row.share,
        guest=row.guest,
        project=row.project,
        host=row.host,
        sequence=row.sequence,
        not_after=row.not_after,
        ended_at=row.ended_at,
        reason=row.reason,
        certificate=ssl.DER_cert_to_PEM_cert(row.certificate),
        revision=row.revision,
        created_at=row.created_at,
    )


def entry(row: AuditRow) -> api.AuditView:
    """An entry of the audit."""
    return api.AuditView(
        id=row.id,
        at=row.created_at,
        request=row.request,
        way=row.way,
        user=row.user,
        name=row.name,
        project=row.project,
        host=row.host,
        address=row.address,
        action=row.action,
        targets=list(row.targets),
        outcome=row.outcome,
    )


def event(row: EventRow) -> api.EventView:
    """An event."""
    return api.EventView(
        id=row.id,
        at=row.created_at,
        kind=row.kind,
        subject=row.subject,
        project=row.project,
        before=row.before,
        after=row.after,
        message=row.message,
        revision=row.revision,
    )
