"""The calls to the system that local files are written and published with."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from contextlib import suppress
from functools import cache
from typing import Literal

from providers.base import BUFFER_BYTES

Preallocate = Literal["auto", "full", "sparse", "none"]

_CANNOT = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_RENAME_NOREPLACE = 1
_buffers = threading.local()


def thread_buffer() -> memoryview:
    """1 MiB that belongs to this thread, made once: for one loop at a time that reads and writes."""
    view: memoryview | None = getattr(_buffers, "view", None)
    if view is None:
        view = _buffers.view = memoryview(bytearray(BUFFER_BYTES))
    return view


def write_all(fd: int, data: memoryview, offset: int) -> None:
    """Positioned write of everything; the kernel may take less at a time."""
    while data:
        count = os.pwrite(fd, data, offset)
        data, offset = data[count:], offset + count


def preallocate(fd: int, size_bytes: int | None, mode: Preallocate) -> None:
    """Reserve the blocks of a new file, so that a full disk shows now. Raises OSError, e.g. ENOSPC.

    ``auto`` reserves where the file system can do it at once, ``full`` also where the C library has to touch every
    block; ``sparse`` sets the size only; ``none`` lets the file grow.
    """
    if not size_bytes or mode == "none":
        return
    try:
        if mode == "auto":
            _system("fallocate", ctypes.c_int(fd), ctypes.c_int(0), ctypes.c_int64(0), ctypes.c_int64(size_bytes))
        elif mode == "full" and hasattr(os, "posix_fallocate"):  # macOS has none
            os.posix_fallocate(fd, 0, size_bytes)
    except OSError as exc:
        if exc.errno not in _CANNOT:
            raise
    os.ftruncate(fd, size_bytes)


def publish(folder: int, temp: str, name: str, *, replace: bool) -> None:
    """Give the file its final name in one step. Raises FileExistsError when ``replace`` is False and it is taken."""
    if replace:
        os.rename(temp, name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    try:
        os.link(temp, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        rename_noreplace(folder, temp, name)


def rename_noreplace(folder: int, temp: str, name: str) -> None:
    """renameat2(RENAME_NOREPLACE), for file systems without hard links (FAT, some FUSE)."""
    at = ctypes.c_int(folder)
    _system("renameat2", at, os.fsencode(temp), at, os.fsencode(name), ctypes.c_uint(_RENAME_NOREPLACE))


def unlink(folder: int, name: str) -> None:
    """Remove a name; one that is gone counts as removed."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _system(name: str, *args: object) -> None:
    """Call a function of the C library that Python has no name for."""
    function = getattr(_libc(), name, None)
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    while function(*args) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
