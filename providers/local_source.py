"""Files of this host as a source: regular files, read by position, pinned by inode, size and modification time."""

from __future__ import annotations

import os
import stat

from providers.base import Body, ByteRange, ObjectStat, Source, Validator
from providers.errors import InvalidRange, LocalFileRemoved, SourceChanged, SourceMissing
from providers.local_errors import local_errors
from providers.local_paths import LocalPath

PERMISSIONS = 0o777
"""Bits that are kept: read, write and execute. Set-user-id and its kin are not carried to another place."""
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY  # a pipe in the file's place must not hold the worker


class LocalSource(Source):
    """A regular file, pinned by inode, size and modification time."""

    def __init__(self, path: LocalPath) -> None:
        self._path = path

    def stat(self) -> ObjectStat:
        with local_errors("read", self._path.shown, missing=SourceMissing):
            fd = self._open()
            try:
                return describe(os.fstat(fd), self._path.name)
            finally:
                os.close(fd)

    def read_range(self, span: ByteRange, *, validator: Validator) -> FileBody:
        with local_errors("read", self._path.shown, missing=LocalFileRemoved):
            body = FileBody(self._open(), span, validator, self._path.shown)
        try:
            body.check_unchanged()
        except BaseException:
            body.close()
            raise
        return body

    def _open(self) -> int:
        """Raises OSError, and InvalidValue for what is no regular file."""
        path = self._path
        with path.folder() as folder:
            path.refuse_link(folder, path.name)
            # Opening a device may already do something, so look first; the second look is at what was opened.
            self._refuse_special(os.stat(path.name, dir_fd=folder))
            try:
                fd = os.open(path.name, _READ | (os.O_NOFOLLOW if path.confined else 0), dir_fd=folder)
            except OSError:
                path.refuse_link(folder, path.name)
                raise
        try:
            self._refuse_special(os.fstat(fd))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _refuse_special(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise self._path.refusal("a regular file, not a folder, device, pipe or socket")


class FileBody(Body):
    """Positioned reads of one range. After sendfile by ``fileno()`` and ``offset`` call ``check_unchanged()``."""

    def __init__(self, fd: int, span: ByteRange, validator: Validator, shown: str) -> None:
        self.size_bytes = span.size_bytes
        self.offset = span.start
        self._fd = fd
        self._stop = span.stop
        self._validator = validator
        self._shown = shown

    def fileno(self) -> int:
        return self._fd

    def readinto(self, buffer: memoryview) -> int:
        left = self._stop - self.offset
        if not left:
            return 0
        with local_errors("read", self._shown):
            count = os.preadv(self._fd, [buffer[:left]], self.offset)
        self.offset += count
        if not count or self.offset == self._stop:
            self.check_unchanged()
        return count

    def check_unchanged(self) -> None:
        """Raises SourceChanged, LocalFileRemoved, InvalidRange: what was read may be a mixture."""
        with local_errors("read", self._shown):
            found = os.fstat(self._fd)
        if self._validator.pins and _validator(found) != self._validator:
            raise SourceChanged(f"{self._shown} was changed or replaced")
        if not found.st_nlink:
            raise LocalFileRemoved(f"{self._shown} was removed or replaced while it was read")
        if self._stop > found.st_size:
            raise InvalidRange(f"{self._shown} has {found.st_size} bytes, none at {self._stop - 1}")

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _validator(found: os.stat_result) -> Validator:
    return Validator("file", f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}")


def describe(found: os.stat_result, name: str) -> ObjectStat:
    return ObjectStat(found.st_size, _validator(found), name=name, mode=found.st_mode & PERMISSIONS)
