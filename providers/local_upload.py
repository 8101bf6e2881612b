"""What a local upload id holds: enough to know our temporary file, and our finished file, from any other."""

from __future__ import annotations

import fcntl
import os
import re
import struct
from dataclasses import dataclass
from functools import cache
from typing import Self

from providers.base import UploadId
from providers.errors import UploadNotFound

_GET_GENERATION = 0x80087601
"""FS_IOC_GETVERSION: a number that differs when an inode number is used again (ext4, xfs, btrfs, f2fs)."""
_ENCODED = re.compile(r"1\.([0-9a-f]{16})\.(\d*)\.(\d+)\.(\d+)\.(\d+)\.([0-9a-f-]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class LocalUpload:
    """``token`` is part of the temporary file's name; ``boot`` names the boot of the machine that created it."""

    token: str
    size_bytes: int | None
    inode: int
    generation: int
    device: int
    boot: str

    @classmethod
    def of(cls, token: str, size_bytes: int | None, fd: int) -> Self:
        found = os.fstat(fd)
        return cls(token, size_bytes, found.st_ino, _generation(fd), found.st_dev, boot_id())

    def encode(self) -> UploadId:
        size = "" if self.size_bytes is None else self.size_bytes
        return UploadId(f"1.{self.token}.{size}.{self.inode}.{self.generation}.{self.device}.{self.boot}")

    @classmethod
    def decode(cls, upload: UploadId) -> Self:
        """Raises UploadNotFound for what ``encode`` did not write."""
        match = _ENCODED.fullmatch(upload)
        if match is None:
            raise UploadNotFound("this is not the id of an upload to a local file")
        token, size, inode, generation, device, boot = match.groups()
        return cls(token, int(size) if size else None, int(inode), int(generation), int(device), boot)

    def is_file(self, fd: int) -> bool:
        """Whether the open file is the one this upload created, under whatever name.

        A device number means something only within one boot of one host (a shared folder is served by several);
        the generation tells used-again inode numbers apart wherever the file system has one.
        """
        found = os.fstat(fd)
        if found.st_ino != self.inode:
            return False
        generation = _generation(fd)
        if generation and self.generation:
            return generation == self.generation
        return self.boot != boot_id() or found.st_dev == self.device

    @property
    def may_have_lost_writes(self) -> bool:
        """Whether written pages may have been lost since: another boot, or another host of a shared folder."""
        return not self.boot or self.boot != boot_id()


def _generation(fd: int) -> int:
    """0 where the file system has none (tmpfs, NFS)."""
    try:
        number: int = struct.unpack("=I", fcntl.ioctl(fd, _GET_GENERATION, bytes(8))[:4])[0]
    except OSError:
        return 0
    return number


@cache
def boot_id() -> str:
    """The kernel's name for this boot; empty where there is none, and then nothing is trusted to have lasted."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
