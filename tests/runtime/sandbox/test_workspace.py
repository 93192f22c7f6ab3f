"""The workspace: files beneath one folder, and every way to be led out of it."""

import ctypes
import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from agentfactory.runtime.sandbox import workspace as module
from agentfactory.runtime.sandbox.errors import AccessRefused
from agentfactory.runtime.sandbox.workspace import Workspace, WorkspaceEntry


@pytest.fixture(params=["openat2", "walk"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """As on this kernel, and as on one that has no openat2."""
    if request.param == "walk":

        def missing(root: int, path: str, flags: int) -> int:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr(module, "_openat2", missing)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    return Workspace(tmp_path / "root")


def test_what_is_written_is_read_and_listed(workspace: Workspace) -> None:
    workspace.write_bytes("a/b/c.txt", b"one")
    workspace.write_bytes("a/b/c.txt", b"two")
    workspace.write_bytes("d.txt", b"")
    assert workspace.read_bytes("a/b/c.txt") == b"two"
    assert workspace.read_bytes("./a//b/./c.txt") == b"two"
    assert workspace.list() == (WorkspaceEntry("a", True, 0), WorkspaceEntry("d.txt", False, 0))
    assert workspace.list("a/b") == (WorkspaceEntry("a/b/c.txt", False, 3),)
    assert [entry.path for entry in workspace.list(recursive=True)] == ["a", "a/b", "a/b/c.txt", "d.txt"]
    assert len(workspace.list(recursive=True, limit=2)) == 2


@pytest.mark.parametrize(
    "path", ["../outside/secret", "/etc/hostname", "a/../../outside/secret", "", ".", "a\0b"]
)
def test_a_path_that_leads_out_is_refused(workspace: Workspace, path: str) -> None:
    with pytest.raises(AccessRefused):
        workspace.read_bytes(path)
    with pytest.raises(AccessRefused):
        workspace.write_bytes(path, b"x")


def test_links_are_refused_wherever_they_stand(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (workspace.root / "file").symlink_to(outside / "secret")
    (workspace.root / "folder").symlink_to(outside)
    (workspace.root / "within").symlink_to("elsewhere")
    for path in ("file", "folder/secret", "within"):
        with pytest.raises((AccessRefused, NotADirectoryError)):
            workspace.read_bytes(path)
    for path in ("file", "folder/new", "folder", "within"):
        with pytest.raises((AccessRefused, NotADirectoryError)):
            workspace.write_bytes(path, b"x")
    with pytest.raises((AccessRefused, NotADirectoryError)):
        workspace.list("folder")
    assert workspace.list(recursive=True) == ()
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "secret"


def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(workspace: Workspace, tmp_path: Path) -> None:
    """A thread swaps while this one writes and reads; nothing may ever land outside, or come from there."""
    outside, folder, link = tmp_path / "outside", workspace.root / "d", workspace.root / "l"
    folder.mkdir()
    link.symlink_to(outside)
    libc, exchange = ctypes.CDLL(None), 2
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            libc.renameat2(-100, os.fsencode(folder), -100, os.fsencode(link), exchange)

    swapper = threading.Thread(target=swap)
    swapper.start()
    refused = 0
    try:
        for number in range(1000):
            try:
                workspace.write_bytes("d/made", str(number).encode())
                assert workspace.read_bytes("d/secret") != b"secret"
            except (AccessRefused, OSError):
                refused += 1
    finally:
        stop.set()
        swapper.join(timeout=30)
    assert refused
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_what_is_no_plain_file_is_refused(workspace: Workspace) -> None:
    os.mkfifo(workspace.root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(workspace.root / "socket"))
        workspace.write_bytes("folder/x", b"1")
        for path in ("pipe", "folder"):
            with pytest.raises(AccessRefused, match="not a plain file"):
                workspace.read_bytes(path)
        for path in ("pipe", "socket", "folder"):
            with pytest.raises(AccessRefused, match="not a plain file"):
                workspace.write_bytes(path, b"x")
        with pytest.raises(OSError, match="No such device"):
            workspace.read_bytes("socket")


def test_a_file_that_is_too_large_is_refused(workspace: Workspace) -> None:
    workspace.write_bytes("large", b"x" * 100)
    assert workspace.read_bytes("large", max_bytes=100) == b"x" * 100
    with pytest.raises(AccessRefused, match="100 bytes, at most 99 are read"):
        workspace.read_bytes("large", max_bytes=99)


def test_a_file_that_is_not_there_is_named(workspace: Workspace) -> None:
    with pytest.raises(FileNotFoundError, match="a/none"):
        workspace.read_bytes("a/none")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(workspace: Workspace) -> None:
    workspace.write_bytes("f", b"old")
    with pytest.raises(TypeError):
        workspace.write_bytes("f", "no bytes")  # type: ignore[arg-type]
    assert workspace.read_bytes("f") == b"old"
    assert [entry.path for entry in workspace.list()] == ["f"]
