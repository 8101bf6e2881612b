"""What only local files do: confinement, temporary names, durability, permissions, changes under our hands."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from awscrt.checksums import crc64nvme

from providers.base import (
    ByteRange,
    BytesBody,
    Destination,
    HashesUpload,
    Options,
    Part,
    PartReceipt,
    Profile,
    ReadsBack,
    RepairsParts,
    Services,
    UploadId,
    Validator,
)
from providers.errors import (
    DestinationExists,
    InvalidPart,
    InvalidRange,
    InvalidValue,
    IoFailed,
    LocalFileRemoved,
    SourceChanged,
    SourceMissing,
    StopRequested,
    TransportError,
    UploadNotFound,
)
from providers.local import LocalDestination
from providers.local_io import rename_noreplace
from providers.local_paths import destination_identity
from providers.local_source import LocalSource
from providers.local_upload import LocalUpload
from providers.registry import open_destination, open_source
from providers.schemes import LOCAL_LIMITS, Location, parse, schemes
from tests.contract.objects import cut, noise, plan, put, read_all, send

PART = 10_000
DATA = noise(25_000)
PARTS = cut(len(DATA), PART)


def source_at(path: Path, *roots: Path) -> LocalSource:
    services = Services(roots=tuple(map(str, roots)))
    source = open_source(parse(str(path), "source"), Profile("p"), Options(), services)
    assert isinstance(source, LocalSource)
    return source


def destination_at(path: Path, *roots: Path, options: Options | None = None) -> LocalDestination:
    services = Services(roots=tuple(map(str, roots)))
    destination = open_destination(
        parse(str(path), "destination"), Profile("p"), options or Options("transfer-1"), services
    )
    assert isinstance(destination, LocalDestination)
    return destination


def begin(destination: Destination) -> tuple[UploadId, list[PartReceipt]]:
    """An upload that has all its parts."""
    upload = destination.create_upload(plan(PARTS))
    return upload, [put(destination, upload, part, DATA) for part in PARTS]


def temp_of(folder: Path) -> Path:
    (found,) = folder.glob(".*.haulage")
    return found


# Skills and roles


def test_a_local_file_offers_its_skills(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "out")

    assert destination.limits == LOCAL_LIMITS
    assert isinstance(destination, HashesUpload)
    assert isinstance(destination, RepairsParts)
    assert isinstance(destination, ReadsBack)
    assert not hasattr(destination, "list_parts")


# Reading


def test_a_body_serves_sendfile(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(DATA)
    source = source_at(tmp_path / "in")

    body = source.read_range(ByteRange(5, 20_000), validator=source.stat().validator)

    assert os.pread(body.fileno(), body.size_bytes, body.offset) == DATA[5:20_000]
    body.check_unchanged()
    body.close()
    body.close()


def test_a_file_written_to_while_it_is_read_is_a_changed_source(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(DATA)
    source = source_at(tmp_path / "in")
    body = source.read_range(ByteRange(0, len(DATA)), validator=source.stat().validator)
    body.readinto(memoryview(bytearray(100)))

    (tmp_path / "in").write_bytes(noise(len(DATA), 2))
    os.utime(tmp_path / "in", (1, 1))

    with pytest.raises(SourceChanged):
        read_all(body)


def test_a_file_cut_short_while_it_is_read_is_a_changed_source(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(DATA)
    source = source_at(tmp_path / "in")
    body = source.read_range(ByteRange(10_000, len(DATA)), validator=source.stat().validator)

    os.truncate(tmp_path / "in", 5000)

    with pytest.raises(SourceChanged):
        read_all(body)


def test_a_file_cut_short_is_noticed_without_a_validator_too(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(DATA)
    body = source_at(tmp_path / "in").read_range(ByteRange(0, len(DATA)), validator=Validator("none"))

    os.truncate(tmp_path / "in", 5000)

    with pytest.raises(InvalidRange):
        read_all(body)


def test_a_file_removed_while_it_is_read_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(DATA)
    source = source_at(tmp_path / "in")
    body = source.read_range(ByteRange(0, len(DATA)), validator=source.stat().validator)

    (tmp_path / "in").unlink()

    with pytest.raises(LocalFileRemoved):
        read_all(body)


def test_a_file_removed_between_two_parts_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(DATA)
    source = source_at(tmp_path / "in")
    validator = source.stat().validator

    (tmp_path / "in").unlink()

    with pytest.raises(LocalFileRemoved):
        source.read_range(ByteRange(0, 10), validator=validator)


def test_a_file_replaced_between_two_parts_is_a_changed_source(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(DATA)
    source = source_at(tmp_path / "in")
    found = source.stat()
    (tmp_path / "new").write_bytes(DATA)
    os.utime(tmp_path / "new", ns=(0, int(found.validator.value.split("-")[2])))

    (tmp_path / "new").rename(tmp_path / "in")

    with pytest.raises(SourceChanged):
        source.read_range(ByteRange(0, 10), validator=found.validator)


def test_what_is_no_regular_file_is_refused_as_a_source_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for path in (tmp_path, tmp_path / "pipe", tmp_path / "socket", Path("/dev/null")):
            with pytest.raises(InvalidValue) as raised:
                source_at(path).stat()
            assert raised.value.field == "source"


@pytest.mark.parametrize("name", ["missing", "missing/file", "in/below a file"])
def test_a_source_that_is_not_there_has_its_own_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").write_bytes(DATA)

    with pytest.raises(SourceMissing) as raised:
        source_at(tmp_path / name).stat()

    assert (raised.value.number, raised.value.code) == (115, "file_not_found")


def test_permission_bits_are_told_without_the_set_user_id_bit(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(DATA)
    (tmp_path / "in").chmod(0o4751)

    assert source_at(tmp_path / "in").stat().mode == 0o751


def test_links_are_followed_where_paths_are_not_confined(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(DATA)
    (tmp_path / "link").symlink_to("in")
    (tmp_path / "folder").symlink_to(tmp_path)

    for path in (tmp_path / "link", tmp_path / "folder" / "in"):
        source = source_at(path)
        assert read_all(source.read_range(ByteRange(0, 9), validator=source.stat().validator)) == DATA[:9]
    send(destination_at(tmp_path / "folder" / "out"), DATA, PART)
    assert (tmp_path / "out").read_bytes() == DATA


# Writing


@pytest.mark.parametrize("mode", ["auto", "full", "sparse", "none"])
def test_each_way_to_reserve_space_gives_the_same_file(tmp_path: Path, mode: str) -> None:
    options = Options("t", preallocate=mode)  # type: ignore[arg-type]  # a Literal
    destination = destination_at(tmp_path / "out", options=options)

    upload = destination.create_upload(plan(PARTS))
    reserved = temp_of(tmp_path).stat()
    destination.complete_upload(upload, [put(destination, upload, part, DATA) for part in reversed(PARTS)])

    assert reserved.st_size == (0 if mode == "none" else len(DATA))
    assert (reserved.st_blocks * 512 >= len(DATA)) == (mode in ("auto", "full"))
    assert (tmp_path / "out").read_bytes() == DATA


def test_an_object_of_unknown_size_grows(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "out")
    upload = destination.create_upload(replace(plan(PARTS), size_bytes=None))

    destination.complete_upload(upload, [put(destination, upload, part, DATA) for part in PARTS])

    assert (tmp_path / "out").read_bytes() == DATA


def test_missing_folders_are_made(tmp_path: Path) -> None:
    send(destination_at(tmp_path / "a" / "b" / "out"), DATA, PART)

    assert (tmp_path / "a" / "b" / "out").read_bytes() == DATA


def test_only_the_final_name_is_left_after_completion(tmp_path: Path) -> None:
    send(destination_at(tmp_path / "out"), DATA, PART)

    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").stat().st_nlink == 1


@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, "文" * 85, "🚚" * 63 + "abc", "x"])
def test_the_temporary_file_of_any_name_is_hidden_beside_it(tmp_path: Path, name: str) -> None:
    destination = destination_at(tmp_path / name)

    upload, receipts = begin(destination)

    assert temp_of(tmp_path).name.startswith(f".{name[:10]}")
    destination.complete_upload(upload, receipts)
    assert os.listdir(tmp_path) == [name]


def test_a_name_longer_than_file_systems_take_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="255 bytes"):
        destination_at(tmp_path / ("文" * 86))


@pytest.mark.parametrize("url", ["/tmp/folder/", "/tmp/folder/.", "/"])
def test_the_path_of_a_folder_is_refused_by_its_look(url: str) -> None:
    with pytest.raises(InvalidValue):
        open_destination(parse(url, "destination"), Profile("p"), Options(), Services())


@pytest.mark.parametrize("on_exists", ["fail", "overwrite"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "link to a folder"])
def test_what_is_no_file_is_never_replaced(tmp_path: Path, kind: str, on_exists: str) -> None:
    path = tmp_path / "out"
    make: dict[str, Callable[[], object]] = {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "link to a folder": lambda: path.symlink_to("/tmp"),
        "device": lambda: None,
    }
    make[kind]()
    if kind == "device":
        path = Path("/dev/null")
    destination = destination_at(path, options=Options("t", on_exists=on_exists))  # type: ignore[arg-type]  # a Literal

    with pytest.raises(InvalidValue):
        destination.existing()
    with pytest.raises(InvalidValue):
        destination.create_upload(plan(PARTS))

    assert path.exists()


def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "out", options=Options("t", on_exists="overwrite"))
    upload, receipts = begin(destination)
    (tmp_path / "out").mkdir()

    with pytest.raises(InvalidValue):
        destination.complete_upload(upload, receipts)

    assert (tmp_path / "out").is_dir()


@pytest.mark.parametrize("target", ["missing", "victim"])
def test_a_link_in_the_files_place_is_replaced_and_its_target_left_alone(tmp_path: Path, target: str) -> None:
    (tmp_path / "victim").write_bytes(b"victim")
    (tmp_path / "out").symlink_to(target)

    with pytest.raises(DestinationExists):
        send(destination_at(tmp_path / "out"), DATA, PART)
    send(destination_at(tmp_path / "out", options=Options("t", on_exists="overwrite")), DATA, PART)

    assert not (tmp_path / "out").is_symlink()
    assert (tmp_path / "out").read_bytes() == DATA
    assert (tmp_path / "victim").read_bytes() == b"victim"
    assert not (tmp_path / "missing").exists()


def test_a_link_laid_under_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "out")
    destination.create_upload(plan(PARTS))
    temp = temp_of(tmp_path)
    (tmp_path / "victim").write_bytes(b"victim")
    temp.unlink()
    temp.symlink_to("victim")

    send(destination, DATA, PART)

    assert (tmp_path / "out").read_bytes() == DATA
    assert (tmp_path / "victim").read_bytes() == b"victim"


def test_a_temporary_file_swapped_for_a_link_between_parts_is_not_written_through(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "out")
    upload, receipts = begin(destination)
    temp = temp_of(tmp_path)
    (tmp_path / "victim").write_bytes(noise(len(DATA), 3))
    temp.unlink()
    temp.symlink_to("victim")

    with pytest.raises(UploadNotFound):
        put(destination, upload, PARTS[0], DATA)
    with pytest.raises(UploadNotFound):
        destination.complete_upload(upload, receipts)
    destination.abort_upload(upload)

    assert temp.is_symlink()
    assert (tmp_path / "victim").read_bytes() == noise(len(DATA), 3)


def test_a_temporary_file_removed_during_a_part_is_noticed(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "out")
    upload = destination.create_upload(plan(PARTS))

    class Removing(BytesBody):
        def readinto(self, buffer: memoryview) -> int:
            temp_of(tmp_path).unlink()
            return super().readinto(buffer)

    with pytest.raises(UploadNotFound):
        destination.put_part(upload, PARTS[0], Removing(DATA[:PART]))


def test_a_temporary_file_cut_short_is_not_published(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "out")
    upload, receipts = begin(destination)
    os.truncate(temp_of(tmp_path), 100)

    with pytest.raises(LocalFileRemoved) as raised:
        destination.complete_upload(upload, receipts)

    assert raised.value.number == 122
    assert not (tmp_path / "out").exists()


def test_a_folder_that_vanished_took_the_upload_with_it(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "a" / "out")
    upload, receipts = begin(destination)
    temp_of(tmp_path / "a").unlink()
    (tmp_path / "a").rmdir()

    with pytest.raises(UploadNotFound):
        put(destination, upload, PARTS[0], DATA)
    with pytest.raises(UploadNotFound):
        destination.complete_upload(upload, receipts)
    destination.abort_upload(upload)


def test_creating_again_makes_a_fresh_upload_and_outdates_the_first(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "out")
    first, _ = begin(destination)

    second = destination.create_upload(plan(PARTS))

    with pytest.raises(UploadNotFound):
        put(destination, first, PARTS[0], DATA)
    destination.abort_upload(first)
    assert temp_of(tmp_path).read_bytes() == bytes(len(DATA))
    destination.complete_upload(second, [put(destination, second, part, DATA) for part in PARTS])
    assert (tmp_path / "out").read_bytes() == DATA


def test_two_transfers_to_one_name_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    one = destination_at(tmp_path / "out", options=Options("transfer-1"))
    two = destination_at(tmp_path / "out", options=Options("transfer-2"))
    upload_one, receipts_one = begin(one)
    upload_two, receipts_two = begin(two)

    one.complete_upload(upload_one, receipts_one)

    with pytest.raises(DestinationExists):
        two.complete_upload(upload_two, receipts_two)
    with pytest.raises(UploadNotFound):
        put(two, upload_one, PARTS[0], DATA)


def test_of_many_that_complete_at_once_exactly_one_wins(tmp_path: Path) -> None:
    contenders = [destination_at(tmp_path / "out", options=Options(f"transfer-{n}")) for n in range(8)]
    begun = [begin(each) for each in contenders]
    start = threading.Barrier(len(contenders))

    def complete(n: int) -> str:
        start.wait()
        try:
            contenders[n].complete_upload(*begun[n])
        except DestinationExists:
            return "exists"
        return "won"

    with ThreadPoolExecutor(len(contenders)) as threads:
        outcomes = list(threads.map(complete, range(len(contenders))))

    assert sorted(outcomes) == ["exists"] * 7 + ["won"]


@pytest.mark.parametrize("on_exists", ["fail", "overwrite"])
def test_a_crash_between_publishing_and_cleaning_up_is_finished_by_the_next_call(
    tmp_path: Path, on_exists: str
) -> None:
    destination = destination_at(tmp_path / "out", options=Options("t", on_exists=on_exists))  # type: ignore[arg-type]  # a Literal
    upload, receipts = begin(destination)
    os.link(temp_of(tmp_path), tmp_path / "out")

    found = destination.complete_upload(upload, receipts)

    assert found.size_bytes == len(DATA)
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes() == DATA


def test_another_file_of_the_same_size_is_not_taken_for_ours_after_a_lost_reply(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "out", options=Options("t", on_exists="overwrite"))
    upload, receipts = begin(destination)
    destination.complete_upload(upload, receipts)
    (tmp_path / "other").write_bytes(DATA)
    (tmp_path / "other").rename(tmp_path / "out")

    with pytest.raises(UploadNotFound):
        destination.complete_upload(upload, receipts)


def test_an_inode_number_that_is_used_again_is_not_taken_for_ours(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "out")
    first, receipts = begin(destination)
    destination.abort_upload(first)
    for _ in range(50):  # file systems without generations never use a number again so soon
        second = destination.create_upload(plan(PARTS))
        assert second != first
        with pytest.raises(UploadNotFound):
            put(destination, first, PARTS[0], DATA)
        with pytest.raises(UploadNotFound):
            destination.complete_upload(first, receipts)
        destination.abort_upload(second)


def test_receipts_must_be_all_parts_each_once(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "out")
    upload, receipts = begin(destination)

    for wrong in ([], receipts[:2], receipts[1:], [*receipts[:2], receipts[1]], [*receipts, receipts[2]]):
        with pytest.raises(InvalidPart):
            destination.complete_upload(upload, wrong)

    assert not (tmp_path / "out").exists()


def test_a_part_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "out")
    upload = destination.create_upload(plan(PARTS))
    past_the_end = Part(3, ByteRange(20_000, 30_000))

    with pytest.raises(InvalidRange):
        destination.put_part(upload, past_the_end, BytesBody(bytes(10_000)))
    with pytest.raises(InvalidRange):
        destination.put_part(upload, PARTS[0], BytesBody(bytes(9999)))


def test_a_body_that_ends_early_is_a_fault_of_its_transport(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "out")
    upload = destination.create_upload(plan(PARTS))
    body = BytesBody(DATA[:500])
    body.size_bytes = PART

    with pytest.raises(TransportError, match="9500 bytes early"):
        destination.put_part(upload, PARTS[0], body)


@pytest.mark.parametrize("upload", ["", "single", "1.../../etc/passwd", "1.0123456789abcdef.9.9.9.9.x/../../y"])
def test_an_upload_id_that_is_none_is_not_found(tmp_path: Path, upload: str) -> None:
    destination = destination_at(tmp_path / "out")

    with pytest.raises(UploadNotFound):
        destination.put_part(UploadId(upload), PARTS[0], BytesBody(DATA[:PART]))
    destination.abort_upload(UploadId(upload))


def test_permission_bits_are_those_of_the_umask_or_those_asked_for(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        send(destination_at(tmp_path / "plain"), DATA, PART)
        send(destination_at(tmp_path / "asked", options=Options("t", mode=0o4754)), DATA, PART)
        destination_at(tmp_path / "secret", options=Options("t", mode=0o600)).create_upload(plan(PARTS))
    finally:
        os.umask(umask)

    assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "asked").stat().st_mode) == 0o754
    assert stat.S_IMODE(temp_of(tmp_path).stat().st_mode) == 0o600


def test_file_systems_without_hard_links_publish_without_replacing_too(tmp_path: Path) -> None:
    (tmp_path / "temp").write_bytes(b"new")
    (tmp_path / "taken").write_bytes(b"old")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(FileExistsError):
            rename_noreplace(folder, "temp", "taken")
        rename_noreplace(folder, "temp", "free")
    finally:
        os.close(folder)

    assert (tmp_path / "taken").read_bytes() == b"old"
    assert (tmp_path / "free").read_bytes() == b"new"


# Skills


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_an_upload_is_hashed_before_and_after_it_is_visible(tmp_path: Path, algorithm: str) -> None:
    destination = destination_at(tmp_path / "out")
    upload, receipts = begin(destination)
    passed: list[int] = []

    before = destination.hash_upload(upload, algorithm, passed.append)
    destination.complete_upload(upload, receipts)
    after = destination.hash_upload(upload, algorithm, passed.append)

    assert before == after == hashlib.new(algorithm, DATA).hexdigest()
    assert sum(passed) == 2 * len(DATA)


def test_hashing_can_be_stopped_and_knows_its_algorithms(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "out")
    upload, _ = begin(destination)

    def stop(count: int) -> None:
        raise StopRequested("paused")

    with pytest.raises(StopRequested):
        destination.hash_upload(upload, "sha256", stop)
    with pytest.raises(InvalidValue):
        destination.hash_upload(upload, "crc16", lambda count: None)
    destination.abort_upload(upload)
    with pytest.raises(UploadNotFound):
        destination.hash_upload(upload, "sha256", lambda count: None)


def test_parts_lost_by_a_reboot_are_named(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "out")
    upload, receipts = begin(destination)
    receipts = [
        replace(each, crc64nvme=crc64nvme(DATA[part.span.start : part.span.stop]))
        for each, part in zip(receipts, PARTS, strict=True)
    ]
    after_reboot = replace(LocalUpload.decode(upload), boot="0000-dead").encode()
    assert destination.lost_parts(after_reboot, PARTS, receipts) == []

    with temp_of(tmp_path).open("r+b") as file:
        file.seek(PART)
        file.write(bytes(4096))
    unproven = [*receipts[:2], replace(receipts[2], crc64nvme=None)]

    assert destination.lost_parts(upload, PARTS, unproven) == ()
    assert destination.lost_parts(after_reboot, PARTS, receipts) == [2]
    assert destination.lost_parts(after_reboot, PARTS, unproven) == [2, 3]


def test_a_file_cut_short_by_a_reboot_has_lost_its_last_parts(tmp_path: Path) -> None:
    destination = destination_at(tmp_path / "out")
    upload, receipts = begin(destination)
    receipts = [
        replace(each, crc64nvme=crc64nvme(DATA[part.span.start : part.span.stop]))
        for each, part in zip(receipts, PARTS, strict=True)
    ]
    os.truncate(temp_of(tmp_path), PART + 1)

    after_reboot = replace(LocalUpload.decode(upload), boot="0000-dead").encode()

    assert destination.lost_parts(after_reboot, PARTS, receipts) == [2, 3]


# Confinement


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a folder in it, and outside of it a folder with a secret."""
    (tmp_path / "root" / "inside").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    return tmp_path / "root"


def test_paths_below_a_root_are_served(root: Path) -> None:
    send(destination_at(root / "new" / "folder" / "out", Path("/elsewhere"), root), DATA, PART)

    source = source_at(root / "new" / "folder" / "out", root)
    assert read_all(source.read_range(ByteRange(0, len(DATA)), validator=source.stat().validator)) == DATA


def test_a_root_that_is_not_mounted_loses_no_upload(root: Path) -> None:
    destination = destination_at(root / "inside" / "out", root)
    upload, receipts = begin(destination)
    root.rename(root.parent / "unmounted")

    for call in (destination.existing, lambda: put(destination, upload, PARTS[0], DATA)):
        with pytest.raises(IoFailed, match="is it mounted"):
            call()

    (root.parent / "unmounted").rename(root)
    destination.complete_upload(upload, receipts)
    assert (root / "inside" / "out").read_bytes() == DATA


@pytest.mark.parametrize("path", ["outside/secret", "root-too", "root", "outside"])
def test_paths_outside_of_the_roots_are_refused_before_any_io(root: Path, path: str) -> None:
    with pytest.raises(InvalidValue, match="below one of"):
        source_at(root.parent / path, root)
    with pytest.raises(InvalidValue, match="below one of"):
        destination_at(root.parent / path, root)


@pytest.mark.parametrize("key", ["{root}/../outside/secret", "{root}/inside/../../outside/secret", "relative", "/a\0b"])
def test_dots_are_refused_even_if_they_got_past_the_url_parser(root: Path, key: str) -> None:
    location = Location(schemes()["file"], "file:", "file:", key=key.format(root=root))

    for opened in (open_source, open_destination):
        with pytest.raises(InvalidValue):
            opened(location, Profile("p"), Options(), Services(roots=(str(root),)))


def test_no_link_below_a_root_is_followed(root: Path) -> None:
    (root / "folder-link").symlink_to(root.parent / "outside")
    (root / "inner-link").symlink_to("inside")
    (root / "file-link").symlink_to(root.parent / "outside" / "secret")

    for path in ("folder-link/secret", "file-link"):
        with pytest.raises(InvalidValue, match="symbolic links"):
            source_at(root / path, root).stat()
    for path in ("folder-link/out", "folder-link/new/out", "inner-link/out"):
        with pytest.raises(InvalidValue, match="symbolic links"):
            destination_at(root / path, root).create_upload(plan(PARTS))

    assert os.listdir(root.parent / "outside") == ["secret"]


def test_a_dangling_link_below_a_root_makes_no_folder_elsewhere(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "outside" / "new")

    with pytest.raises(InvalidValue, match="symbolic links"):
        destination_at(root / "link" / "out", root).create_upload(plan(PARTS))

    assert not (root.parent / "outside" / "new").exists()


def test_a_folder_swapped_for_a_link_between_calls_is_not_followed(root: Path) -> None:
    destination = destination_at(root / "inside" / "out", root)
    upload, receipts = begin(destination)
    (root / "inside").rename(root.parent / "moved")
    (root / "inside").symlink_to(root.parent / "outside")

    refused: list[Callable[[], object]] = [
        destination.existing,
        lambda: put(destination, upload, PARTS[0], DATA),
        lambda: destination.complete_upload(upload, receipts),
        lambda: destination.abort_upload(upload),
        lambda: destination.hash_upload(upload, "md5", lambda count: None),
        destination.remove,
        destination.as_source().stat,
    ]
    for call in refused:
        with pytest.raises(InvalidValue, match="symbolic links"):
            call()

    assert os.listdir(root.parent / "outside") == ["secret"]


def test_a_source_swapped_for_a_link_between_calls_is_not_followed(root: Path) -> None:
    (root / "inside" / "in").write_bytes(DATA)
    source = source_at(root / "inside" / "in", root)
    validator = source.stat().validator
    (root / "inside" / "in").unlink()
    (root / "inside" / "in").symlink_to(root.parent / "outside" / "secret")

    with pytest.raises(InvalidValue, match="symbolic links"):
        source.read_range(ByteRange(0, 6), validator=validator)


def test_a_confined_path_swapped_all_the_time_never_leads_outside(root: Path) -> None:
    (root / "inside" / "secret").write_bytes(b"public")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            (root / "inside").rename(root / "aside")
            (root / "inside").symlink_to(root.parent / "outside")
            (root / "inside").unlink()
            (root / "aside").rename(root / "inside")

    source = source_at(root / "inside" / "secret", root)
    met: set[bytes] = set()
    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        deadline = time.monotonic() + 20
        attempts = 0
        while (attempts < 1000 or not met >= {b"public", b"invalid_value"}) and time.monotonic() < deadline:
            attempts += 1
            try:
                met.add(read_all(source.read_range(ByteRange(0, 6), validator=Validator("none"))))
            except (InvalidValue, IoFailed) as exc:
                met.add(exc.code.encode())
    finally:
        done.set()
        swapper.join()

    assert met >= {b"public", b"invalid_value"}
    assert met <= {b"public", b"invalid_value", b"local_file_removed", b"io"}


# Identity


def test_the_same_file_has_one_identity_through_links_and_dots(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    same = {
        destination_identity(str(path))
        for path in (tmp_path / "folder/out", tmp_path / "link/out", f"{tmp_path}//folder/./out")
    }

    assert len(same) == 1
    assert destination_identity(str(tmp_path / "folder/other")) not in same
    assert destination_identity(str(tmp_path / "out")) not in same


def test_a_file_in_folders_that_are_not_there_yet_has_an_identity(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)

    assert destination_identity(f"{tmp_path}/a/b/out") == destination_identity(f"{tmp_path}/link/a/b/out")
    assert destination_identity(f"{tmp_path}/a/b/out") != destination_identity(f"{tmp_path}/b/out")
