"""What URIs name, and how those that name nothing are refused."""

import os
import socket
from pathlib import Path

import h5py
import numpy as np
import pytest

from agentfactory.bridge.errors import URIResolveError
from agentfactory.bridge.ingest.resolver import UriResolver
from agentfactory.bridge.ingest.sources import PendingBlob, SourceChanged, StoredSource
from agentfactory.configs.data import UriSettings
from tests.bridge.fake_blobs import FakeBlobStore

TREE = {"a.md": b"# a", "sub/b.csv": b"x\n1\n", "sub/deep/c.txt": b"c", "a/z": b"", "a.b": b"ab"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    for name, data in TREE.items():
        path = folder / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "secret.txt").write_bytes(b"secret")
    return folder


async def resolve(root: Path, *uris: str, store: FakeBlobStore | None = None) -> list[PendingBlob]:
    return await UriResolver(UriSettings(roots=(str(root),)), store or FakeBlobStore()).resolve(uris)


def content(blob: PendingBlob) -> bytes:
    assert not isinstance(blob.source, StoredSource)
    data = b"".join(blob.source.chunks())
    assert len(data) == blob.source.size
    return data


async def refused(root: Path, *uris: str) -> str:
    with pytest.raises(URIResolveError) as caught:
        await resolve(root, *uris)
    return str(caught.value)


async def test_a_file_is_a_blob_named_as_the_file(root: Path) -> None:
    (blob,) = await resolve(root, f"file::{root}/docs/a.md")
    assert (blob.name, content(blob)) == ("a.md", b"# a")
    assert blob.meta.content_type == "text/markdown"
    assert blob.meta.source == f"file::{root}/docs/a.md"


async def test_a_relative_path_starts_at_the_working_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    resolver = UriResolver(UriSettings(), FakeBlobStore())
    (blob,) = await resolver.resolve(["file::docs/../docs/./a.md"])
    assert (blob.name, content(blob)) == ("a.md", b"# a")


async def test_a_folder_gives_all_files_below_it_in_order(root: Path) -> None:
    blobs = await resolve(root, f"folder::{root}/docs/")
    assert [blob.name for blob in blobs] == sorted(TREE)
    assert {blob.name: content(blob) for blob in blobs} == TREE
    assert blobs[-1].meta.source == f"file::{root}/docs/sub/deep/c.txt"


async def test_odd_names_are_kept(root: Path) -> None:
    names = ["new\nline", "sp ace ", "ünï", "-rf", "'q\"", "back\\slash", "*?[x]", "::", ".hidden", "~"]
    for name in names:
        (root / "odd" / name).parent.mkdir(exist_ok=True)
        (root / "odd" / name).write_bytes(name.encode())
    blobs = await resolve(root, f"folder::{root}/odd")
    assert {blob.name: content(blob).decode() for blob in blobs} == {name: name for name in names}
    (one,) = await resolve(root, f"file::{root}/odd/::")
    assert one.name == "::"


async def test_a_name_that_is_not_utf8_is_refused(root: Path) -> None:
    (Path(os.fsdecode(os.fsencode(root / "docs") + b"/sub/\xff.txt"))).write_bytes(b"")
    assert "'sub/\\udcff.txt', whose name is not UTF-8" in await refused(root, f"folder::{root}/docs")
    assert "is not UTF-8" in await refused(root, f"file::{root}/docs/sub/\udcff.txt")


async def test_links_inside_of_a_folder_are_followed(root: Path) -> None:
    (root / "docs/sub/link.md").symlink_to("../a.md")
    (root / "docs/again").symlink_to("sub")
    names = [blob.name for blob in await resolve(root, f"folder::{root}/docs")]
    assert {"sub/link.md", "again/link.md", "again/deep/c.txt"} < set(names)


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("../../../secret.txt", "leads out of the folder"),
        ("../../other", "leads out of the folder"),
        ("..", "leads back to a folder that it is in"),
        ("nothing", "leads nowhere"),
    ],
)
async def test_other_links_in_a_folder_are_refused(root: Path, target: str, complaint: str) -> None:
    (root / "other").mkdir()
    (root / "docs/sub/link").symlink_to(target)
    assert await refused(root, f"folder::{root}/docs") == (
        f"'folder::{root}/docs' holds the link 'sub/link', which {complaint}"
    )


@pytest.mark.parametrize("scheme", ["file", "folder", "hdf5"])
@pytest.mark.parametrize(
    "path", ["{root}/../secret.txt", "{root}/link", "/etc/passwd", "{root}2/x", "/", ".."]
)
async def test_nothing_outside_of_the_roots_is_read(root: Path, scheme: str, path: str) -> None:
    (root / "link").symlink_to(root.parent / "secret.txt")
    message = await refused(root, f"{scheme}::{path.format(root=root)}")
    assert f"lies outside of the folders that may be read ({root})" in message


async def test_a_link_to_another_place_inside_of_the_roots_is_a_file(root: Path) -> None:
    (root / "alias.txt").symlink_to(root / "docs/a.md")
    (blob,) = await resolve(root, f"file::{root}/alias.txt")
    assert (blob.name, content(blob)) == ("alias.txt", b"# a")


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("docs/a.md", "has no scheme: a URI begins with one of file::, folder::"),
        ("ftp::x", "begins with 'ftp::'; expected one of file::"),
        ("FILE::x", "begins with 'FILE::'"),
        ("file:x::y", "begins with 'file:x::'"),
        ("::x", "begins with '::'"),
        ("file::", "names nothing"),
        ("file::{root}/nothing", "cannot be read: No such file or directory; expected a file"),
        ("file::{root}/docs", "is a folder; expected a file"),
        ("file::{root}/docs/a.md/x", "cannot be read: Not a directory; expected a file"),
        ("file::{root}/\0", "is no path: embedded null byte"),
        ("file::{root}/" + "x" * 300, "cannot be read: File name too long"),
        ("file::{root}/fifo", "is a FIFO; expected a file"),
        ("file::{root}/socket", "is a socket; expected a file"),
        ("folder::{root}/nothing", "cannot be read: No such file or directory; expected a folder"),
        ("folder::{root}/docs/a.md", "is a regular file; expected a folder"),
        ("folder::{root}/empty", "holds no files"),
        ("folder::{root}", "which is a FIFO; expected files only"),
        ("hdf5::{root}/nothing.h5/x", "cannot be read: No such file or directory; expected a file"),
        ("hdf5::{root}/docs/a.md", "cannot be read as HDF5"),
        ("mem::tag", "expected mem::tag/blob"),
        ("mem::/blob", "expected mem::tag/blob"),
        ("mem::tag/blob", "names a blob that is not there; expected a blob 'blob' of tag 'tag'"),
    ],
)
async def test_what_names_nothing_is_refused_in_one_sentence(
    root: Path, uri: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(root / "fifo")
    (root / "empty").mkdir()
    monkeypatch.chdir(root)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        message = await refused(root, uri.format(root=root))
    assert complaint in message
    assert "\n" not in message


async def test_a_list_without_uris_is_refused(root: Path) -> None:
    assert "no URI was given" in await refused(root)


async def test_two_blobs_of_one_name_are_refused(root: Path) -> None:
    message = await refused(root, f"folder::{root}/docs/sub", f"file::{root}/docs/sub/b.csv")
    assert f"gives a blob named 'b.csv', and so does 'file::{root}/docs/sub/b.csv'" in message
    assert "and so does" in await refused(root, "string::x", "string::x")


async def test_a_scheme_that_the_settings_leave_out_is_unknown(root: Path) -> None:
    resolver = UriResolver(UriSettings(schemes=("string",)), FakeBlobStore())
    with pytest.raises(URIResolveError, match="expected one of string::"):
        await resolver.resolve([f"file::{root}/docs/a.md"])


async def test_text_is_named_by_its_hash_or_as_one_likes(root: Path) -> None:
    plain, empty, named = await resolve(root, "string::a::b", "string::", "string:notes/x.md::# x\ny")
    assert (plain.name, content(plain)) == ("78f0be89237d77f7.txt", b"a::b")
    assert (empty.name, content(empty)) == ("e3b0c44298fc1c14.txt", b"")
    assert (named.name, content(named)) == ("notes/x.md", b"# x\ny")
    assert plain.meta.content_type == "text/plain"
    assert named.meta.content_type == "text/markdown"


async def test_another_blob_of_the_store_is_found(root: Path) -> None:
    store = FakeBlobStore()
    await store.put("tag", "a/b.md", b"x")
    (blob,) = await resolve(root, "mem::tag/a/b.md", store=store)
    assert (blob.name, blob.source.size, blob.meta.source) == ("a/b.md", 1, "mem::tag/a/b.md")


async def test_a_file_that_has_changed_is_not_read(root: Path) -> None:
    path = root / "docs/a.md"
    (blob,) = await resolve(root, f"file::{path}")
    path.write_bytes(b"longer now")
    with pytest.raises(SourceChanged, match="it had 3 bytes and has 10 now"):
        content(blob)
    path.unlink()
    with pytest.raises(SourceChanged, match="cannot be read any more: No such file"):
        content(blob)
    path.symlink_to("/etc/passwd")
    with pytest.raises(SourceChanged, match="cannot be read any more"):
        content(blob)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(SourceChanged, match="changed while it was read"):
        content(blob)


@pytest.mark.parametrize("change", ["write", "append", "truncate", "replace", "unlink"])
async def test_a_file_that_changes_while_it_is_read_is_never_read_to_its_end(root: Path, change: str) -> None:
    path = root / "large"
    path.write_bytes(bytes(3 << 20))
    os.utime(path, (1, 1))
    (blob,) = await resolve(root, f"file::{path}")
    assert not isinstance(blob.source, StoredSource)
    chunks = blob.source.chunks()
    next(chunks)
    match change:
        case "write":
            with path.open("r+b") as file:
                file.write(b"x")
        case "append":
            with path.open("ab") as file:
                file.write(b"x")
        case "truncate":
            os.truncate(path, 5)
        case "replace":
            (root / "new").write_bytes(bytes(3 << 20))
            (root / "new").rename(path)
        case "unlink":
            path.unlink()
    with pytest.raises(SourceChanged):
        list(chunks)


@pytest.fixture
def h5(root: Path) -> Path:
    path = root / "x.h5"
    with h5py.File(path, "w") as file:
        file["scalar"] = np.float32(1.5)
        file["group/big"] = np.arange(3 * 700_000, dtype=">i4").reshape(3, 700_000)
        file.create_dataset(
            "group/chunked", data=np.arange(30.0).reshape(5, 6), chunks=(2, 2), compression="gzip"
        )
        file["group/none"] = np.zeros((0, 4))
        file["null"] = h5py.Empty("f")
        file["words"] = np.array(["ä", "", "four"], dtype=h5py.string_dtype())
        file["rows"] = np.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", "<f8")])
        file["fixed"] = np.array([b"ab", b"c"])
        file["group/soft"] = h5py.SoftLink("/scalar")
    return path


async def test_each_dataset_is_a_blob_with_dtype_and_shape(root: Path, h5: Path) -> None:
    blobs = {blob.name: blob for blob in await resolve(root, f"hdf5::{h5}")}
    assert list(blobs) == sorted(
        ["fixed", "group/big", "group/chunked", "group/none", "null", "rows", "scalar", "words"]
    )
    with h5py.File(h5) as file:
        for name in ("fixed", "group/big", "group/chunked", "group/none", "scalar"):
            meta = blobs[name].meta
            array = np.frombuffer(content(blobs[name]), dtype=meta.dtype).reshape(meta.shape)
            np.testing.assert_array_equal(array, file[name][()], strict=True)
    assert (blobs["words"].meta.dtype, blobs["words"].meta.shape) == ("|S4", (3,))
    assert content(blobs["words"]) == b"\xc3\xa4\0\0" + b"\0" * 4 + b"four"
    assert blobs["rows"].meta.dtype == "[('a', '<i4'), ('b', '<f8')]"
    assert len(content(blobs["rows"])) == 12
    assert (content(blobs["null"]), blobs["null"].meta.shape) == (b"", (0,))
    assert blobs["group/big"].meta.source == f"hdf5::{h5}/group/big"


async def test_one_dataset_or_one_group_can_be_named(root: Path, h5: Path) -> None:
    assert [blob.name for blob in await resolve(root, f"hdf5::{h5}/group/big")] == ["group/big"]
    group = [blob.name for blob in await resolve(root, f"hdf5::{h5}/group/")]
    assert group == ["group/big", "group/chunked", "group/none"]
    assert "names 'x', which 'group' does not hold" in await refused(root, f"hdf5::{h5}/group/x")
    assert "names 'x', which 'scalar' does not hold" in await refused(root, f"hdf5::{h5}/scalar/x")
    assert "names '..', which 'group' does not hold" in await refused(root, f"hdf5::{h5}/group/../scalar")


async def test_an_hdf5_file_leads_to_no_other_file(root: Path, h5: Path) -> None:
    outside = root.parent / "outside.h5"
    with h5py.File(outside, "w") as file:
        file["secret"] = np.arange(4)
    with h5py.File(h5, "a") as file:
        file["link"] = h5py.ExternalLink(str(outside), "/")
    names = [blob.name for blob in await resolve(root, f"hdf5::{h5}")]
    assert not [name for name in names if "link" in name]
    assert "leads to another file" in await refused(root, f"hdf5::{h5}/link/secret")
    with h5py.File(h5, "a") as file:
        file.create_dataset("raw", (6,), "u1", external=[(str(root.parent / "secret.txt"), 0, 6)])
    assert "holds 'raw', whose values lie in other files" in await refused(root, f"hdf5::{h5}")
    with h5py.File(h5, "a") as file:
        del file["raw"]
        layout = h5py.VirtualLayout((4,), "i8")
        layout[:] = h5py.VirtualSource(str(outside), "secret", (4,))
        file.create_virtual_dataset("virtual", layout)
    assert "holds 'virtual', whose values lie in other files" in await refused(root, f"hdf5::{h5}")


async def test_values_of_varying_size_are_refused(root: Path) -> None:
    with h5py.File(root / "v.h5", "w") as file:
        file.create_dataset("ragged", (2,), h5py.vlen_dtype("i4"))
    assert "holds 'ragged' of type object, whose values are not of one size" in await refused(
        root, f"hdf5::{root}/v.h5"
    )


async def test_a_dataset_that_is_said_to_be_enormous_takes_no_memory(root: Path) -> None:
    with h5py.File(root / "v.h5", "w") as file:
        file.create_dataset("sparse", (1 << 20, 1 << 31), "f8")
        file.create_dataset("words", (1 << 31,), h5py.string_dtype())
    (blob,) = await resolve(root, f"hdf5::{root}/v.h5/sparse")
    assert blob.source.size == 1 << 54
    assert not isinstance(blob.source, StoredSource)
    assert not any(next(blob.source.chunks()))
    assert "holds 'words', whose strings, padded to the longest, take 2147483648 bytes or more" in (
        await refused(root, f"hdf5::{root}/v.h5/words")
    )


async def test_a_broken_hdf5_file_is_refused(root: Path, h5: Path) -> None:
    data = h5.read_bytes()
    for size in (0, 10, 600, len(data) // 2):
        h5.write_bytes(data[:size])
        assert f"'hdf5::{h5}' cannot be read as HDF5" in await refused(root, f"hdf5::{h5}")
    with h5py.File(root / "empty.h5", "w"):
        pass
    assert "holds no datasets" in await refused(root, f"hdf5::{root}/empty.h5")


async def test_an_hdf5_file_that_has_changed_is_not_read(root: Path, h5: Path) -> None:
    (blob,) = await resolve(root, f"hdf5::{h5}/scalar")
    with h5py.File(h5, "a") as file:
        file["more"] = 1
    with pytest.raises(SourceChanged, match="changed while it was read"):
        content(blob)
