"""The text of NFS-Ganesha's configuration."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.gateway.ganesha_conf import Paths, claims, exports_text, filesystem_id, server_text
from isthmus.model.attachment import Access, Export
from isthmus.model.errors import Invalid
from isthmus.model.names import AttachmentId, parse_place

ATTACHMENT = AttachmentId("0f8fad5b-d9cb-469f-a165-70867728950e")
EXPORT = Export(ATTACHMENT, 7, "/run/isthmus/shares/s/data", "/data/models", Access.RO)
PATHS = {ATTACHMENT: f"/exports/{ATTACHMENT}"}

EXPORTS = """\
# Rewritten before each change; a server that starts anew comes back with the same exports.
# presents {"access": "ro", "at": "/data/models", "attachment": "0f8fad5b-d9cb-469f-a165-70867728950e", "slot": 7, \
"source": "/run/isthmus/shares/s/data"}
EXPORT {
  Export_Id = 7;
  Path = "/exports/0f8fad5b-d9cb-469f-a165-70867728950e";
  Pseudo = "/data/models";
  Filesystem_Id = 1121305442246149791.11629825335581250830;
  Access_Type = RO;
  FSAL {
    Name = VFS;
  }
}
"""

SERVER = """\
NFS_CORE_PARAM {
  Protocols = 4;
  NFS_Port = 2049;
  Bind_addr = ::;
  Enable_NLM = false;
  Enable_RQUOTA = false;
  Enable_UDP = false;
  Clustered = false;
  Plugins_Dir = "/plugins";
  DRC_Disabled = true;
  Enable_NFS_Stats = false;
  RPC_Ioq_ThrdMax = 8;
  RPC_Max_Connections = 64;
  RPC_Idle_Timeout_S = 0;
}
NFSV4 {
  Graceless = true;
  Lease_Lifetime = 30;
  Minor_Versions = 1, 2;
  Only_Numeric_Owners = true;
  Delegations = false;
  RecoveryBackend = fs;
  RecoveryRoot = "/recovery";
  Slot_Table_Size = 32;
  Max_Client_Ids = 64;
  Server_Scope = "isthmus-g";
  Server_Owner = "isthmus-g";
}
MDCACHE {
  NParts = 1;
  Cache_Size = 127;
  Entries_HWMark = 1000;
  Chunks_HWMark = 100;
  LRU_Run_Interval = 60;
}
NFS_KRB5 {
  Active_krb5 = false;
}
LOG {
  Default_Log_Level = FATAL;
  COMPONENTS {
    CONFIG = EVENT;
    INIT = CRIT;
    EXPORT = CRIT;
    FSAL = CRIT;
  }
}
EXPORT_DEFAULTS {
  Access_Type = NONE;
  Protocols = 4;
  Transports = TCP;
  SecType = sys;
  Squash = No_Root_Squash;
  Attr_Expiration_Time = 0;
}
%include "/exports.conf"
"""


def test_the_server() -> None:
    assert server_text("isthmus-g", Paths("/exports.conf", "/recovery", "/plugins")) == SERVER


def test_an_export() -> None:
    assert exports_text([EXPORT], PATHS) == EXPORTS


def test_exports_are_in_the_order_of_their_slots() -> None:
    other = replace(EXPORT, attachment=AttachmentId("7c9e6679-7425-40de-944b-e07fc1f90ae7"), slot=3)
    text = exports_text([EXPORT, other], {**PATHS, other.attachment: "/exports/other"})
    assert [line for line in text.splitlines() if "Export_Id" in line] == ["  Export_Id = 3;", "  Export_Id = 7;"]


@given(st.text(max_size=60))
def test_every_place_of_the_model_is_written_and_read_back(name: str) -> None:
    try:
        place = parse_place("/" + name)
    except Invalid:
        return
    export = replace(EXPORT, at=place, source=f"/srv/{name}")
    text = exports_text([export], PATHS)
    assert f'  Pseudo = "{place}";\n' in text
    assert claims(text) == {ATTACHMENT: export}


@pytest.mark.parametrize("place", ['/a"; Squash = None; #', "/a\\", "/a\nEXPORT {", "/a\x00", "/a\x7f", '/"'])
def test_what_would_break_out_of_its_quotes_is_refused(place: str) -> None:
    with pytest.raises(Invalid, match="cannot write"):
        exports_text([replace(EXPORT, at=place)], PATHS)


@pytest.mark.parametrize("line", ["# presents nothing", "# presents {}", '# presents {"access": "x"}', "# presents []"])
def test_a_foreign_exports_file_is_refused(line: str) -> None:
    with pytest.raises(Invalid, match="no claim of ours"):
        claims(line + "\n")


def test_a_file_system_id_is_the_attachments_uuid() -> None:
    major, minor = filesystem_id(ATTACHMENT)
    assert f"{major:016x}{minor:016x}" == ATTACHMENT.replace("-", "")
