"""Who the user is, by the environment that OpenStack's tools read (OS_*)."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any

from isthmus.model.errors import Invalid, Unavailable

BASIC = "http_basic"
_TYPES = ("password", "token", "http_basic", "v3applicationcredential", "v3password", "v3token", "none")


def headers(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What says who asks: HTTP Basic for ``OS_AUTH_TYPE=http_basic``, else a token of Keystone's; nothing if the
    environment has no credentials. Raises ``Invalid``, ``Unavailable`` if Keystone does not answer."""
    env = dict(os.environ if environ is None else environ)
    kind = env.get("OS_AUTH_TYPE") or ("password" if env.get("OS_AUTH_URL") else "none")
    if kind == "none":
        return {}
    if kind not in _TYPES:
        raise Invalid(f"cannot use OS_AUTH_TYPE {kind!a}: choose from {', '.join(_TYPES)}", field="OS_AUTH_TYPE")
    from keystoneauth1 import exceptions, loading, session  # noqa: PLC0415 - heavy, and only for services elsewhere

    loader: Any = loading.get_plugin_loader(kind)
    known = {option.dest: option for option in loader.get_options()}
    values = {name: env[key] for name in known if (key := f"OS_{name.upper()}") in env}
    if kind == BASIC:
        values.setdefault("endpoint", "http://isthmus")
    try:
        plugin = loader.load_from_options(**values)
        found = plugin.get_headers(session.Session(verify=env.get("OS_CACERT") or True, timeout=30))
    except (exceptions.MissingRequiredOptions, exceptions.OptionError) as error:
        raise Invalid(f"cannot tell who you are: {error}", field="OS_AUTH_TYPE") from error
    except exceptions.ClientException as error:
        raise Unavailable(f"cannot get a token from Keystone at {env.get('OS_AUTH_URL', '')}: {error}") from error
    return dict(found or {})


def trust(environ: Mapping[str, str] | None = None) -> ssl.SSLContext:
    """What is believed of a service elsewhere: the certificates in the file OS_CACERT, else those of the machine.
    Raises ``Invalid``."""
    path = (os.environ if environ is None else environ).get("OS_CACERT") or None
    try:
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(f"cannot read the certificates in {path}: {error}", field="OS_CACERT") from error
