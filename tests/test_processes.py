"""What the processes of a run do to themselves."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")

_CYCLES = """
import resource
from fedse.processes import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def use():
    blocks = [bytearray(20 << 20) for _ in range(4)]

{prepare}
use(); use()
before = faults()
for _ in range(8):
    use()
print(faults() - before)
"""


def printed(code: str) -> int:
    """The number that a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return int(done.stdout)


def page_faults(prepare: str) -> int:
    return printed(_CYCLES.replace("{prepare}", prepare))


@glibc
def test_freed_memory_is_used_again_without_asking_the_system() -> None:
    pages_of_one_use = 80 * 2**20 // 4096
    assert page_faults("assert keep_freed_memory()") < pages_of_one_use
    assert page_faults("") > 4 * pages_of_one_use, "kept anyway: the test would show nothing"


_PLAYED = """
import fedse.processes
from fedse.rollout.player import Play, Rules
from fedse.rollout.together import Wanted, alone

def resident():
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmRSS")]
    return int(line.split()[1]) << 10

class Player:
    def play(self, adapter, plays):
        blocks = [bytearray(20 << 20) for _ in range(10)]
        return [[] for _ in plays]

async def work():
    await Wanted(None, Play(Rules(None, "", greedy=True), []))

fedse.processes._KEPT = {kept}
assert fedse.processes.keep_freed_memory()
before = resident()
alone(Player(), work())
print(resident() - before)
"""


def kept_by_playing(allowed: int) -> int:
    """Bytes that a process holds after a play that used 200 MiB for a while."""
    return printed(_PLAYED.replace("{kept}", str(allowed)))


@glibc
def test_after_a_play_no_more_is_kept_than_allowed() -> None:
    assert kept_by_playing(10 << 20) < 20 << 20
    assert kept_by_playing(1 << 30) > 150 << 20, "given back anyway: the test would show nothing"
