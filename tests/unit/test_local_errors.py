"""The errno table: every number the system knows becomes an error of ours, with the path and a plain reason."""

from __future__ import annotations

import errno
import os

import pytest

from providers.errors import (
    DiskFull,
    IoFailed,
    LocalBusy,
    LocalFileRemoved,
    ProviderError,
    SourceMissing,
    TransportError,
)
from providers.local_errors import local_errors

NETWORK = (
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENETRESET,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.ECONNABORTED,
    errno.ENOTCONN,
)
EXPECTED: dict[int, tuple[type[ProviderError], int, bool]] = {
    errno.ENOSPC: (DiskFull, 121, False),
    errno.EDQUOT: (DiskFull, 121, False),
    errno.EMFILE: (LocalBusy, 105, True),
    errno.ENFILE: (LocalBusy, 105, True),
    errno.ENOMEM: (LocalBusy, 105, True),
    errno.ENOBUFS: (LocalBusy, 105, True),
    errno.EAGAIN: (LocalBusy, 105, True),
    errno.EBUSY: (LocalBusy, 105, True),
    errno.ETXTBSY: (LocalBusy, 105, True),
    errno.EINTR: (LocalBusy, 105, True),
    errno.ENOENT: (SourceMissing, 115, False),
    errno.ENOTDIR: (SourceMissing, 115, False),
    errno.ESTALE: (LocalFileRemoved, 122, False),
    **dict.fromkeys(NETWORK, (TransportError, 106, True)),
}


@pytest.mark.parametrize("code", sorted(errno.errorcode), ids=errno.errorcode.get)
def test_every_errno_has_its_error(code: int) -> None:
    kind, number, retryable = EXPECTED.get(code, (IoFailed, 105, False))
    raised_by_the_system = OSError(code, "strerror", "/secret/other/path")

    with pytest.raises(ProviderError) as raised, local_errors("read", "/a/b", missing=SourceMissing):
        raise raised_by_the_system

    assert type(raised.value) is kind
    assert (raised.value.number, raised.value.retryable) == (number, retryable)
    assert str(raised.value).startswith(f"cannot read /a/b: {os.strerror(code)}")
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is raised_by_the_system


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EROFS, "mounted read-only"),
        (errno.EACCES, "no permission"),
        (errno.EFBIG, "files of this size"),
        (errno.ENAMETOOLONG, "names of this length"),
        (errno.EMFILE, "ulimit -n"),
    ],
)
def test_what_an_operator_can_mend_is_said_in_words(code: int, words: str) -> None:
    with pytest.raises(IoFailed, match=words), local_errors("write", "/a/b"):
        raise OSError(code, "")


def test_an_error_without_a_number_is_an_io_failure() -> None:
    with pytest.raises(IoFailed, match="cannot write /a/b"), local_errors("write", "/a/b"):
        raise OSError("no number")


def test_what_is_ours_or_no_system_error_passes() -> None:
    for error in (DiskFull("x"), ValueError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as raised, local_errors("write", "/a/b"):
            raise error
        assert raised.value is error
