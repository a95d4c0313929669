"""Seconds to send 10 MB to each of five sites and 10 MB back, over TLS on loopback, with Flower's protocol.

    python benchmarks/link.py [--sites 5] [--megabytes 10] [--same]

Each site is a process of its own, which sends what it got back in reverse.  The wall clock, and the processor time of
the server's process and of the sites' processes, are given for each exchange.
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from fedse.federation.runtimes.flower.link import link
from fedse.federation.runtimes.flower.node import serve

#: The same exchange through Flower's own programs (flower-superlink with TLS, in memory; five flower-supernode; a
#: ServerApp and a ClientApp that reverses the bytes of one array): seconds of the wall clock, measured earlier on a
#: busy two-core machine and not in this run.  This script gave 1.1 to 1.8 s there right after.
FLOWERS_OWN = "10.3 to 14.8"
EXCHANGES = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=10)
    parser.add_argument("--same", action="store_true", help="send the same bytes to all sites")
    arguments = parser.parse_args()
    names = [f"site-{number}" for number in range(arguments.sites)]
    size = arguments.megabytes * 1_000_000
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with link(
            ("127.0.0.1", 0),
            certificate=folder / "server.pem",
            private_key=make_key(folder, "server", certify=True)[0],
            sites={name: make_key(folder, name)[1] for name in names},
            limit=2 * size,
            told=print,
        ) as runtime:
            spawn = multiprocessing.get_context("spawn")
            sites = [spawn.Process(target=site, args=(folder, name, runtime.port), daemon=True) for name in names]
            for process in sites:
                process.start()
            list(runtime.ask([(name, b"") for name in names]))  # all are there
            walls = []
            for _ in range(EXCHANGES):
                same = os.urandom(size)
                sent = [(name, same if arguments.same else os.urandom(size)) for name in names]
                before, begin, processor = processor_seconds(sites), time.perf_counter(), time.process_time()
                replies = dict(runtime.ask(sent))
                walls.append(time.perf_counter() - begin)
                ours, theirs = time.process_time() - processor, processor_seconds(sites) - before
                assert all(replies[index] == data[::-1] for index, (_, data) in enumerate(sent))
                print(f"{walls[-1]:.2f} s; processor: server {ours:.2f} s, sites {theirs:.2f} s")
            for process in sites:
                process.kill()
    print(f"median {statistics.median(walls):.2f} s; Flower's own programs, measured earlier: {FLOWERS_OWN} s")


def site(folder: Path, name: str, port: int) -> None:
    """A site's process."""
    serve(
        f"127.0.0.1:{port}",
        authority=folder / "server.pem",
        private_key=folder / f"{name}.key",
        answer=lambda data: data[::-1],
        stop=threading.Event(),
        told=print,
        limit=10**9,
    )


def processor_seconds(processes: list[multiprocessing.context.SpawnProcess]) -> float:
    """Processor time that the processes have used."""
    return sum(sum(psutil.Process(process.pid).cpu_times()[:2]) for process in processes)


def make_key(folder: Path, name: str, *, certify: bool = False) -> tuple[Path, bytes]:
    """Make a key, and a certificate that vouches for itself; returns the key's file and the public key."""
    key = ec.generate_private_key(ec.SECP384R1())
    file = folder / f"{name}.key"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    if certify:
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .sign(key, hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    return file, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


if __name__ == "__main__":
    main()
