"""What NFS-Ganesha 4.3 says in its log about reading its exports again. It has no other way to tell (ADR 0005).

A line: ``22/11/2026 21:33:28 : epoch 6b035f19 : HOST : ganesha.nfsd-1[sigmgr] FUNCTION :COMPONENT :LEVEL :TEXT``.
``tests/unit/test_gateway_ganesha_log.py`` holds samples.
"""

from __future__ import annotations

# reread_config() in src/MainNFSD/nfs_init.c ends in one of these.
_ENDS = (
    ":Reread exports complete\n",
    ":Error while parsing EXPORT entries\n",
    ":Error while parsing new configuration",
)


def ended(text: str) -> bool:
    """Whether a reload has ended, well or badly, in this part of a log."""
    return any(end in text for end in _ENDS)


def reasons(text: str) -> list[str]:
    """The sentences of the critical lines, for a person."""
    lines = (line.split(" :", 6) for line in text.splitlines())
    return [
        fields[-1].lstrip(":")
        for fields in lines
        if len(fields) > 2 and fields[-2].strip(" :") in ("CRIT", "MAJ", "FATAL")
    ]
