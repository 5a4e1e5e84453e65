"""Packet filters: one nftables table of ours in a network namespace.

``nft`` applies a ruleset in one transaction, so a table is there whole or not at all; its comment holds a digest of
the text. Observing asks the kernel itself for the comment and the number of rules (linux/netfilter/nf_tables.h):
some 50 microseconds, where running ``nft list`` takes 10 ms.
"""

from __future__ import annotations

import errno
import hashlib
import struct
from dataclasses import dataclass

from isthmus.host import netlink, netns
from isthmus.host.command import Command
from isthmus.model.errors import KernelRefused

TABLE = "isthmus"

_NETLINK_NETFILTER = 12
_NFNL_SUBSYS_NFTABLES = 10 << 8
_GETTABLE, _GETRULE = _NFNL_SUBSYS_NFTABLES | 1, _NFNL_SUBSYS_NFTABLES | 7
_NFPROTO_INET = 1
_NFGENMSG = struct.pack("=BBH", _NFPROTO_INET, 0, 0)
_TABLE_NAME, _TABLE_USERDATA, _RULE_TABLE = 1, 6, 1
_UDATA_COMMENT = 0


@dataclass(frozen=True, slots=True)
class Chain:
    """A base chain on ``hook`` (``input``, ``output``, ``forward``) that drops what no rule accepts."""

    hook: str
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Filter:
    """The whole table, of family inet. Rules are in the language of nft(8)."""

    chains: tuple[Chain, ...]

    @property
    def rules(self) -> int:
        """How many rules it has."""
        return sum(len(chain.rules) for chain in self.chains)

    @property
    def comment(self) -> str:
        """What the table's comment says of its content."""
        return "sha256:" + hashlib.sha256(self._body().encode()).hexdigest()[:32]

    def text(self) -> str:
        """A script that puts this table in the place of the one that may be there, in one transaction."""
        return (
            f"table inet {TABLE} {{}}\ndelete table inet {TABLE}\n"
            f'table inet {TABLE} {{\n comment "{self.comment}"\n{self._body()}}}\n'
        )

    def _body(self) -> str:
        lines = []
        for chain in self.chains:
            lines.append(f" chain {chain.hook} {{\n  type filter hook {chain.hook} priority filter; policy drop;\n")
            lines.extend(f"  {rule}\n" for rule in chain.rules)
            lines.append(" }\n")
        return "".join(lines)


@dataclass(frozen=True, slots=True)
class FilterSeen:
    """Our table as the kernel has it."""

    comment: str
    rules: int

    def is_(self, wanted: Filter) -> bool:
        """Whether it is the one that is wanted."""
        return self.comment == wanted.comment and self.rules == wanted.rules


async def apply_filter(namespace: str, wanted: Filter) -> None:
    """The namespace has exactly this table of ours. Raises ``CommandFailed`` with nft's words, nothing changed."""
    await Command.of(
        "nsenter", f"--net={netns.NETNS / namespace}", "nft", "-f", "-", stdin=wanted.text().encode()
    ).run()


def observe_filter() -> FilterSeen | None:
    """Our table in the calling thread's namespace; None if there is none."""
    with netlink.Netlink(_NETLINK_NETFILTER) as kernel:
        name = TABLE.encode() + b"\0"
        try:
            answers = kernel.ask("find our table", _GETTABLE, _NFGENMSG + netlink.attribute(_TABLE_NAME, name))
        except KernelRefused as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        rules = kernel.dump("list rules", _GETRULE, _NFGENMSG + netlink.attribute(_RULE_TABLE, name))
    found = netlink.attributes(answers[0][len(_NFGENMSG) :])
    return FilterSeen(_comment(found.get(_TABLE_USERDATA, b"")), len(rules))


def _comment(userdata: bytes) -> str:
    """The comment among a table's user data: type and length in a byte each, then the value (libnftnl, udata.h)."""
    offset = 0
    while offset + 2 <= len(userdata):
        kind, length = userdata[offset], userdata[offset + 1]
        if kind == _UDATA_COMMENT:
            return userdata[offset + 2 : offset + 2 + length].rstrip(b"\0").decode(errors="replace")
        offset += 2 + length
    return ""
