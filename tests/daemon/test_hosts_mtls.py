"""Agents and users over TLS, on real sockets: the host's name comes from its certificate and from nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus import up
from isthmus.agent.identity import Place, enrol, is_due, renewal, trusting
from isthmus.agent.remote import RemoteOrders
from isthmus.listeners import Listeners
from isthmus.model.address import TcpAddress
from isthmus.model.attachment import AttachmentSpec
from isthmus.model.config import Auth, Config, with_defaults
from isthmus.model.desired import Desired, Report
from isthmus.model.errors import HostRevoked, Refused, Unavailable
from isthmus.model.layout import Layout
from isthmus.model.names import AttachmentId, GuestId, HostName, ShareId, new_id
from isthmus.pki import keep, signing
from isthmus.pki.facts import facts_of, host_of, print_of
from isthmus.pki.request import key_pem, make_request, new_key
from isthmus.service.domain.enrolment import make_token, revoke_host
from isthmus.service.domain.hosts import register_host
from isthmus.service.identity.local import UsersFile, make_user
from isthmus.service.keeper import Keeper
from isthmus.service.service import Service
from isthmus.store import Store
from isthmus.store.rows import CertificateRow
from isthmus.store.store import utc_now

H1, H2 = HostName("h1"), HostName("h2")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Site:
    """A service that listens for agents and users."""

    config: Config
    service: Service
    keeper: Keeper
    directory: Path

    @property
    def agents(self) -> TcpAddress:
        return TcpAddress("127.0.0.1", int(self.config.agents.rsplit(":", 1)[1]), tls=True)

    async def token(self, host: HostName, *, replace: bool = False) -> str:
        root = print_of(self.keeper.roots[0])
        return (await self.service.write(lambda tx: make_token(tx, host, root, replace=replace)))[0]

    async def enrolled(self, host: HostName) -> Place:
        place = Place(self.directory / f"agent-{host}-{new_id()}")
        assert await asyncio.to_thread(enrol, place, self.agents, await self.token(host)) == host
        return place

    def http(self, place: Place | None = None, **options: Any) -> httpx.AsyncClient:
        tls = trusting(self.keeper.roots) if place is None else place.context()
        return httpx.AsyncClient(base_url=str(self.agents), verify=tls, trust_env=False, timeout=10, **options)


@pytest.fixture
async def site(tmp_path: Path, layout: Layout) -> AsyncIterator[Site]:
    async with serving(tmp_path, layout) as made:
        yield made


@contextlib.asynccontextmanager
async def serving(tmp_path: Path, layout: Layout, **options: Any) -> AsyncIterator[Site]:
    config = with_defaults(
        Config(
            host=H1,
            layout=replace(layout, state=tmp_path / "state"),
            agents=f"https://127.0.0.1:{free_port()}",
            public=f"https://127.0.0.1:{free_port()}",
            auth=Auth.LOCAL,
            users=tmp_path / "users",
            policy=tmp_path / "policy.yaml",
            names=("127.0.0.1",),
        )
    )
    config = replace(config, **options)
    UsersFile(config.users).write({"alice": make_user("alice", "correct horse", "acme", ["member"], rounds=4)})
    keep.init(config.layout.state / "ca", now=utc_now(), passphrase=b"x")
    keeper = Keeper(config.layout.state / "ca")
    store = Store.open(f"sqlite:///{tmp_path}/db")
    service = Service(store, signer=keeper)
    try:
        for host in (H1, H2):
            await service.write(partial(register_host, name=host))
        await service.publish()
        async with Listeners(config, service, keeper).listening():
            yield Site(config, service, keeper, tmp_path)
    finally:
        await service.close()
        store.close()


async def test_an_agent_enrols_fetches_and_reports(site: Site) -> None:
    place = await site.enrolled(H1)
    certificate = place.certificate()
    assert certificate is not None
    assert host_of(certificate) == H1
    assert place.host_file.stat().st_mode & 0o777 == 0o600
    async with RemoteOrders(site.agents, place.context) as orders:
        document = await orders.desired(H1, 0, 5)
        assert document is not None
        assert document.host == H1
        assert set(document.authorities) == set(site.keeper.authorities)
        await orders.report(Report(H1, document.revision))
        refused = await orders.sign(H1, {AttachmentId(new_id()): make_request(new_key())})
        assert "has no attachment" in next(iter(refused.values()))


async def test_the_name_is_the_certificate_s(site: Site) -> None:
    """Not the path's, nor a body's, nor a header's."""
    place = await site.enrolled(H1)
    forged = {"X-SSL-Client-Cert": "h2", "X-Forwarded-For": "127.0.0.1", "X-Host": "h2", "Host": "h2"}
    async with site.http(place) as http:
        mine = await http.get("/v1/hosts/h1/desired", headers=forged)
        other = await http.get("/v1/hosts/h2/desired", headers=forged)
        report = await http.post("/v1/hosts/h2/report", json={"host": "h2", "revision": 0}, headers=forged)
        body = await http.post("/v1/hosts/h1/report", json={"host": "h2", "revision": 0}, headers=forged)
        renewed = await http.post("/v1/hosts/h2/certificate", json={"request": ""}, headers=forged)
    assert mine.status_code == 200
    assert [answer.status_code for answer in (other, report, renewed)] == [403, 403, 403]
    assert body.status_code == 400
    assert other.json()["error"]["code"] == "forbidden"


async def test_without_a_certificate_there_is_enrolment_and_no_more(site: Site) -> None:
    async with site.http() as http:
        answers = {
            path: (await http.get(path)).status_code
            for path in ("/v1", "/v1/ca", "/v1/hosts/h1/desired", "/v1/hosts", "/v1/shares", "/v1/audit")
        }
        forged = await http.get("/v1/hosts/h1/desired", headers={"X-SSL-Client-Cert": "anything"})
    assert answers == {
        "/v1": 200,
        "/v1/ca": 200,
        "/v1/hosts/h1/desired": 401,
        "/v1/hosts": 404,
        "/v1/shares": 404,
        "/v1/audit": 404,
    }
    assert forged.status_code == 401


async def test_another_authority_s_certificate_does_not_shake_hands(site: Site, tmp_path: Path) -> None:
    stranger = keep.init(tmp_path / "other", now=utc_now(), discard=True)
    key = new_key()
    place = Place(tmp_path / "stranger")
    place.write_roots(site.keeper.roots)
    from isthmus.pki.request import key_pem

    place.write_host(key_pem(key), stranger.sign_host(H1, key.public_key(), now=utc_now()))
    async with RemoteOrders(site.agents, place.context) as orders:
        with pytest.raises(Unavailable, match="cannot reach the service"):
            await orders.desired(H1, 0, 1)


async def test_a_grant_s_certificate_is_no_host_s(site: Site, tmp_path: Path) -> None:
    """Nor is a server's: the purpose counts, not only the signature."""
    key = new_key()
    place = Place(tmp_path / "odd")
    place.write_roots(site.keeper.roots)
    from isthmus.pki.request import key_pem

    place.write_host(key_pem(key), site.keeper.sign_server(["isthmus:host:h1"], key.public_key(), now=utc_now()))
    async with RemoteOrders(site.agents, place.context) as orders:
        with pytest.raises(Unavailable):
            await orders.desired(H1, 0, 1)


async def test_tls_1_2_is_refused_for_agents(site: Site) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await asyncio.open_connection("127.0.0.1", site.agents.port, ssl=context)
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    _, writer = await asyncio.open_connection("127.0.0.1", site.agents.port, ssl=context)
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    writer.close()


async def test_a_token_is_said_to_the_service_that_made_it_alone(site: Site, tmp_path: Path) -> None:
    other = keep.init(tmp_path / "other", now=utc_now(), discard=True)
    token = (await site.token(H1)).rsplit(".", 1)[0] + "." + other.root_print
    place = Place(tmp_path / "agent")
    with pytest.raises(Refused, match="not the service that made the token"):
        await asyncio.to_thread(enrol, place, site.agents, token)
    assert not place.directory.exists()


async def test_a_replayed_token_and_a_second_agent_are_refused(site: Site, tmp_path: Path) -> None:
    token = await site.token(H1)
    await asyncio.to_thread(enrol, Place(tmp_path / "one"), site.agents, token)
    with pytest.raises(Refused, match="used before"):
        await asyncio.to_thread(enrol, Place(tmp_path / "two"), site.agents, token)
    with pytest.raises(Refused, match="--replace"):
        await asyncio.to_thread(enrol, Place(tmp_path / "two"), site.agents, await site.token(H1))
    assert not (tmp_path / "two").exists()
    token = await site.token(H1, replace=True)
    await asyncio.to_thread(enrol, Place(tmp_path / "two"), site.agents, token)
    async with RemoteOrders(site.agents, Place(tmp_path / "one").context) as orders:
        with pytest.raises(HostRevoked, match="another agent took its place"):
            await orders.desired(H1, 0, 1)


async def test_a_revoked_host_is_told_so_at_its_next_word(site: Site) -> None:
    place = await site.enrolled(H1)
    async with RemoteOrders(site.agents, place.context) as orders:
        document = await orders.desired(H1, 0, 5)
        assert document is not None
        waiting = asyncio.create_task(orders.desired(H1, document.revision, 20))
        await asyncio.sleep(0.1)
        await site.service.write(lambda tx: revoke_host(tx, H1, "stolen"))
        await waiting  # it was let in before; its document has no grants
        for word in (orders.desired(H1, 0, 1), orders.report(Report(H1, 0)), orders.sign(H1, {})):
            with pytest.raises(HostRevoked, match="stolen"):
                await word


async def test_a_certificate_is_renewed_without_leaving(site: Site) -> None:
    place = await site.enrolled(H1)
    before = place.certificate()
    assert before is not None
    assert not is_due(before, utc_now())
    assert is_due(before, utc_now() + datetime.timedelta(days=61))
    async with RemoteOrders(site.agents, place.context) as orders:
        key, asked = renewal()
        done = await orders.certify(H1, asked)
        place.write_host(key, done.certificate)
        await orders.reopen()
        assert await orders.desired(H1, 0, 5) is not None
    assert place.certificate() != before


async def test_a_host_that_is_revoked_after_its_renewal_stays_so_over_a_restart(site: Site) -> None:
    """The agent's process knew another certificate when it started."""
    place, key, before = await site.enrolled(H1), new_key(), utc_now() - datetime.timedelta(days=70)
    ca = site.keeper.authority
    old = signing.make_host(ca.issuer, ca.issuer_key, H1, key.public_key(), now=before).public_bytes(Encoding.DER)
    facts = facts_of(old)
    await site.service.write(lambda tx: tx.add(CertificateRow(facts.serial, H1, facts.not_after)))
    place.write_host(key_pem(key), old)
    admission = up._admission(place, H1)
    async with RemoteOrders(site.agents, place.context) as orders:
        renewing = asyncio.create_task(up._renew(place, H1, orders, admission))
        try:
            async with asyncio.timeout(10):
                while place.certificate() == old:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await orders.desired(H1, 0, 1)
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
    assert admission.revoke()
    spec = AttachmentSpec(AttachmentId(new_id()), ShareId(new_id()), GuestId(new_id()), 1, "/one")
    want = Desired(H1, 1, attachments=(spec,))
    (refusal,) = up._admission(place, H1).judge(want).refused.values()
    assert refusal.code == "host-revoked"


async def test_hosts_of_a_new_root_are_taken_without_a_restart(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And those of the old one stay welcome; an agent that was away learns the new root from its document."""
    from isthmus import listeners
    from isthmus.pki.trust import Trust

    monkeypatch.setattr(listeners, "LOOK", 0.05)
    old = await site.enrolled(H1)
    keep.rotate_root(site.config.layout.state / "ca", now=utc_now(), passphrase=b"x")
    async with asyncio.timeout(20):
        while len((await _document(site, old)).authorities) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    document = await _document(site, old)
    believed = Trust(old.roots())
    assert believed.learn(document.authorities, utc_now())
    old.write_roots(believed.roots)
    new = await site.enrolled(H2)
    assert (await _document(site, old)).host == H1
    async with RemoteOrders(site.agents, new.context) as orders:
        assert await orders.desired(H2, 0, 5) is not None


async def _document(site: Site, place: Place) -> Any:
    async with RemoteOrders(site.agents, place.context) as orders:
        return await orders.desired(H1, 0, 5)


async def test_users_come_in_by_password_over_tls(site: Site) -> None:
    tls = trusting(site.keeper.roots)
    async with httpx.AsyncClient(base_url=site.config.public, verify=tls, trust_env=False) as http:
        nobody = await http.get("/v1/shares")
        wrong = await http.get("/v1/shares", auth=("alice", "wrong horse"))
        unknown = await http.get("/v1/shares", auth=("mallory", "correct horse"))
        alice = await http.get("/v1/shares", auth=("alice", "correct horse"))
        operator = await http.get("/v1/pools", auth=("alice", "correct horse"))
    assert [one.status_code for one in (nobody, wrong, unknown, alice, operator)] == [401, 401, 401, 200, 403]
    assert nobody.headers["www-authenticate"].startswith("Basic ")
    assert wrong.json()["error"]["message"] == unknown.json()["error"]["message"]


async def test_a_public_address_without_authentication_is_refused(tmp_path: Path, layout: Layout) -> None:
    with pytest.raises(Refused, match="everybody would be the operator"):
        async with serving(tmp_path, layout, auth=Auth.NONE):
            pass


async def test_a_crowd_that_never_shakes_hands_stops_nobody(site: Site) -> None:
    place = await site.enrolled(H1)
    idle = [await asyncio.open_connection("127.0.0.1", site.agents.port) for _ in range(100)]
    try:
        assert (await _document(site, place)).host == H1
    finally:
        for _, writer in idle:
            writer.close()
