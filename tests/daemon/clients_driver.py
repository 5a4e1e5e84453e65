"""Runs in the clients' own environment: many commands of ``openstack`` in one interpreter, as starting one takes longer
than a command. One JSON document per line comes in (``argv`` or ``code``), one goes out."""

import contextlib
import io
import json
import sys
import traceback


def run(asked: dict) -> dict:  # type: ignore[type-arg]
    out, err = io.StringIO(), io.StringIO()
    code: object
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if "argv" in asked:
                from openstackclient.shell import OpenStackShell

                code = OpenStackShell().run(asked["argv"])
            else:
                names: dict[str, object] = {}
                exec(asked["code"], names)  # noqa: S102 - the test's own
                code, out = 0, io.StringIO(json.dumps(names.get("result"), default=str))
        except SystemExit as leaving:
            code = leaving.code
        except Exception:
            traceback.print_exc()
            code = 70
    return {"rc": code if isinstance(code, int) else 1 if code else 0, "out": out.getvalue(), "err": err.getvalue()}


for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), flush=True)
