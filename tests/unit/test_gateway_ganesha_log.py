"""What NFS-Ganesha's log says of a reload; the samples are of NFS-Ganesha 4.3 (Debian 12)."""

from __future__ import annotations

import pytest

from isthmus.gateway.ganesha_log import ended, reasons

HEAD = "22/11/2026 21:33:28 : epoch 6b035f19 : host : ganesha.nfsd-1[sigmgr] "

BEGUN = HEAD + ("sigmgr_thread :MAIN :EVENT :SIGHUP_HANDLER: Received SIGHUP.... initiating export list reload\n")
COMPLETE = HEAD + "reread_exports :CONFIG :EVENT :Reread exports complete\n"
BAD_BLOCK = HEAD + "reread_config :CONFIG :CRIT :Error while parsing EXPORT entries\n"
BAD_FILE = HEAD + "reread_config :CONFIG :CRIT :Error while parsing new configuration file /gateway/ganesha.conf\n"
REFUSED = (
    HEAD + "fsal_cfg_commit :CONFIG :CRIT :Could not create export for (/s4) to (/nonexist)\n" + HEAD
) + "mdcache_fsal_create_export :FSAL :MAJ :Failed to call create_export on underlying FSAL VFS\n"


@pytest.mark.parametrize("text", [BEGUN + COMPLETE, BEGUN + BAD_BLOCK, BEGUN + BAD_FILE, REFUSED + COMPLETE + REFUSED])
def test_it_has_ended(text: str) -> None:
    assert ended(text)


@pytest.mark.parametrize("text", ["", BEGUN, REFUSED, COMPLETE[:-1]])
def test_it_has_not_ended(text: str) -> None:
    assert not ended(text)


def test_reasons_are_what_is_critical() -> None:
    assert reasons(BEGUN + REFUSED + COMPLETE + "no line of its own\n") == [
        "Could not create export for (/s4) to (/nonexist)",
        "Failed to call create_export on underlying FSAL VFS",
    ]
