"""Sites on machines of their own, and simulated ones, joined by Flower.  No other module imports it.

**Sites of their own.**  :mod:`.link` runs the part of Flower's SuperLink that sites need, its Fleet API, inside the
server's process.  There is no control interface: nobody can submit code, neither from outside nor with a site's key.
:mod:`.node` is a Flower node inside the site's process.  It runs no code that comes over the wire.  Both keep to
Flower's protocol (its messages, its signatures with the node's key, its objects pushed and pulled in chunks), and add
what a federation over days needs: a site's request for work is held until there is some; an instruction is handed out
again until its reply is complete, so that a site or a server may be killed at any time; a reply is bounded before its
bytes are taken in; and a site signs with the server's clock, whatever its own says.

**Simulation.**  :mod:`.simulation` runs Flower's simulation engine on this machine.

Instructions and replies are bytes here: one packed array in each message.
"""

from __future__ import annotations

import logging
import os
from importlib import import_module
from importlib.util import find_spec

from fedse.errors import ConfigError
from fedse.storage import cache_folder

# Flower reads these when it is imported.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
if "FLWR_HOME" not in os.environ:
    os.environ["FLWR_HOME"] = str(cache_folder() / "flower")

if find_spec("flwr") is None:
    raise ConfigError("this needs Flower, which is not installed", 'pip install "fedse[flower]"')

# Flower's log would name keys, and its debug messages whole requests.  What matters is told to the caller.
import_module("flwr.supercore.logger")  # it opens the log, so it comes before what closes it
logging.getLogger("flwr").handlers = [logging.NullHandler()]
logging.getLogger("flwr").propagate = False
logging.getLogger("flwr").setLevel(logging.CRITICAL)
# These would write a line for each request.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)
