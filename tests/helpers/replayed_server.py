"""A server alone: python replayed_server.py CONFIG SERVER_FOLDER RECORD.

RECORD is a JSON list of [site, instruction, reply], the latter two in base64.  Goes on with the run in the server's
folder, and prints as JSON which modules were imported, and which files and folders were opened.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

opened: list[str] = []


def watch(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str | bytes):
        opened.append(str(arguments[0]))


def main(file: Path, folder: Path, record: Path) -> None:
    from fedse.federation.server import Server
    from fedse.progress import silent
    from fedse.runs.folder import open_server
    from fedse.runs.layout import ServerFolder
    from fedse.settings import load_config
    from helpers.runtimes import Replayed

    sent = [
        (site, base64.b64decode(instruction), base64.b64decode(reply))
        for site, instruction, reply in json.loads(record.read_text())
    ]
    config, server = load_config(None, file, []), ServerFolder(folder)
    sys.addaudithook(watch)
    with open_server(config, server, resume=True, software=lambda: {"source": "alone"}):
        Server(config, server, Replayed(sent), listener=silent).run()
    print(json.dumps({"modules": sorted(sys.modules), "opened": sorted(set(opened))}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
