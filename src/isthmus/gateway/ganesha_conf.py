"""Configuration of NFS-Ganesha 4.3 as values, and their text (pure).

Grammar: src/config_parsing/conf_lex.l of NFS-Ganesha; options: ganesha-core-config(8), ganesha-export-config(8),
ganesha-cache-config(8).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from isthmus.model.attachment import Access, Export
from isthmus.model.errors import Invalid
from isthmus.model.names import AttachmentId

PORT = 2049

_CLAIM = "# presents "  # begins the line that says what an EXPORT block is for; the agent reads it back


@dataclass(frozen=True, slots=True)
class Word:
    """A value that stands without quotes: an enumerated word or a list of them."""

    text: str


Value = str | int | bool | Word


@dataclass(frozen=True, slots=True)
class Block:
    """``NAME { key = value; ... }``."""

    name: str
    values: Mapping[str, Value]
    blocks: tuple[Block, ...] = ()

    def lines(self, indent: str = "") -> Iterable[str]:
        """The block's text."""
        yield f"{indent}{self.name} {{"
        for key, value in self.values.items():
            yield f"{indent}  {key} = {_text(value)};"
        for block in self.blocks:
            yield from block.lines(indent + "  ")
        yield f"{indent}}}"


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the server finds its files, by its own root."""

    exports: str
    recovery: str
    plugins: str


def server_text(name: str, paths: Paths) -> str:
    """The configuration of a gateway called ``name``: everything but its exports, which it includes."""
    blocks = (_core(paths), _nfsv4(name, paths), _CACHE, _KERBEROS, _LOG, _DEFAULTS)
    lines = [line for block in blocks for line in block.lines()]
    return "\n".join([*lines, f"%include {_quoted(paths.exports)}", ""])


def exports_text(exports: Collection[Export], paths: Mapping[AttachmentId, str]) -> str:
    """The exports, each below a comment that ``claims`` reads. ``paths``: where the server finds their directories."""
    lines: list[str] = ["# Rewritten before each change; a server that starts anew comes back with the same exports."]
    for export in sorted(exports, key=lambda export: export.slot):
        lines.append(_CLAIM + json.dumps(_claim(export), sort_keys=True))
        lines.extend(_export(export, paths[export.attachment]).lines())
    return "\n".join([*lines, ""])


def claims(text: str) -> dict[AttachmentId, Export]:
    """What the text of an exports file says that it presents. Raises ``Invalid`` if it is not ours."""
    found = {}
    for line in text.splitlines():
        if line.startswith(_CLAIM):
            try:
                fields = json.loads(line.removeprefix(_CLAIM))
                export = Export(**{**fields, "access": Access(fields["access"])})
            except (ValueError, TypeError, KeyError) as error:
                raise Invalid(f"cannot read an exports file: {line[:200]!a} is no claim of ours") from error
            found[export.attachment] = export
    return found


def filesystem_id(attachment: AttachmentId) -> tuple[int, int]:
    """The file system id (fsid4, RFC 8881 section 5.8.1.9) that a guest sees for an attachment: its UUID in two halves.

    It is the same wherever and whenever the share is mounted, and it tells a probe what it found.
    """
    number = uuid.UUID(attachment).int
    return number >> 64, number & 0xFFFF_FFFF_FFFF_FFFF


def _core(paths: Paths) -> Block:
    return Block(
        "NFS_CORE_PARAM",
        {
            "Protocols": Word("4"),
            "NFS_Port": PORT,
            # IPv4 comes as mapped addresses. The namespace holds nothing but the link, whose filter admits the port.
            "Bind_addr": Word("::"),
            "Enable_NLM": False,
            "Enable_RQUOTA": False,
            "Enable_UDP": False,
            "Clustered": False,
            "Plugins_Dir": paths.plugins,
            "DRC_Disabled": True,  # a session of NFSv4.1 has its own replay cache
            "Enable_NFS_Stats": False,
            "RPC_Ioq_ThrdMax": 8,
            "RPC_Max_Connections": 64,
            "RPC_Idle_Timeout_S": 0,  # an idle guest keeps its connection
        },
    )


def _nfsv4(name: str, paths: Paths) -> Block:
    return Block(
        "NFSV4",
        {
            "Graceless": True,
            "Lease_Lifetime": 30,
            "Minor_Versions": Word("1, 2"),
            "Only_Numeric_Owners": True,
            "Delegations": False,
            "RecoveryBackend": Word("fs"),
            "RecoveryRoot": paths.recovery,
            "Slot_Table_Size": 32,
            "Max_Client_Ids": 64,  # each is a directory on the host's /run, and a guest may ask for as many as it likes
            "Server_Scope": name,
            "Server_Owner": name,
        },
    )


_CACHE = Block(
    "MDCACHE",
    {"NParts": 1, "Cache_Size": 127, "Entries_HWMark": 1000, "Chunks_HWMark": 100, "LRU_Run_Interval": 60},
)

_KERBEROS = Block("NFS_KRB5", {"Active_krb5": False})

# No line that a guest can cause by what it sends (RPC and NFSv4 have critical ones): the log lies on the host's /run.
# CONFIG says when a reload has ended; the others say why an export was refused.
_LOG = Block(
    "LOG",
    {"Default_Log_Level": Word("FATAL")},
    (Block("COMPONENTS", {"CONFIG": Word("EVENT"), **{name: Word("CRIT") for name in ("INIT", "EXPORT", "FSAL")}}),),
)

_DEFAULTS = Block(
    "EXPORT_DEFAULTS",
    {
        "Access_Type": Word("NONE"),
        "Protocols": Word("4"),
        "Transports": Word("TCP"),
        "SecType": Word("sys"),
        "Squash": Word("No_Root_Squash"),  # the share is the tenant's alone, and mounted nosuid and nodev
        # Other gateways and the host change the same files: attributes are asked for each time (ADR 0005).
        "Attr_Expiration_Time": 0,
    },
)


def _export(export: Export, path: str) -> Block:
    major, minor = filesystem_id(export.attachment)
    return Block(
        "EXPORT",
        {
            "Export_Id": export.slot,
            "Path": path,
            "Pseudo": export.at,
            "Filesystem_Id": Word(f"{major}.{minor}"),
            "Access_Type": Word(export.access.value.upper()),
        },
        (Block("FSAL", {"Name": Word("VFS")}),),
    )


def _claim(export: Export) -> dict[str, str | int]:
    return {
        "attachment": export.attachment,
        "slot": export.slot,
        "source": export.source,
        "at": export.at,
        "access": export.access.value,
    }


def _text(value: Value) -> str:
    if isinstance(value, Word):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _quoted(value)


def _quoted(text: str) -> str:
    """A string in double quotes. The lexer has no escapes that would undo what a quote or a backslash may do there."""
    for character in text:
        if character in '"\\' or ord(character) < 0x20 or ord(character) == 0x7F:
            raise Invalid(f"cannot write {text[:80]!a} into a configuration: it holds U+{ord(character):04X}")
    return f'"{text}"'
