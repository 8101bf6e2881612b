"""From errno to our error tree: the one table for local files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from providers.errors import DiskFull, IoFailed, LocalBusy, LocalFileRemoved, ProviderError, TransportError

_FULL = {errno.ENOSPC, errno.EDQUOT}
MISSING = {errno.ENOENT, errno.ENOTDIR}
_NETWORK = {
    errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET,
    errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.ENOTCONN,
}  # fmt: skip
"""What a network file system says while its server is away: worth another try."""
_BUSY = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EBUSY, errno.ETXTBSY, errno.EINTR}
_HINTS = {
    errno.EROFS: "the file system is mounted read-only",
    errno.EACCES: "this worker's user has no permission",
    errno.EPERM: "this worker's user has no permission, or the file is immutable",
    errno.ENOTDIR: "a folder of the path is a file",
    errno.EFBIG: "the file system does not take files of this size",
    errno.ENAMETOOLONG: "the file system does not take names of this length",
    errno.EMFILE: "this worker has too many open files; raise its limit (ulimit -n)",
}


@contextmanager
def local_errors(doing: str, path: str, *, missing: type[IoFailed] = IoFailed) -> Iterator[None]:
    """Map what the file system raises. ``doing`` is a verb, ``missing`` what a missing path means here."""
    try:
        yield
    except OSError as exc:
        raise map_os_error(exc, doing, path, missing=missing) from exc


def map_os_error(exc: OSError, doing: str, path: str, *, missing: type[IoFailed] = IoFailed) -> ProviderError:
    """The error of our tree for ``exc``; what is not in the table is final."""
    code = exc.errno or 0
    hint = _HINTS.get(code)
    reason = f"{os.strerror(code)}: {hint}" if hint else os.strerror(code)
    return _kind(code, missing)(f"cannot {doing} {path}: {reason}")


def _kind(code: int, missing: type[IoFailed]) -> type[ProviderError]:
    if code in _FULL:
        return DiskFull
    if code in MISSING:
        return missing
    if code in _BUSY:
        return LocalBusy
    if code == errno.ESTALE:
        return LocalFileRemoved
    return TransportError if code in _NETWORK else IoFailed
