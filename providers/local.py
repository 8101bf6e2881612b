"""Files of this host, or of a folder that several hosts share: positioned reads and writes, an atomic publish."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from providers.base import (
    Body,
    Destination,
    DropsUnnamed,
    HashesUpload,
    ObjectStat,
    Options,
    Part,
    PartReceipt,
    Profile,
    ReadsBack,
    RepairsParts,
    Services,
    Source,
    UploadId,
    UploadPlan,
)
from providers.errors import (
    DestinationExists,
    InvalidRange,
    LocalFileRemoved,
    TransportError,
    UploadNotFound,
)
from providers.local_errors import MISSING, local_errors
from providers.local_hash import differing_parts, digest
from providers.local_io import preallocate, publish, thread_buffer, unlink, write_all
from providers.local_paths import LocalPath, destination_identity, sync_folder, temp_name, temp_token
from providers.local_source import PERMISSIONS, LocalSource, describe
from providers.local_upload import LocalUpload
from providers.receipts import in_order
from providers.schemes import LOCAL_LIMITS, Location


def source(location: Location, profile: Profile, options: Options, services: Services) -> Source:
    return LocalSource(LocalPath(location.key, services.roots, "source"))


def destination(location: Location, profile: Profile, options: Options, services: Services) -> Destination:
    return LocalDestination(LocalPath(location.key, services.roots, "destination"), options, services.roots)


_GONE = MISSING | {errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ESTALE}
"""What opening a name says when our file is not there, or something that is no file took its place."""


class LocalDestination(Destination, DropsUnnamed, HashesUpload, RepairsParts, ReadsBack):
    """A file that grows under a hidden name in the same folder and gets its own name when it is whole and synced."""

    limits = LOCAL_LIMITS

    def __init__(self, path: LocalPath, options: Options, roots: Sequence[str]) -> None:
        self._path = path
        self._options = options
        self._roots = roots
        self._replaces = options.on_exists == "overwrite"

    def existing(self) -> ObjectStat | None:
        with local_errors("look up", self._path.shown):
            try:
                with self._path.folder() as folder:
                    return self._existing(folder)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def create_upload(self, plan: UploadPlan) -> UploadId:
        with local_errors("create", self._path.shown), self._path.folder(create=True) as folder:
            if self._existing(folder) and not self._replaces:
                raise self._exists()
            token = temp_token(self._path.name, self._options.transfer_id or secrets.token_hex())
            temp = temp_name(self._path.name, token)
            # A file of this name is ours, from a call whose reply was lost: begin anew, in another inode.
            unlink(folder, temp)
            mode = 0o666 if self._options.mode is None else 0o600  # less the umask
            fd = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=folder)
            try:
                preallocate(fd, plan.size_bytes, self._options.preallocate)
                return LocalUpload.of(token, plan.size_bytes, fd).encode()
            except BaseException:
                unlink(folder, temp)
                raise
            finally:
                os.close(fd)

    def put_part(self, upload: UploadId, part: Part, body: Body) -> PartReceipt:
        opened = LocalUpload.decode(upload)
        is_past_end = opened.size_bytes is not None and part.span.stop > opened.size_bytes
        if is_past_end or body.size_bytes != part.size_bytes:
            raise InvalidRange(f"part {part.number} does not fit: {part.span}, a body of {body.size_bytes} bytes")
        with local_errors("write", self._path.shown), self._folder() as folder:
            fd = self._open_temp(folder, opened, os.O_WRONLY)
        try:
            self._write(fd, part, body)
        except BaseException:
            with suppress(OSError):
                os.close(fd)
            raise
        with local_errors("write", self._path.shown):
            os.close(fd)  # a network file system may report here that it could not write
        return PartReceipt(part.number, part.size_bytes)

    def complete_upload(self, upload: UploadId, receipts: Sequence[PartReceipt]) -> ObjectStat:
        opened = LocalUpload.decode(upload)
        size_bytes = sum(receipt.size_bytes for receipt in in_order(receipts, opened.size_bytes))
        with local_errors("finish", self._path.shown), self._folder() as folder:
            temp = temp_name(self._path.name, opened.token)
            with self._upload_file(folder, opened) as (fd, is_published):
                if not is_published:
                    self._finish(folder, temp, fd, size_bytes)
                    self._publish(folder, temp, opened)
                unlink(folder, temp)  # after link(2), or after a crash that followed it
                sync_folder(folder)
                return describe(os.fstat(fd), self._path.name)

    def abort_upload(self, upload: UploadId) -> None:
        with suppress(UploadNotFound):
            opened = LocalUpload.decode(upload)
            with local_errors("remove the partial file of", self._path.shown), self._folder() as folder:
                os.close(self._open_temp(folder, opened, os.O_RDONLY))
                unlink(folder, temp_name(self._path.name, opened.token))

    def drop_unnamed(self) -> None:
        token = temp_token(self._path.name, self._options.transfer_id)
        what = ("remove the partial file of", self._path.shown)
        with suppress(UploadNotFound), local_errors(*what), self._folder() as folder:
            unlink(folder, temp_name(self._path.name, token))

    def hash_upload(self, upload: UploadId, algorithm: str, passed: Callable[[int], None]) -> str:
        with self._reading(LocalUpload.decode(upload)) as fd:
            return digest(fd, algorithm, passed)

    def lost_parts(self, upload: UploadId, parts: Sequence[Part], receipts: Sequence[PartReceipt]) -> Sequence[int]:
        opened = LocalUpload.decode(upload)
        with self._reading(opened) as fd:
            return differing_parts(fd, parts, receipts) if opened.may_have_lost_writes else ()

    def identity(self) -> str:
        """What tells two transfers to the same file apart from two to different ones, however their paths look."""
        return destination_identity(self._path.shown)

    def as_source(self) -> Source:
        return LocalSource(LocalPath(self._path.shown, self._roots, "source"))

    def remove(self) -> None:
        gone = suppress(FileNotFoundError, NotADirectoryError)
        with local_errors("remove", self._path.shown), gone, self._path.folder() as folder:
            unlink(folder, self._path.name)
            sync_folder(folder)

    def _existing(self, folder: int) -> ObjectStat | None:
        """What has the final name. Raises InvalidValue for what must not be replaced whatever ``on_exists`` says."""
        try:
            found = os.stat(self._path.name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)) or self._leads_to_folder(folder):
            raise self._path.refusal("the path of a file, not of a folder, device, pipe or socket")
        return describe(found, self._path.name)

    def _leads_to_folder(self, folder: int) -> bool:
        """A link to a folder: the user meant the folder, not to replace the link."""
        try:
            return not self._path.confined and stat.S_ISDIR(os.stat(self._path.name, dir_fd=folder).st_mode)
        except OSError:
            return False

    @contextmanager
    def _folder(self) -> Iterator[int]:
        """The file's folder; without it there is no upload either."""
        try:
            with self._path.folder() as folder:
                yield folder
        except (FileNotFoundError, NotADirectoryError):
            raise self._not_found() from None

    def _open_temp(self, folder: int, opened: LocalUpload, flags: int) -> int:
        return self._open_own(folder, temp_name(self._path.name, opened.token), opened, flags, _GONE)

    def _open_published(self, folder: int, opened: LocalUpload) -> int:
        return self._open_own(folder, self._path.name, opened, os.O_RDONLY, _GONE | {errno.EACCES})

    def _open_own(self, folder: int, name: str, opened: LocalUpload, flags: int, gone: set[int]) -> int:
        """Raises UploadNotFound unless ``name`` is the very file that ``create_upload`` made."""
        try:
            fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        except OSError as exc:
            if exc.errno not in gone:
                raise
            raise self._not_found() from None
        if opened.is_file(fd):
            return fd
        os.close(fd)
        raise self._not_found()

    @contextmanager
    def _reading(self, opened: LocalUpload) -> Iterator[int]:
        with (
            local_errors("read", self._path.shown),
            self._folder() as folder,
            self._upload_file(folder, opened) as (fd, _),
        ):
            yield fd

    @contextmanager
    def _upload_file(self, folder: int, opened: LocalUpload) -> Iterator[tuple[int, bool]]:
        """Descriptor of the temporary file, or of the final one if it is the same file: a reply was lost."""
        try:
            fd, is_published = self._open_temp(folder, opened, os.O_RDONLY), False
        except UploadNotFound:
            fd, is_published = self._open_published(folder, opened), True
        try:
            yield fd, is_published
        finally:
            os.close(fd)

    def _write(self, fd: int, part: Part, body: Body) -> None:
        buffer, at = thread_buffer(), part.span.start
        while at < part.span.stop:
            count = body.readinto(buffer[: part.span.stop - at])  # outside of local_errors: not our disk's fault
            if not count:
                raise TransportError(f"the body of part {part.number} ended {part.span.stop - at} bytes early")
            with local_errors("write", self._path.shown):
                write_all(fd, buffer[:count], at)
            at += count
        with local_errors("write", self._path.shown):
            if not os.fstat(fd).st_nlink:  # removed meanwhile: the bytes went nowhere
                raise self._not_found()

    def _finish(self, folder: int, temp: str, fd: int, size_bytes: int) -> None:
        """All but the name: size, permissions, and every byte on the disk."""
        found = os.fstat(fd).st_size
        if found != size_bytes:
            raise LocalFileRemoved(f"the partial file of {self._path.shown} has {found} bytes instead of {size_bytes}")
        if self._options.mode is not None:
            os.fchmod(fd, self._options.mode & PERMISSIONS)
        try:
            os.fsync(fd)
        except OSError:
            # The kernel drops what it could not write and reports it once: a second fsync would succeed over the hole.
            unlink(folder, temp)
            raise

    def _publish(self, folder: int, temp: str, opened: LocalUpload) -> None:
        self._existing(folder)
        try:
            publish(folder, temp, self._path.name, replace=self._replaces)
        except FileExistsError:
            # Our own file may have got its name in a call that died before it removed the temporary one.
            with suppress(UploadNotFound):
                os.close(self._open_published(folder, opened))
                return
            raise self._exists() from None

    def _exists(self) -> DestinationExists:
        return DestinationExists(f"{self._path.shown} exists already")

    def _not_found(self) -> UploadNotFound:
        return UploadNotFound(f"the partial file of {self._path.shown} is gone or was replaced")
