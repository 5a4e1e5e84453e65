"""Grants as certificates: what is signed, what is refused and why, and how an authority grows older."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.model.attachment import Access, Mode
from isthmus.model.errors import Conflict, Invalid, Refused, Unavailable
from isthmus.model.grant import MAX_SEQUENCE, Grant
from isthmus.model.names import AttachmentId, GuestId, HostName, PoolName, ProjectId, ShareId
from isthmus.pki import keep, profile, signing
from isthmus.pki.authority import ISSUER, Authority, certificates, pem_of
from isthmus.pki.facts import facts_of, host_of, print_of
from isthmus.pki.request import key_pem, load_key, make_request, new_key, read_request
from isthmus.pki.show import describe
from isthmus.pki.trust import GrantRefused, Trust
from tests.fakes.authority import authority

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
WEEK = datetime.timedelta(days=7)
DAY = datetime.timedelta(days=1)
KEY = new_key()
GRANT = Grant(
    attachment=AttachmentId("b0000000-0000-4000-8000-000000000001"),
    sequence=1795485698817,
    project=ProjectId("acme"),
    share=ShareId("00000000-0000-4000-8000-000000000001"),
    place="/données",
    pool=PoolName("p1"),
    volume="00000000-0000-4000-8000-000000000001",
    guest=GuestId("a0000001-0000-4000-8000-000000000000"),
    host=HostName("h1"),
    mode=Mode.NFS,
    access=Access.RW,
    id_map=("0:1000:1",),
    qos={"write": 1 << 20},
)


def sign(by: Authority | None = None, *, now: datetime.datetime = NOW, grant: Grant = GRANT) -> bytes:
    return (by or authority()).sign_grant(grant, KEY.public_key(), now=now, lifetime=WEEK)


def trust(*roots: Authority) -> Trust:
    made = Trust([der for root in roots or (authority(),) for der in root.roots])
    for root in roots or (authority(),):
        made.learn(root.authorities, NOW)
    return made


def code_of(der: bytes, now: datetime.datetime = NOW, by: Trust | None = None) -> str:
    with pytest.raises(GrantRefused) as refused:
        (by or trust()).verify_grant(der, now)
    return refused.value.code


# --- the tuple --------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="\"'\\"), max_size=20)
grants = st.builds(
    replace,
    st.just(GRANT),
    sequence=st.integers(0, MAX_SEQUENCE),
    volume=texts,
    access=st.sampled_from(Access),
    id_map=st.lists(texts, max_size=5).map(tuple),
    qos=st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.integers(0, profile.MAX_LIMIT), max_size=4),
)


@given(grant=grants)
def test_a_tuple_comes_back_as_it_was_and_has_one_encoding(grant: Grant) -> None:
    body = profile.encode_grant(grant)
    assert profile.decode_grant(body) == grant
    assert profile.encode_grant(profile.decode_grant(body)) == body
    assert json.loads(body)["version"] == 1


@settings(max_examples=300)
@given(body=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_noise_is_no_tuple(body: bytes) -> None:
    with pytest.raises(Invalid):
        profile.decode_grant(body)


@given(place=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_changed_byte_is_another_tuple_or_none(place: int, byte: int) -> None:
    body = bytearray(profile.encode_grant(GRANT))
    body[place % len(body)] = byte
    try:
        grant = profile.decode_grant(bytes(body))
    except Invalid:
        return
    assert profile.encode_grant(grant) == bytes(body)


def changed(**values: object) -> bytes:
    body = json.loads(profile.encode_grant(GRANT))
    body |= values
    body = {name: value for name, value in body.items() if value is not ...}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"version": 2}, "version"),
        ({"version": True}, "version"),
        ({"bogus": 1}, "bogus"),
        ({"share": ...}, "share"),
        ({"sequence": -1}, "sequence"),
        ({"sequence": MAX_SEQUENCE + 1}, "sequence"),
        ({"sequence": 1.0}, "sequence"),
        ({"sequence": True}, "sequence"),
        ({"share": "../../etc"}, "share"),
        ({"share": GRANT.share.upper().replace("0", "A")}, "share"),
        ({"place": "relative"}, "place"),
        ({"place": "/a/../b"}, "at"),
        ({"project": ""}, "project"),
        ({"sub_path": "../x"}, "sub_path"),
        ({"sub_path": "/abs"}, "sub_path"),
        ({"mode": "nfs3"}, "mode"),
        ({"access": "rwx"}, "access"),
        ({"id_map": ["x"] * 65}, "id_map"),
        ({"id_map": "x"}, "id_map"),
        ({"qos": {"write": -1}}, "qos"),
        ({"qos": {"Write": 1}}, "qos"),
        ({"volume": "a\nb"}, "volume"),
        ({"volume": "x" * 2000}, "volume"),
    ],
)
def test_a_tuple_that_is_not_right_is_refused(values: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        profile.decode_grant(changed(**values))
    assert refused.value.field in (field, "place")


def test_one_encoding_only() -> None:
    body = profile.encode_grant(GRANT).decode()
    for other in (
        body + " ",
        body.replace(":", ": ", 1),
        body.replace("é", "\\u00e9"),
        body[:-1] + ',"version":1}',
        "{" + body[1:].replace('"access":"rw",', "").replace("}", ',"access":"rw"}', 1),
    ):
        with pytest.raises(Invalid):
            profile.decode_grant(other.encode())
    with pytest.raises(Invalid, match="more than 8192 bytes"):
        profile.decode_grant(b" " * 8193)
    with pytest.raises(Invalid):
        profile.decode_grant(b'{"a":' * 4000 + b"1" + b"}" * 4000)


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_proves_that_its_key_is_held() -> None:
    assert read_request(make_request(KEY, "h1")).public_numbers() == KEY.public_key().public_numbers()
    request = bytearray(make_request(KEY))
    request[-1] ^= 1
    with pytest.raises(Invalid):
        read_request(bytes(request))


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)])
def test_other_keys_are_refused(key: Any) -> None:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    with pytest.raises(Invalid, match="P-256"):
        read_request(request.public_bytes(Encoding.DER))


@given(der=st.binary(max_size=200))
def test_noise_is_no_request(der: bytes) -> None:
    with pytest.raises(Invalid):
        read_request(der)


def test_a_large_request_is_refused_unread() -> None:
    with pytest.raises(Invalid, match="more than 4096 bytes"):
        read_request(b"0" * 5000)


def test_a_key_is_encrypted_by_its_passphrase() -> None:
    sealed = key_pem(KEY, b"secret")
    assert b"ENCRYPTED" in sealed
    assert load_key(sealed, b"secret").private_numbers() == KEY.private_numbers()
    for passphrase in (None, b"wrong"):
        with pytest.raises(Invalid, match="passphrase"):
            load_key(sealed, passphrase)


# --- grants -----------------------------------------------------------------------------------------------------------


def test_what_was_signed_is_what_is_read() -> None:
    der = sign()
    signed = trust().verify_grant(der, NOW)
    assert signed.grant == GRANT
    assert (signed.not_before, signed.not_after) == (NOW - profile.BACKDATED, NOW + WEEK)
    assert signed.serial == facts_of(der).serial
    assert len(der) < 1024
    assert b"donn\xc3\xa9es" in der


def test_the_clocks_are_told_of() -> None:
    der = sign()
    trust().verify_grant(der, NOW - datetime.timedelta(minutes=4, seconds=59))
    with pytest.raises(GrantRefused, match="NTP") as early:
        trust().verify_grant(der, NOW - datetime.timedelta(minutes=6))
    assert early.value.code == "grant-not-yet-valid"
    trust().verify_grant(der, NOW + WEEK)
    assert code_of(der, NOW + WEEK + datetime.timedelta(seconds=1)) == "grant-expired"


def test_a_remembered_grant_ends_all_the_same() -> None:
    believed, der = trust(), sign()
    believed.verify_grant(der, NOW)
    with pytest.raises(GrantRefused, match="ended"):
        believed.verify_grant(der, NOW + WEEK * 2)


def test_another_authority_of_the_same_names_is_not_believed() -> None:
    twin = authority("another")
    same_names = Authority(twin.issuer, twin.issuer_key, authority().root_certificates, authority().known)
    assert code_of(sign(twin)) == "grant-unsigned"
    assert code_of(sign(same_names)) == "grant-unsigned"


def test_a_host_s_key_signs_no_grant() -> None:
    key = new_key()
    host = x509.load_der_x509_certificate(authority().sign_host(HostName("h1"), key.public_key(), now=NOW))
    forged = signing.make_grant(host, key, GRANT, KEY.public_key(), now=NOW, life=WEEK)
    assert code_of(forged.public_bytes(Encoding.DER)) == "grant-unsigned"


def altered(der: bytes) -> Iterator[bytes]:
    """The certificate with each of its bytes in turn changed in several ways, left out, or the last."""
    for place, byte in enumerate(der):
        others = {byte ^ 1, byte ^ 0x41, byte ^ 0x80, 0, 0xFF} - {byte}
        yield from (der[:place] + bytes([other]) + der[place + 1 :] for other in sorted(others))
        yield der[:place] + der[place + 1 :]
        yield der[:place]
    yield der + b"\0"


ODD = pytest.mark.filterwarnings("ignore:Parsed a serial number", "ignore:Attribute's length")
"""What the library says of such certificates before it is asked to refuse them."""


@ODD
def test_every_byte_of_a_grant_counts() -> None:
    believed, der = trust(), sign()
    for other in altered(der):
        with pytest.raises(GrantRefused) as refused:
            believed.verify_grant(other, NOW)
        assert refused.value.code in ("grant-unreadable", "grant-unsigned")


@ODD
def test_every_byte_of_an_authority_counts_and_what_is_none_is_passed_over() -> None:
    root, issuer = authority().authorities
    believed = Trust([root])
    for other in altered(issuer):
        assert believed.learn([root, other], NOW) is False
    assert believed.roots == (root,)
    assert code_of(sign(), by=believed) == "grant-unsigned"
    for other in altered(root):
        with pytest.raises(Invalid, match="root"):
            Trust([other])


@ODD
def test_every_byte_of_a_request_counts() -> None:
    for other in altered(make_request(KEY, "h1")):
        with pytest.raises(Invalid):
            read_request(other)


@ODD
def test_an_altered_certificate_is_read_or_refused_in_words() -> None:
    for other in altered(authority().sign_host(HostName("h1"), KEY.public_key(), now=NOW)):
        for read in (host_of, facts_of, print_of):
            with contextlib.suppress(Invalid):
                read(other)
    for other in altered(sign()):
        with contextlib.suppress(Invalid):
            describe(certificates(pem_of([other]))[0])


def test_the_bits_that_no_signature_covers_are_compared() -> None:
    """Those of the signature's own encoding: a library takes them as they come."""
    body = tbs = signature = b""
    while not signature or signature[-1] & 1:  # a bit that is 0 may be called unused
        body = sign()
        certificate = x509.load_der_x509_certificate(body)
        tbs, signature = certificate.tbs_certificate_bytes, certificate.signature
    place = len(body) - len(signature) - 1
    assert body.endswith(b"\0" + signature)
    assert tbs in body
    assert code_of(body[:place] + b"\1" + signature) in ("grant-unsigned", "grant-unreadable")
    trust().verify_grant(body, NOW)


@given(der=st.binary(max_size=400))
def test_noise_is_no_grant(der: bytes) -> None:
    assert code_of(der) == "grant-unreadable"


def test_a_large_certificate_is_refused_unread() -> None:
    assert code_of(b"0" * (profile.MAX_CERTIFICATE + 1)) == "grant-unreadable"


Builder = Callable[[x509.CertificateBuilder], x509.CertificateBuilder]


def odd(change: Builder, *, without: type[x509.ExtensionType] | None = None, key: Any = None) -> bytes:
    """A grant signed by the right issuer, but not of the profile."""
    made = authority()
    right = x509.load_der_x509_certificate(sign())
    builder = (
        x509.CertificateBuilder()
        .subject_name(right.subject)
        .issuer_name(right.issuer)
        .public_key(key or KEY.public_key())
        .serial_number(right.serial_number)
        .not_valid_before(right.not_valid_before_utc)
        .not_valid_after(right.not_valid_after_utc)
    )
    for extension in right.extensions:
        if without is None or not isinstance(extension.value, without):
            builder = builder.add_extension(extension.value, extension.critical)
    return change(builder).sign(made.issuer_key, hashes.SHA256()).public_bytes(Encoding.DER)


def plus(value: x509.ExtensionType, *, critical: bool) -> Builder:
    return lambda builder: builder.add_extension(value, critical)


UNKNOWN = x509.ObjectIdentifier("1.2.3.4")


@pytest.mark.parametrize(
    ("change", "without"),
    [
        (plus(x509.UnrecognizedExtension(UNKNOWN, b"x"), critical=True), None),
        (plus(x509.UnrecognizedExtension(UNKNOWN, b"x"), critical=False), None),
        (plus(x509.SubjectAlternativeName([x509.DNSName("x")]), critical=False), None),
        (plus(x509.BasicConstraints(ca=True, path_length=0), critical=True), x509.BasicConstraints),
        (plus(x509.BasicConstraints(ca=False, path_length=None), critical=False), x509.BasicConstraints),
        (plus(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True), x509.ExtendedKeyUsage),
        (
            plus(x509.ExtendedKeyUsage([profile.GRANT_USE_OID, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True),
            x509.ExtendedKeyUsage,
        ),
        (lambda builder: builder, x509.ExtendedKeyUsage),
        (lambda builder: builder, x509.KeyUsage),
        (lambda builder: builder, x509.UnrecognizedExtension),
        (
            plus(x509.UnrecognizedExtension(profile.GRANT_OID, profile.encode_grant(GRANT)), critical=False),
            x509.UnrecognizedExtension,
        ),
        (plus(x509.UnrecognizedExtension(profile.GRANT_OID, b"{}"), critical=True), x509.UnrecognizedExtension),
    ],
)
def test_only_the_profile_is_a_grant(change: Builder, without: type[x509.ExtensionType] | None) -> None:
    assert trust().verify_grant(odd(lambda builder: builder), NOW).grant == GRANT
    assert code_of(odd(change, without=without)) == "grant-unreadable"


def test_a_grant_on_another_curve_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    assert code_of(odd(lambda builder: builder, key=key)) == "grant-unreadable"


def test_a_host_certificate_names_its_host_and_nothing_else_does() -> None:
    der = authority().sign_host(HostName("h1"), KEY.public_key(), now=NOW)
    assert host_of(der) == "h1"
    for other in (sign(), authority().sign_server(["isthmus:host:h1", "::1"], KEY.public_key(), now=NOW), b"x"):
        with pytest.raises(Invalid):
            host_of(other)


def test_a_person_reads_what_it_means() -> None:
    shown = describe(x509.load_der_x509_certificate(sign()))
    assert "share       00000000-0000-4000-8000-000000000001" in shown
    assert "the one host that may present it" in shown
    assert "Not after:      " + (NOW + WEEK).strftime("%Y-%m-%d %H:%M:%S") in shown


# --- the authority ----------------------------------------------------------------------------------------------------


def test_an_authority_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    made = keep.init(tmp_path / "ca", now=NOW, passphrase=b"secret")
    assert Authority.load(tmp_path / "ca").roots == made.roots
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "ca").iterdir()}
    assert modes == dict.fromkeys(("roots.pem", "authorities.pem", "issuer.pem", "root.key"), "0o600")
    assert b"ENCRYPTED" in (tmp_path / "ca" / "root.key").read_bytes()
    assert oct((tmp_path / "ca").stat().st_mode & 0o777) == "0o700"
    with pytest.raises(Conflict, match="there is one"):
        keep.init(tmp_path / "ca", now=NOW, discard=True)
    assert Authority.load(tmp_path / "ca").roots == made.roots


def test_without_an_authority_the_mend_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="isthmus ca init"):
        Authority.load(tmp_path)


@pytest.mark.parametrize("act", ["init", "rotate_issuer", "rotate_root"])
def test_a_cut_at_any_write_leaves_the_authority_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    directory = tmp_path / "ca"
    write = keep._write
    before = None if act == "init" else keep.init(directory, now=NOW, passphrase=b"x")
    for writes in range(10):
        left = writes

        def failing(path: Path, body: bytes) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            write(path, body)

        monkeypatch.setattr(keep, "_write", failing)
        try:
            getattr(keep, act)(directory, now=NOW + DAY, passphrase=b"x")
        except KeyboardInterrupt:
            if before is None:
                assert not keep.exists(directory)
            else:
                kept = Authority.load(directory)
                assert kept.issuer == before.issuer
                trust(before).verify_grant(kept.sign_grant(GRANT, KEY.public_key(), now=NOW, lifetime=WEEK), NOW)
        else:
            break
        finally:
            monkeypatch.setattr(keep, "_write", write)
    else:
        pytest.fail("never done")
    made = Authority.load(directory)
    assert before is None or made.issuer != before.issuer
    again = keep.rotate_issuer(directory, now=NOW + DAY, passphrase=b"x")
    assert again.root_certificates[0] == made.root_certificates[0]


def test_a_new_issuer_signs_and_the_old_one_s_grants_stay_good(tmp_path: Path) -> None:
    first = keep.init(tmp_path, now=NOW, passphrase=b"x")
    old = sign(first)
    second = keep.rotate_issuer(tmp_path, now=NOW, passphrase=b"x")
    believed = trust(first)
    assert code_of(sign(second), by=believed) == "grant-unsigned"
    assert believed.learn(second.authorities, NOW) is False
    for der in (old, sign(second)):
        assert believed.verify_grant(der, NOW).grant == GRANT


def test_a_new_root_is_learned_by_its_links_however_many(tmp_path: Path) -> None:
    first = keep.init(tmp_path, now=NOW, passphrase=b"x")
    believed, old = trust(first), sign(first)
    keep.rotate_root(tmp_path, now=NOW + DAY, passphrase=b"x")
    third = keep.rotate_root(tmp_path, now=NOW + 2 * DAY, passphrase=b"x")
    now = NOW + 2 * DAY
    assert believed.learn(third.authorities, now) is True
    assert set(believed.roots) == set(third.roots)
    for der in (old, sign(third, now=now)):
        assert believed.verify_grant(der, now).grant == GRANT
    fresh = Trust(believed.roots)
    fresh.learn(third.authorities, now)
    assert fresh.verify_grant(sign(third, now=now), now).grant == GRANT


def test_a_root_without_a_link_is_nobody_s(tmp_path: Path) -> None:
    stranger = keep.init(tmp_path, now=NOW, discard=True)
    believed = trust()
    assert believed.learn((*authority().authorities, *stranger.authorities), NOW) is False
    assert code_of(sign(stranger), by=believed) == "grant-unsigned"


def test_what_is_retired_is_refused(tmp_path: Path) -> None:
    first = keep.init(tmp_path, now=NOW, passphrase=b"x")
    old, believed = sign(first), trust(first)
    second = keep.rotate_root(tmp_path, now=NOW + DAY, passphrase=b"x")
    believed.learn(second.authorities, NOW + DAY)
    assert len(keep.retire(tmp_path)) == 3
    third = Authority.load(tmp_path)
    assert believed.learn(third.authorities, NOW + DAY) is True
    assert set(believed.roots) == set(third.roots)
    assert code_of(old, NOW + DAY, believed) == "grant-unsigned"
    believed.verify_grant(sign(third, now=NOW + DAY), NOW + DAY)


def test_an_authority_from_a_backup_takes_nothing_away(tmp_path: Path) -> None:
    first = keep.init(tmp_path, now=NOW, passphrase=b"x")
    second = keep.rotate_issuer(tmp_path, now=NOW + DAY, passphrase=b"x")
    believed, der = trust(second), sign(second, now=NOW + DAY)
    believed.learn(first.authorities, NOW + DAY)
    assert believed.verify_grant(der, NOW + DAY).grant == GRANT


def test_rotating_needs_the_root_s_key(tmp_path: Path) -> None:
    keep.init(tmp_path / "a", now=NOW, discard=True)
    with pytest.raises(Refused, match="--root-key"):
        keep.rotate_issuer(tmp_path / "a", now=NOW)
    keep.init(tmp_path / "b", now=NOW, passphrase=b"x", root_key=tmp_path / "stick.key")
    assert not (tmp_path / "b" / "root.key").exists()
    with pytest.raises(Invalid, match="passphrase"):
        keep.rotate_issuer(tmp_path / "b", now=NOW, passphrase=b"y", root_key=tmp_path / "stick.key")
    keep.rotate_issuer(tmp_path / "b", now=NOW, passphrase=b"x", root_key=tmp_path / "stick.key")


def test_an_issuer_that_has_ended_signs_nothing_and_says_so(tmp_path: Path) -> None:
    made = keep.init(tmp_path, now=NOW - profile.ISSUER_LIFE - DAY, passphrase=b"x")
    with pytest.raises(Unavailable, match="isthmus ca rotate"):
        sign(made)
    # one that the authority signed before its end does not outlive it
    der = made.sign_grant(GRANT, KEY.public_key(), now=NOW - 2 * DAY, lifetime=WEEK)
    assert facts_of(der).not_after == made.issuer.not_valid_after_utc
    believed = Trust(made.roots)
    believed.learn(made.authorities, NOW - 2 * DAY)
    believed.verify_grant(der, NOW - 2 * DAY)
    assert code_of(der, NOW, believed) == "grant-expired"
    keep.rotate_issuer(tmp_path, now=NOW, passphrase=b"x")
    renewed = Authority.load(tmp_path)
    believed.learn(renewed.authorities, NOW)
    assert believed.verify_grant(sign(renewed), NOW).grant == GRANT


def test_a_discarded_root_s_issuer_lasts_as_long_as_it(tmp_path: Path) -> None:
    made = keep.init(tmp_path, now=NOW, discard=True)
    assert made.issuer.not_valid_after_utc == made.root_certificates[0].not_valid_after_utc
    assert (tmp_path / ISSUER).exists()
    assert not (tmp_path / "root.key").exists()


def test_a_chain_is_no_longer_than_allowed() -> None:
    made = authority()
    key = new_key()
    below = signing.make_issuer(made.issuer, made.issuer_key, key.public_key(), now=NOW)
    longer = Authority(below, key, made.root_certificates, (*made.known, below))
    believed = Trust(made.roots)
    believed.learn(longer.authorities, NOW)
    assert code_of(sign(longer), by=believed) == "grant-unsigned"


def test_a_leaf_is_no_root() -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .sign(KEY, hashes.SHA256())
    )
    with pytest.raises(Invalid, match="root"):
        Trust([leaf.public_bytes(Encoding.DER)])
