"""Nothing of a site's data leaves its process, neither over the wire nor by the disk, whoever runs the processes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

pytest.importorskip("flwr")

from flwr.proto.message_pb2 import PushObjectRequest
from typer.testing import CliRunner
from zstandard import MAGIC_NUMBER, ZstdDecompressor

from fedse.adapters.codec import unpack
from fedse.cli.main import app
from fedse.config import RunConfig
from fedse.deployment.local import SERVER, LocalFederation, Side
from fedse.deployment.server import server_status
from fedse.experience.agenttraj import write_agenttraj
from fedse.rollout.scripted import demonstrate
from fedse.runs.records import read_records
from fedse.types import FloatArray, RoundRecord
from helpers import toy_environment
from helpers.canaries import found_in, names_and_bytes, seen_at
from helpers.example_package import install_points
from helpers.other_users import FIRST, as_user, give, may_be_others
from helpers.subprocesses import HELPERS
from helpers.toy_environment import CANARIES, Whispering
from helpers.toy_runs import toy_client, toy_config

pytestmark = pytest.mark.long

SECONDS = 300.0
MAGIC = b"FEDSE\0"
#: Site → how often its environment fails.
SITES = {"alpha": "never", "beta": "sometimes", "gamma": "always"}
_PLACES = ("said", "path", "user")
#: What only one site has: in its options and so in all that its environment says, in names of files, in its variables.
SECRETS = {
    site: {what: what + hashlib.sha256((site + what).encode()).hexdigest()[:20] for what in _PLACES} for site in SITES
}
ALL_CANARIES = [*CANARIES.values(), *(text for secrets in SECRETS.values() for text in secrets.values())]


def proposed() -> RunConfig:
    """The run as the server has it."""
    return toy_config(
        *(toy_client(site, environment="whispering") for site in SITES), rollout={"slots": 4, "max_context": 1024}
    )


def settle(side: Side, broken: str) -> None:
    """Make a site what its operator makes it: with an environment, demonstrations and names that are its own."""
    secret = SECRETS[side.name]
    packages = side.folder / "packages"
    packages.mkdir()
    shutil.copy(toy_environment.__file__, packages / "whispering_environment.py")
    shutil.copy(HELPERS / "capturing.py", packages / "sitecustomize.py")
    install_points(packages, "whispering", {"whispering": "whispering_environment:Whispering"})
    (side.folder / "captured").mkdir()
    options = {"secret": secret["said"], "broken": broken}
    own: dict[str, Any] = {"name": side.name, "environment": "whispering", "options": options}
    if broken == "always":
        own["demonstrations"] = 0
    else:
        shown = side.folder / secret["path"] / f"{CANARIES['file']}.json"
        shown.parent.mkdir()
        environment = Whispering(secret=secret["said"])
        sound = [task for task in environment.tasks("train") if int(task.id.rpartition("-")[2]) % 2]
        write_agenttraj(shown, demonstrate(environment, sound, 3, instruction="Rules.", seed=3))
        own["demonstrations_file"] = str(shown.relative_to(side.folder))
    file = yaml.safe_load(side.config.read_text())
    side.config.write_text(yaml.safe_dump(file | {"environments": [own], "folder": f"data-{secret['path']}"}))


@dataclass
class Played:
    """A federation that has done its rounds; its folders are still there."""

    federation: LocalFederation
    records: tuple[RoundRecord, ...]
    statuses: list[str] = field(default_factory=list)

    def folder(self, name: str) -> Path:
        return self.federation.sides[name].folder

    def sent(self, site: str) -> list[bytes]:
        """What a site's process gave to TLS, by connection."""
        return [path.read_bytes() for path in sorted((self.folder(site) / "captured").glob("sent-*"))]

    def messages(self, site: str) -> list[bytes]:
        """The replies that a site sent."""
        bodies = [body for stream in self.sent(site) for path, body in requests(stream) if path.endswith("push-object")]
        contents = [PushObjectRequest.FromString(body).object_content for body in bodies]
        return [content[content.index(MAGIC) :] for content in contents if MAGIC in content]

    def own_data(self, site: str) -> Path:
        return self.folder(site) / f"data-{SECRETS[site]['path']}"

    def adapters(self) -> dict[str, str]:
        folders = {SERVER: self.folder(SERVER) / "run"} | {site: self.own_data(site) for site in SITES}
        return {
            f"{name}/{path.parent.parent.name}/{path.parent.name}/{path.name}": hashlib.sha256(
                path.read_bytes()
            ).hexdigest()
            for name, folder in folders.items()
            for path in folder.rglob("*.safetensors")
        }


def requests(stream: bytes) -> Iterator[tuple[str, bytes]]:
    """(path, body) of the HTTP requests in what went over one connection."""
    while stream:
        head, _, rest = stream.partition(b"\r\n\r\n")
        first, *headers = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in headers)}
        length = int(fields["content-length"])
        yield first.split()[1], rest[:length]
        stream = rest[length:]


@contextmanager
def played(users: dict[str, int]) -> Iterator[Played]:
    """Rounds of processes that belong to these users; to this process's user, if none are given."""
    with LocalFederation(proposed()) as federation:
        server = federation.sides[SERVER]
        for name, side in federation.sides.items():
            if name != SERVER:
                settle(side, SITES[name])
            else:
                (side.folder / "own").mkdir()
            if users:
                give(side.folder, users[name])
                # A service's user may have no home folder, or one that is not there.
                home = {"alpha": "HOME=/nonexistent", "beta": "--unset=HOME"}.get(name, "HOME=/")
                side.within = ("env", home, *as_user(users[name]))
        result = Played(federation, ())

        def look() -> None:
            result.statuses.append(repr(server_status(federation.server_file)))

        for site in SITES:
            own = federation.sides[site].folder
            path = os.pathsep.join([str(own / "packages"), *filter(None, [os.environ.get("PYTHONPATH")])])
            user = SECRETS[site]["user"]
            variables = {"PYTHONPATH": path, "CAPTURED": str(own / "captured"), "USER": user, "LOGNAME": user}
            if users:
                variables["FEDSE_CACHE"] = str(own / "cache")
            federation.start(site, **variables)
        # All that it may leave anywhere is in its folder.
        own = server.folder / "own"
        federation.start(SERVER, FEDSE_CACHE=str(own), TMPDIR=str(own), **({} if users else {"HOME": str(own)}))
        check_users(federation, users)
        federation.wait(SECONDS, watch=look)
        federation.stop_all()
        shown = CliRunner(env={"COLUMNS": "1000"}).invoke(app, ["server", "status", "--config", str(server.config)])
        assert shown.exit_code == 0, shown.output
        result.statuses.append(shown.output)
        result.records = read_records(federation.server_folder)
        yield result


def check_users(federation: LocalFederation, users: dict[str, int]) -> None:
    """The processes belong to whom they should, and none can look at another side."""
    for name, number in users.items():
        process = federation.sides[name].process
        assert process is not None
        assert becomes(process.pid, number)
        for other, side in federation.sides.items():
            for command in (["ls", str(side.folder)], ["cat", str(side.config)], ["cat", str(key_of(side))]):
                done = subprocess.run([*as_user(number), *command], capture_output=True, cwd="/", check=False)
                assert (done.returncode == 0) == (other == name), (name, command, done)


def becomes(process: int, number: int) -> bool:
    """Whether a process that begins as this one's user is soon another's."""
    ends = time.monotonic() + 10
    while psutil.Process(process).uids() != (number, number, number):
        if time.monotonic() > ends:
            return False
        time.sleep(0.05)
    return True


def key_of(side: Side) -> Path:
    return side.folder / ("server.key" if side.name == SERVER else "site.key")


@pytest.fixture(scope="module")
def here() -> Iterator[Played]:
    with played({}) as result:
        yield result


@pytest.fixture(scope="module")
def apart() -> Iterator[Played]:
    """Every side is a user of its own."""
    if not may_be_others():
        pytest.skip("only root can be other users")
    with played({name: FIRST + index for index, name in enumerate([SERVER, *SITES])}) as result:
        yield result


@pytest.fixture(params=["here", "apart"])
def done(request: pytest.FixtureRequest) -> Played:
    result: Played = request.getfixturevalue(request.param)
    return result


def test_the_sites_had_canaries_and_took_part(done: Played) -> None:
    assert [record.round for record in done.records] == [0, 1, 2]
    for record in done.records[1:]:
        outcomes = {site: told["outcome"] for site, told in record.clients.items()}
        assert outcomes == {"alpha": "ok", "beta": "ok", "gamma": "refused: EnvironmentFault"}
        assert record.clients["beta"]["explore"]["errors"] > 0
    for site in ("alpha", "beta"):
        texts = seen_at(done.own_data(site))
        expected = [CANARIES[where] for where in ("task", "instruction", "observation", "thought", "action")]
        for canary in (*expected, SECRETS[site]["said"]):
            assert any(canary in text for text in texts)
    assert any(CANARIES["fault"] in text for text in seen_at(done.own_data("beta")))
    assert CANARIES["fault"] in (done.own_data("gamma") / "errors.log").read_text()
    assert CANARIES["fault"] not in done.federation.sides["gamma"].log.read_text(), "others may read logs"


def plain(array: FloatArray | bytes) -> bytes:
    """The bytes of an array; of one that is compressed, also what is in it."""
    if not isinstance(array, bytes):
        return array.tobytes()
    frames = array.split(MAGIC_NUMBER.to_bytes(4, "little"))[1:]
    assert frames
    inside = [ZstdDecompressor().decompressobj().decompress(MAGIC_NUMBER.to_bytes(4, "little") + one) for one in frames]
    return array + b"".join(inside)


@pytest.mark.parametrize("site", SITES)
def test_what_a_site_sends_has_none(site: str, done: Played) -> None:
    sent, messages = b"\n".join(done.sent(site)), done.messages(site)
    stored = sorted((done.folder(SERVER) / "run").rglob(f"replies/{site}"))
    assert len(stored) == 2
    assert all(path.read_bytes() in sent for path in stored), "all that the server got was captured"
    assert len(messages) > 4
    contents = [sent]
    for message in messages:
        body, arrays = unpack(message)
        contents += [repr(body).encode(), *(name.encode() + plain(array) for name, array in arrays.items())]
    assert found_in(b"\n".join(contents), ALL_CANARIES) == []
    texts = [text.encode() for text in seen_at(done.own_data(site)) if len(text) >= 8]
    assert not [text for text in texts if any(text in content for content in contents)]


@pytest.mark.parametrize("site", SITES)
def test_a_site_connects_to_the_server_only(site: str, done: Played) -> None:
    connections = (done.folder(site) / "captured" / "connections").read_text().splitlines()
    assert set(connections) == {repr(("127.0.0.1", done.federation.port))}


def test_the_server_has_none_in_files_log_and_status(done: Played) -> None:
    content = names_and_bytes(done.folder(SERVER))
    for name in ("config.yaml", "versions.json", "metrics.jsonl", "log", "server.yaml"):
        assert name.encode() in content
    assert any("alpha" in status for status in done.statuses)
    shown = "\n".join(done.statuses).encode()
    assert found_in(content + shown, ALL_CANARIES) == []
    texts = [text.encode() for site in SITES for text in seen_at(done.own_data(site)) if len(text) >= 8]
    assert not [text for text in texts if text in content or text in shown]


def test_no_site_has_those_of_another(done: Played) -> None:
    for site in SITES:
        others = [text for other in SITES if other != site for text in SECRETS[other].values()]
        assert found_in(names_and_bytes(done.folder(site)), others) == []


def test_the_adapters_are_the_same_whoever_runs_the_processes(here: Played, apart: Played) -> None:
    found = here.adapters()
    trained = {name.partition("/")[0] for name in found if "/received/" not in name}
    assert trained == {SERVER, "alpha", "beta"}, "gamma's environment always fails"
    assert apart.adapters() == found
