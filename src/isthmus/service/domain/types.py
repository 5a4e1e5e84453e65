"""Share types as the Shared File Systems API has them: extra specs, who may use one, and what one means for a pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from isthmus.model.errors import Conflict, Invalid, NotFound
from isthmus.model.names import TypeName, new_id, parse_title
from isthmus.model.share import Filesystem, Power
from isthmus.service.domain.pools import DEFAULT_TYPE
from isthmus.store.query import Query
from isthmus.store.records import AllowedRow
from isthmus.store.rows import ShareRow, TypeRow
from isthmus.store.tx import ReadTx, Tx

DHSS = "driver_handles_share_servers"
SNAPSHOTS = "snapshot_support"
CLONES = "create_share_from_snapshot_support"
REVERTS = "revert_to_snapshot_support"
MOUNTS = "mount_snapshot_support"
OPTIONAL = (SNAPSHOTS, CLONES, REVERTS, MOUNTS)
POWERS: Mapping[str, Power] = {SNAPSHOTS: Power.SNAPSHOT, CLONES: Power.CLONE, REVERTS: Power.REVERT}
FILESYSTEM, CHECKSUMS = "isthmus:filesystem", "isthmus:checksums"
ZONES = "availability_zones"
LEAST, MOST, MOST_EXTENDED = (
    "provisioning:min_share_size",
    "provisioning:max_share_size",
    "provisioning:max_share_extend_size",
)
VISIBLE = frozenset(
    {*OPTIONAL, DHSS, ZONES, LEAST, MOST, MOST_EXTENDED, "replication_type", "mount_point_name_support"}
)
"""Extra specs that tenants see."""
_TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})
_BOOLEANS = frozenset({DHSS, *OPTIONAL, "mount_point_name_support"})
TYPE = "type"


def truth(text: str) -> bool:
    """What a spec means as a boolean: also ``<is> True``, as Manila writes them."""
    return text.removeprefix("<is>").strip().lower() in _TRUE


def specs_of(row: TypeRow) -> dict[str, str]:
    """The type's extra specs, the required one among them."""
    return {DHSS: "False", **row.specs}


def has(row: TypeRow, spec: str) -> bool:
    """Whether shares of the type have the power of this spec. A type that says nothing of it has not; the built-in one,
    which was there before it could, has all that a pool here can give."""
    if spec in row.specs:
        return truth(row.specs[spec])
    return row.name == DEFAULT_TYPE and not row.specs and spec in POWERS


def zones_of(row: TypeRow) -> list[str]:
    """The availability zones that the type is confined to, none if it is not."""
    return [name for part in row.specs.get(ZONES, "").split(",") if (name := part.strip())]


def find_type(tx: ReadTx, name_or_id: str) -> TypeRow:
    """The type of this UUID or name. Raises ``NotFound``."""
    known = tx.get(TypeRow, name_or_id)
    if known is None:
        known = next(iter(tx.all(TypeRow, uuid=name_or_id)), None)
    if known is None:
        raise NotFound("share type", name_or_id[:80])
    return known


def usable_type(tx: ReadTx, name_or_id: str, project: str | None) -> TypeRow:
    """Such a type, if the project (None: the operator) may use it. Raises ``NotFound``, as if it did not exist."""
    row = find_type(tx, name_or_id)
    if project is not None and not row.public and tx.get(AllowedRow, _access_id(TYPE, row.uuid, project)) is None:
        raise NotFound("share type", name_or_id[:80])
    return row


def usable_types(tx: ReadTx, project: str | None, *, public: bool | None) -> list[TypeRow]:
    """All types that the project may use. ``public``: only such, or only others; None: both."""
    rows = tx.page(TypeRow, Query(sort="created_at", descending=False))
    if project is not None:
        mine = open_to(tx, TYPE, project)
        rows = [row for row in rows if row.public or row.uuid in mine]
    return rows if public is None else [row for row in rows if row.public == public]


def make_type(
    tx: Tx, *, name: str, specs: Mapping[str, str], public: bool = True, description: str = "", defaults: bool = False
) -> TypeRow:
    """A type. ``defaults``: snapshots, as versions before 2.24 imply them. Raises ``Conflict``, ``Invalid``."""
    name = _name(name)
    wanted = dict(specs)
    if DHSS not in wanted:
        raise Invalid(f"cannot make type {name}: the extra spec {DHSS} is required", field=f"extra_specs.{DHSS}")
    if defaults:
        wanted.setdefault(SNAPSHOTS, "True")
        wanted.setdefault(CLONES, wanted[SNAPSHOTS])
    _check_specs(wanted)
    if tx.get(TypeRow, name) is not None:
        raise Conflict(f"cannot make type {name}: there is one of this name", code="name-taken")
    filesystem, checksums = _kind(wanted)
    row = TypeRow(
        TypeName(name), filesystem, checksums, description=parse_title(description), public=public, specs=wanted
    )
    return tx.add(row, "registered")


def update_type(
    tx: Tx, row: TypeRow, *, name: str | None = None, description: str | None = None, public: bool | None = None
) -> TypeRow:
    """The type with these. Raises ``Conflict`` for a name that is taken, and for another one of the built-in type."""
    if description is not None:
        row = tx.change(row, description=parse_title(description, "description"))
    if public is not None:
        row = tx.change(row, public=public)
    if name is None or name == row.name:
        return row
    return _rename(tx, row, _name(name))


def set_specs(tx: Tx, row: TypeRow, specs: Mapping[str, str]) -> TypeRow:
    """The type with these extra specs besides those that it has. Shares that exist stay what they are."""
    wanted = {**specs_of(row), **specs}
    _check_specs(wanted)
    filesystem, checksums = _kind(wanted)
    if (filesystem, checksums) != (row.filesystem, row.checksums) and tx.count(
        ShareRow, Query(equal={"type": row.name})
    ):
        raise Conflict(f"cannot change the file system of type {row.name}: shares are of it", code="type-in-use")
    return tx.change(row, specs=wanted, filesystem=filesystem, checksums=checksums)


def unset_spec(tx: Tx, row: TypeRow, name: str) -> TypeRow:
    """The type without this extra spec. Raises ``NotFound``; ``Invalid`` for the required one."""
    if name == DHSS:
        raise Invalid(f"cannot remove {DHSS}: it is required", field=DHSS)
    if name not in row.specs:
        raise NotFound("extra spec", name[:80])
    left = {key: value for key, value in row.specs.items() if key != name}
    filesystem, checksums = _kind(left)
    return tx.change(row, specs=left, filesystem=filesystem, checksums=checksums)


def allow(tx: Tx, kind: str, what: str, project: str) -> None:
    """The project may use a type that is not public. Raises ``Conflict`` if it may already."""
    key = _access_id(kind, what, project)
    if tx.get(AllowedRow, key) is not None:
        raise Conflict(f"cannot add project {project}: it has access already", code="access-exists")
    tx.add(AllowedRow(key, kind, what, project))


def disallow(tx: Tx, kind: str, what: str, project: str) -> None:
    """The project may not use it any more. Raises ``NotFound``."""
    row = tx.get(AllowedRow, _access_id(kind, what, project))
    if row is None:
        raise NotFound("type access", project[:80])
    tx.remove(row)


def allowed(tx: ReadTx, kind: str, what: str) -> list[str]:
    """The projects that may."""
    return [row.tenant for row in tx.all(AllowedRow, kind=kind, what=what)]


def open_to(tx: ReadTx, kind: str, project: str) -> set[str]:
    """What the project may use besides what is public."""
    return {row.what for row in tx.all(AllowedRow, kind=kind, tenant=project)}


def forget_access(tx: Tx, kind: str, what: str) -> None:
    """Nobody is named any more."""
    for row in tx.all(AllowedRow, kind=kind, what=what):
        tx.remove(row)


def _rename(tx: Tx, row: TypeRow, name: str) -> TypeRow:
    if row.name == DEFAULT_TYPE:
        raise Conflict(f"cannot rename type {row.name}: it is built in", code="type-in-use")
    if tx.get(TypeRow, name) is not None:
        raise Conflict(f"cannot rename type {row.name}: there is one named {name}", code="name-taken")
    other = tx.add(replace(row, name=TypeName(name), uuid=new_id()))
    for share in tx.all(ShareRow, type=row.name):
        tx.change(share, type=other.name)
    tx.remove(row, f"renamed to {name}")
    return tx.change(other, uuid=row.uuid)


def _name(text: str) -> str:
    name = parse_title(text.strip())
    if not name:
        raise Invalid("cannot make a type without a name", field="name")
    return name


def _check_specs(specs: Mapping[str, str]) -> None:
    for name in _BOOLEANS & specs.keys():
        if specs[name].removeprefix("<is>").strip().lower() not in _TRUE | {"false", "0", "no", "off", "f", "n"}:
            raise Invalid(f"cannot use {name}: give True or False", field=f"extra_specs.{name}")
    if truth(specs[DHSS]):
        raise Invalid(
            f"cannot use {DHSS} = True: no pool here makes servers of its own: give False", field=f"extra_specs.{DHSS}"
        )
    for name in (LEAST, MOST, MOST_EXTENDED):
        if name in specs and not (specs[name].isdecimal() and int(specs[name]) > 0):
            raise Invalid(f"cannot use {name}: give a number of GiB above 0", field=f"extra_specs.{name}")
    if LEAST in specs and MOST in specs and int(specs[LEAST]) > int(specs[MOST]):
        raise Invalid(f"cannot use {LEAST}: it is above {MOST}", field=f"extra_specs.{LEAST}")


def _kind(specs: Mapping[str, str]) -> tuple[Filesystem, bool]:
    text = specs.get(FILESYSTEM, str(Filesystem.BTRFS))
    if text not in set(Filesystem):
        raise Invalid(
            f"cannot use {FILESYSTEM}: choose one of {', '.join(Filesystem)}", field=f"extra_specs.{FILESYSTEM}"
        )
    checksums = truth(specs.get(CHECKSUMS, "False"))
    if checksums and text != Filesystem.BTRFS:
        raise Invalid(f"cannot use {CHECKSUMS}: {text} keeps no data checksums, btrfs does", field=CHECKSUMS)
    return Filesystem(text), checksums


def _access_id(kind: str, what: str, project: str) -> str:
    return f"{kind}/{what}/{project}"
