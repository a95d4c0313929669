"""Addresses of servers, and who one is there.  Credentials are never part of an address: addresses are shown."""

from __future__ import annotations

import base64
import netrc
import os
import re
from urllib.parse import urlsplit

from fedse.errors import ConfigError

#: User and password in an address, or what may be meant as such: all up to the last "@".
_CREDENTIALS = re.compile(r"(?<=://)\S*@")
_MEND = (
    "write it as http://host:port; user and password belong in a .netrc file, or in an environment variable that the "
    "option auth_env names"
)


def without_credentials(text: str) -> str:
    """The text, with whatever may be a user and a password in its address replaced by an ellipsis."""
    return _CREDENTIALS.sub("…@", text)


def check_address(address: str) -> None:
    """Refuse what is no address of a server.

    Raises:
        ConfigError: if it is not ``http://host:port`` or ``https://…``, with a path or without, or holds credentials;
            these are not in the message.
    """
    if (hidden := without_credentials(address)) != address:
        raise ConfigError(f"{hidden!r} holds credentials, and addresses are shown", _MEND)
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and not parts.query and not parts.fragment
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"{address!r} is no address of a server", "write it as http://host:port")


def authorization(address: str, variable: str | None) -> str | None:
    """What to send a server as ``Authorization``; ``None`` if nothing is known for it.

    Args:
        address: of the server.
        variable: an environment variable with ``user:password``, or with a token; without one, the file that ``NETRC``
            names, or ``~/.netrc``, is asked for the server's host.

    Raises:
        ConfigError: if the variable is not set, what it holds cannot be sent, or the file is damaged.
    """
    if variable is not None:
        value = os.environ.get(variable, "").strip()
        if not value:
            raise ConfigError(f"the environment variable {variable!r} is not set", "auth_env names it")
        if ":" in value:
            return _basic(value)
        if not re.fullmatch(r"[!-~]+", value):
            raise ConfigError(f"the environment variable {variable!r} holds neither user:password nor a token")
        return f"Bearer {value}"
    found = _netrc_entry(urlsplit(address).hostname or "")
    return _basic(f"{found[0]}:{found[2]}") if found else None


def _netrc_entry(host: str) -> tuple[str, str, str] | None:
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")  # noqa: PTH111 (which has no home to fail on)
    try:
        # An entry `default` is for all hosts there are, which a server named in a configuration should not get.
        return netrc.netrc(path).hosts.get(host)
    except OSError:
        return None
    except (netrc.NetrcParseError, UnicodeDecodeError) as cause:
        line = getattr(cause, "lineno", None)
        raise ConfigError(f"{path} cannot be read" + (f": line {line}" if line else ""), "mend it") from None


def _basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()
