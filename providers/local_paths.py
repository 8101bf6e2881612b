"""Which folder and file a local path means: confinement, temporary names, identity.

A path is walked anew for each call, folder by folder, so nothing that is swapped in between is followed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal

from providers.errors import InvalidValue, IoFailed
from providers.local_errors import MISSING, local_errors

NAME_BYTES = 255
"""Longest file name of the usual file systems."""
_TEMP_SUFFIX = ".haulage"
_FOLDER = os.O_DIRECTORY | getattr(os, "O_PATH", os.O_RDONLY)  # with O_PATH the right to search is enough


class LocalPath:
    """A file's path. With ``roots`` it must lie below one of them, and no link below the root is followed."""

    def __init__(self, path: str, roots: Sequence[str], role: Literal["source", "destination"]) -> None:
        self.shown = path
        self._role = role
        self.confined = bool(roots)
        if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
            raise self.refusal("an absolute path without '..' and without NUL")
        if path.endswith(("/", "/.")):
            raise self.refusal("the path of a file, not of a folder")
        try:
            os.fsencode(path)
        except UnicodeEncodeError:
            raise self.refusal("a path in valid Unicode") from None
        self._root = self._find_root(path, roots)
        inside = os.path.normpath(path)[len(self._root) :].strip("/")
        *self._folders, self.name = inside.split("/")
        if role == "destination" and len(os.fsencode(self.name)) > NAME_BYTES:
            raise self.refusal(f"a file name of at most {NAME_BYTES} bytes in UTF-8")

    def _find_root(self, path: str, roots: Sequence[str]) -> str:
        normal = os.path.normpath(path)
        for root in sorted((os.path.normpath(root) for root in roots), key=len, reverse=True):
            if normal.startswith(root.rstrip("/") + "/"):
                return root
        if roots:
            raise self.refusal("a path below one of " + ", ".join(roots))
        return "/"

    def refusal(self, allowed: str) -> InvalidValue:
        return InvalidValue(self._role, self.shown, allowed)

    @contextmanager
    def folder(self, *, create: bool = False) -> Iterator[int]:
        """Descriptor of the file's folder, good for ``dir_fd``. ``create`` makes the folders that are missing."""
        with ExitStack() as opened:
            fd = self._open_root()
            opened.callback(os.close, fd)
            for name in self._folders:
                fd = self._enter(fd, name, create)
                opened.callback(os.close, fd)
            yield fd

    def _open_root(self) -> int:
        try:
            return os.open(self._root, _FOLDER)  # may be a link: whoever runs the worker named it
        except OSError as exc:
            if exc.errno not in MISSING:
                raise
            # Not the same as a folder that vanished: the uploads in it are there again once it is mounted.
            raise IoFailed(f"{self.shown}: the root {self._root} is not there; is it mounted?") from exc

    def _enter(self, parent: int, name: str, create: bool) -> int:
        flags = _FOLDER | (os.O_NOFOLLOW if self.confined else 0)
        try:
            return os.open(name, flags, dir_fd=parent)
        except FileNotFoundError:
            if not create:
                raise
        except OSError:
            self.refuse_link(parent, name)
            raise
        try:
            os.mkdir(name, dir_fd=parent)
            sync_folder(parent)
        except FileExistsError:  # another worker made it first, or it is a dangling link
            pass
        return os.open(name, flags, dir_fd=parent)

    def refuse_link(self, parent: int, name: str) -> None:
        """Raises InvalidValue when the path is confined and ``name`` is a symbolic link."""
        if self.confined and stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise self.refusal(f"a path without symbolic links below {self._root}")


def sync_folder(fd: int) -> None:
    """Make names in the folder survive a power loss, where its listing may be opened at all."""
    try:
        readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
    except PermissionError:
        return  # a drop box: names can be added, not listed, and so not synced
    try:
        os.fsync(readable)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):  # some FUSE file systems cannot
            raise
    finally:
        os.close(readable)


def temp_name(name: str, token: str) -> str:
    """Hidden name in the same folder: recognisable, within 255 bytes, different for each ``token``."""
    tail = f".{token}{_TEMP_SUFFIX}"
    room = NAME_BYTES - 1 - len(tail.encode())
    stem = os.fsencode(name)[:room].decode("utf-8", errors="ignore")  # a character is not cut in two
    return f".{stem}{tail}"


def temp_token(name: str, transfer_id: str) -> str:
    """Sixteen hex digits, the same for the same transfer: a repeated ``create_upload`` meets its own file."""
    return hashlib.blake2s(f"{transfer_id}\0{name}".encode(errors="surrogateescape"), digest_size=8).hexdigest()


def destination_identity(path: str) -> str:
    """Equal for two paths of one host that name the same file, through whatever links: device, parent inode, name.

    Folders that do not exist yet are named below the nearest one that does. Raises IoFailed.
    """
    folder, name = os.path.split(os.path.normpath(path))
    rest = [name]
    with local_errors("look up the folder of", path):
        while True:
            try:
                found = os.stat(folder)
            except FileNotFoundError:
                folder, name = os.path.split(folder)
                rest.insert(0, name)
                continue
            return f"{found.st_dev:x}:{found.st_ino:x}:{'/'.join(rest)}"
