"""How hosts come to their certificates."""

from __future__ import annotations

from isthmus.model.names import HostName
from isthmus.pki.facts import print_of
from isthmus.service.call import Call, Reply
from isthmus.service.domain import enrolment
from isthmus.service.views import Views
from isthmus.wire import api


async def make_token(call: Call) -> Reply:
    """A one-time token, told this once."""
    body: api.TokenCreate = call.body
    root = print_of(call.service.signer.roots[0])
    token, row = await call.write(
        lambda tx: enrolment.make_token(tx, call.path["host"], root, replace=body.replace, lifetime=body.lifetime)
    )
    return Reply(201, api.TokenView(token=token, host=row.host, expires_at=row.expires_at))


async def enrol(call: Call) -> Reply:
    """A host has its first certificate."""
    body: api.Enrolment = call.body
    signer = call.service.signer
    return _reply(await call.write(lambda tx: enrolment.enrol(tx, signer, body.token, body.request)))


async def renew(call: Call) -> Reply:
    """A host has another certificate."""
    body: api.CertificateAsked = call.body
    signer, host = call.service.signer, HostName(call.path["host"])
    return _reply(await call.write(lambda tx: enrolment.renew(tx, signer, host, body.request)))


async def revoke(call: Call) -> Reply:
    """A host's certificates and grants have ended."""
    reason = call.query.get("reason", "")
    return await call.do(200, lambda tx: enrolment.revoke_host(tx, call.path["host"], reason), Views.host)


def _reply(done: enrolment.Enrolled) -> Reply:
    body = api.Enrolled(
        host=done.host, certificate=done.certificate, roots=list(done.roots), authorities=list(done.authorities)
    )
    return Reply(201, body)
