import errno
import json
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedse.errors import ConfigError, StorageError
from fedse.storage import atomic_directory, atomic_write, cache_folder, read_json, recover, storage_errors, write_json


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_writes_bytes_and_text_and_makes_the_folders_on_the_way(tmp_path):
    atomic_write(tmp_path / "a" / "b" / "text", "größer\n")
    atomic_write(tmp_path / "a" / "bytes", b"\x00\xff")
    assert (tmp_path / "a/b/text").read_bytes() == "größer\n".encode()
    assert (tmp_path / "a/bytes").read_bytes() == b"\x00\xff"
    assert names(tmp_path / "a/b") == ["text"]


def test_replaces_a_file_and_keeps_to_the_umask(tmp_path):
    target = tmp_path / "file"
    old = os.umask(0o027)
    try:
        atomic_write(target, "old")
        atomic_write(target, "new")
    finally:
        os.umask(old)
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failing_flush_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, number):
    target = tmp_path / "file"
    atomic_write(target, "old")

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError) as caught:
        atomic_write(target, "new")
    assert str(target) in caught.value.what
    assert os.strerror(number) in caught.value.what
    assert caught.value.mend
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_the_file_size_limit_of_the_process_is_a_storage_error(tmp_path):
    """The kernel really refuses the write here, halfway through the content."""
    target = tmp_path / "file"
    atomic_write(target, "old")
    code = """
        import resource, sys
        from pathlib import Path
        from fedse.errors import StorageError
        from fedse.storage import atomic_write
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        try:
            atomic_write(Path(sys.argv[1]), b"x" * 100_000)
        except StorageError as error:
            print(error)
    """
    output, errors = python(code, str(target)).communicate(timeout=60)
    assert str(target) in output, errors
    assert "ulimit -f" in output
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_full_disk_is_a_storage_error_and_what_was_there_is_intact(tmp_path):
    code = """
        import sys
        from pathlib import Path
        from fedse.errors import StorageError
        from fedse.storage import atomic_directory, atomic_write
        disk = Path(sys.argv[1])
        atomic_write(disk / "file", "old")
        try:
            atomic_write(disk / "file", b"x" * 1_000_000)
        except StorageError as error:
            print(error)
        try:
            with atomic_directory(disk / "folder") as folder:
                (folder / "big").write_bytes(b"x" * 1_000_000)
        except StorageError as error:
            print(error)
        print((disk / "file").read_text(), sorted(entry.name for entry in disk.iterdir()))
    """
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, to mount a small disk of its own")
    mount = f"mount -t tmpfs -o size=256k tmpfs {tmp_path}"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*command, mount], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk is not permitted here")
    run = subprocess.run(
        [*command, f'{mount} && exec "$0" -c "$1" "$2"', sys.executable, textwrap.dedent(code), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.count("No space left on device") == 2
    assert run.stdout.count("free some space") == 2
    assert run.stdout.endswith("old ['file']\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match=r"file: Permission denied[\s\S]*ls -ld"):
            atomic_write(tmp_path / "file", "x")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_that_may_not_be_read_asks_for_permission_to_read():
    with pytest.raises(StorageError) as caught, storage_errors("read", Path("secret")):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    assert "read permission" in caught.value.mend
    assert "write" not in caught.value.mend


@pytest.mark.parametrize("path", [".", "folder", ".."])
def test_a_folder_in_the_place_of_a_file_is_named(tmp_path, monkeypatch, path):
    (tmp_path / "here" / "folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(StorageError) as caught:
        atomic_write(Path(path), "x")
    assert f"cannot write {path}" in caught.value.what
    assert "name a file" in caught.value.mend
    assert names(tmp_path / "here") == ["folder"]


def test_the_current_folder_is_replaced_like_any_other(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with atomic_directory(Path()) as folder:
        (folder / "file").write_text("x")
    assert names(tmp_path) == ["here"]
    assert names(tmp_path / "here") == ["file"]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="file/inside"):
        atomic_write(tmp_path / "file" / "inside", "x")
    with pytest.raises(StorageError, match="file: File exists"), atomic_directory(tmp_path / "file"):
        pass
    assert names(tmp_path) == ["file"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder: Is a directory"):
        atomic_write(tmp_path / "folder", "x")
    assert names(tmp_path) == ["file", "folder"]


def test_a_directory_appears_whole_when_the_block_ends(tmp_path):
    target = tmp_path / "made" / "folder"
    with atomic_directory(target) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
        assert not target.exists()
    assert (target / "deep" / "file").read_text() == "x"
    assert names(tmp_path / "made") == ["folder"]


def test_a_directory_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "folder"
    for name in ("old", "new"):
        with atomic_directory(target) as folder:
            (folder / name).write_text(name)
    assert names(target) == ["new"]
    assert names(tmp_path) == ["folder"]


@pytest.mark.parametrize("fault", [ValueError("a fault of the caller"), KeyboardInterrupt()])
def test_an_exception_in_the_block_passes_and_leaves_the_old_directory(tmp_path, fault):
    target = tmp_path / "folder"
    with atomic_directory(target) as folder:
        (folder / "old").write_text("old")

    def fill() -> None:
        with atomic_directory(target) as folder:
            (folder / "new").write_text("new")
            raise fault

    with pytest.raises(type(fault)):
        fill()
    assert names(target) == ["old"]
    assert names(tmp_path) == ["folder"]


def test_a_failing_flush_leaves_the_old_directory(tmp_path, monkeypatch):
    target = tmp_path / "folder"
    with atomic_directory(target) as folder:
        (folder / "file").write_text("old")

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="folder: No space left"), atomic_directory(target) as folder:
        (folder / "file").write_text("new")
    assert (target / "file").read_text() == "old"
    assert names(tmp_path) == ["folder"]


def test_a_failing_second_rename_puts_the_old_directory_back(tmp_path, monkeypatch):
    target = tmp_path / "folder"
    with atomic_directory(target) as folder:
        (folder / "file").write_text("old")
    rename = Path.rename

    def fail_for_the_new_one(self: Path, other: Path) -> Path:
        if self.suffix == ".tmp":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(StorageError), atomic_directory(target) as folder:
        (folder / "file").write_text("new")
    assert (target / "file").read_text() == "old"
    assert names(tmp_path) == ["folder"]


def test_recover_removes_leftovers_and_puts_a_stepped_aside_directory_back(tmp_path):
    write_json(tmp_path / "kept.json", {})
    (tmp_path / ".file.0123456789ab.tmp").write_text("half")
    (tmp_path / ".folder.0123456789ab.tmp").mkdir()
    (tmp_path / ".gone.0123456789ab.old").mkdir()
    (tmp_path / ".gone.0123456789ab.old" / "file").write_text("old")
    (tmp_path / "there").mkdir()
    (tmp_path / ".there.0123456789ab.old").mkdir()
    (tmp_path / ".hidden.tmp").write_text("somebody else's")
    recover(tmp_path)
    assert names(tmp_path) == [".hidden.tmp", "gone", "kept.json", "there"]
    assert (tmp_path / "gone" / "file").read_text() == "old"


def test_recover_of_one_name_leaves_what_others_write(tmp_path):
    (tmp_path / ".mine.0123456789ab.tmp").mkdir()
    (tmp_path / ".others.0123456789ab.tmp").mkdir()
    recover(tmp_path, "mine")
    assert names(tmp_path) == [".others.0123456789ab.tmp"]


def test_a_killed_writer_leaves_only_whole_files_and_directories(tmp_path):
    code = """
        import sys
        from pathlib import Path
        from fedse.storage import atomic_directory, atomic_write
        place = Path(sys.argv[1])
        print("ready", flush=True)
        for number in range(10**9):
            atomic_write(place / "file", f"{number} ".encode() * 20_000)
            with atomic_directory(place / "folder") as folder:
                for part in "ab":
                    (folder / part).write_bytes(f"{number} ".encode() * 5_000)
    """
    delays = random.Random(0)
    for _ in range(6):
        writer = python(code, str(tmp_path))
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 0.05 + delays.random() * 0.1
        while time.monotonic() < deadline:
            if (tmp_path / "file").exists():
                assert len(set((tmp_path / "file").read_bytes().split())) == 1
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        recover(tmp_path)
        assert set(names(tmp_path)) <= {"file", "folder"}
        if (tmp_path / "file").exists():
            words = (tmp_path / "file").read_bytes().split()
            assert len(words) == 20_000
            assert len(set(words)) == 1
        if (tmp_path / "folder").exists():
            assert names(tmp_path / "folder") == ["a", "b"]
            assert (tmp_path / "folder/a").read_bytes() == (tmp_path / "folder/b").read_bytes()
    assert names(tmp_path) == ["file", "folder"]


def test_json_round_trip(tmp_path):
    value = {"schema_version": 1, "text": "größer", "list": [1, 2.5, None, True]}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value
    assert read_json(tmp_path / "value.json", schema_version=1) == value
    assert "größer" in (tmp_path / "value.json").read_text()


def test_what_json_cannot_express_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "value.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "value.json", {"object": object()})
    assert read_json(tmp_path / "value.json") == 1
    assert names(tmp_path) == ["value.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\xff", b"{'a': 1}"])
def test_a_damaged_json_file_is_named(tmp_path, content):
    path = tmp_path / "value.json"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"value\.json is not valid JSON"):
        read_json(path)


def test_a_missing_json_file_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"cannot read .*value\.json: No such file"):
        read_json(tmp_path / "value.json")


def test_a_newer_schema_is_refused_and_an_older_one_read(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"schema_version": 3})
    with pytest.raises(StorageError, match=r"newer fedse \(schema 3; this one reads up to 2\)[\s\S]*upgrade"):
        read_json(path, schema_version=2)
    assert read_json(path, schema_version=4) == {"schema_version": 3}


@pytest.mark.parametrize("value", [[], {}, {"schema_version": "1"}, {"schema_version": True}])
def test_a_foreign_json_file_is_refused_where_a_schema_is_expected(tmp_path, value):
    path = tmp_path / "value.json"
    path.write_text(json.dumps(value))
    with pytest.raises(StorageError, match="has no schema_version"):
        read_json(path, schema_version=1)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch, tmp_path):
    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "FEDSE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="set FEDSE_CACHE"):
        cache_folder()
    monkeypatch.setenv("FEDSE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


def test_a_device_is_written_into_and_stays_one(tmp_path):
    device = tmp_path / "device"
    try:
        os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))  # the numbers of the null device
        device.open("wb").close()
    except OSError:
        pytest.skip("only root makes devices, and not everywhere")
    before = device.stat()
    atomic_write(device, "text")
    (tmp_path / "link").symlink_to(device)
    write_json(tmp_path / "link", {"a": 1})
    assert (device.stat().st_rdev, device.stat().st_ino) == (before.st_rdev, before.st_ino)
    assert stat.S_ISCHR(device.stat().st_mode)
    assert names(tmp_path) == ["device", "link"]


def test_a_pipe_is_written_into(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reading:
        read = reading.submit(pipe.read_bytes)
        atomic_write(pipe, "größer")
        assert read.result(timeout=30).decode() == "größer"
    assert names(tmp_path) == ["pipe"]


def test_the_standard_output_can_be_named_as_a_file(tmp_path):
    writing = python("""
        from pathlib import Path
        from fedse.storage import atomic_write
        atomic_write(Path("/dev/stdout"), "told")
    """)
    assert writing.communicate(timeout=60) == ("told", "")


def test_what_takes_no_bytes_is_named_and_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(StorageError, match="cannot write socket"):
            atomic_write(Path("socket"), "text")
    assert names(tmp_path) == ["socket"]


@pytest.mark.parametrize("there", [True, False])
def test_links_to_a_file_are_followed(tmp_path, there):
    (tmp_path / "far").mkdir()
    if there:
        (tmp_path / "far/file").write_text("old")
    (tmp_path / "second").symlink_to("far/file")
    (tmp_path / "first").symlink_to("second")
    atomic_write(tmp_path / "first", "new")
    assert (tmp_path / "first").is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert (tmp_path / "far/file").read_text() == "new"
    assert names(tmp_path) == ["far", "first", "second"]
    assert names(tmp_path / "far") == ["file"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_a_folder_is_followed(tmp_path, there):
    (tmp_path / "far").mkdir()
    if there:
        (tmp_path / "far/folder").mkdir()
        (tmp_path / "far/folder/old").touch()
    (tmp_path / "link").symlink_to("far/folder")
    with atomic_directory(tmp_path / "link") as made:
        (made / "new").touch()
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "far/folder") == ["new"]
    assert names(tmp_path) == ["far", "link"]
    assert names(tmp_path / "far") == ["folder"]


def test_links_in_a_circle_are_an_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for write in (lambda: atomic_write(tmp_path / "a", ""), lambda: atomic_directory(tmp_path / "a").__enter__()):
        with pytest.raises(StorageError, match=r"cannot write .*a: "):
            write()
    assert names(tmp_path) == ["a", "b"]
