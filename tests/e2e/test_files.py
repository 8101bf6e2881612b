"""Names, folders, permissions, existing files, expected checksums, and sources that change under the transfer."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import DuplicateTransfer, InvalidSpec
from orchestrator.states import State
from tests.e2e import on_small_disk
from tests.e2e.fleet import Fleet
from tests.e2e.shared import BUCKET, KIB, QUICK_RETRY, STORE, Site, noise, partial_files
from tests.servers.logging_proxy import LoggingProxy
from tests.servers.process import ServerMissing, wait_until

pytest_plugins = ["tests.e2e.calm"]

PATH = "/object.bin"
DATA = noise(3 * 64 * KIB)
PROJECT = Path(__file__).parents[2]


# names


@pytest.mark.parametrize(
    "name",
    [
        "grüße aus Köln.bin",
        "日本語.tar.gz",
        "🙂.bin",
        "a b%20&?#.bin",
        "quote'\"`$(id).bin",
        "-rf",
        ".hidden",
        "con.",
        "e\u0301 is not \u00e9",
        "x" * 255,
    ],
)
def test_a_path_means_the_file_of_exactly_that_name(site: Site, name: str) -> None:
    source = site.file(DATA)
    target = site.folder / "to" / name

    site.run(source, target)
    site.run(target, site.folder / "back.bin")

    assert os.listdir(target.parent) == [name]
    assert (site.folder / "back.bin").read_bytes() == DATA


@pytest.mark.parametrize("name", ["ключ/с пробелом и ümläut.bin", "a+b=c&d?e#f%20.bin", "-/🙂"])
def test_a_key_means_the_object_of_exactly_that_key(site: Site, name: str) -> None:
    key = f"{site.key()}/{name}"

    site.run(site.file(DATA), site.store.url(key))
    site.run(site.store.url(key), site.folder / "back.bin")

    assert site.store.exists(key)
    assert (site.folder / "back.bin").read_bytes() == DATA


@pytest.mark.parametrize(
    ("path", "disposition", "expected"),
    [
        ("/a/plain.bin", None, "plain.bin"),
        ("/a/plain.bin?sig=1", None, "plain.bin"),
        ("/a/x.bin", 'attachment; filename="report.pdf"', "report.pdf"),
        ("/a/x.bin", "attachment; filename*=UTF-8''gr%C3%BC%C3%9Fe.txt", "grüße.txt"),
        ("/a/x.bin", 'attachment; filename="../../etc/passwd"', ".._.._etc_passwd"),
        ("/a/x.bin", 'attachment; filename="..\\\\..\\\\boot.ini"', ".._.._boot.ini"),
        ("/a/x.bin", 'attachment; filename="/etc/cron.d/evil"', "_etc_cron.d_evil"),
        ("/a/%2E%2E%2Fevil.bin", None, ".._evil.bin"),
        ("/", None, "download"),
    ],
)
def test_a_folder_as_destination_takes_the_name_that_the_source_suggests(
    site: Site, path: str, disposition: str | None, expected: str
) -> None:
    headers = {"Content-Disposition": disposition} if disposition else {}
    site.web.serve(path.partition("?")[0], DATA, headers=headers)
    folder = site.folder / "downloads"

    done = site.run(site.web.base + path, f"{folder}/")

    (name,) = os.listdir(folder)
    assert name == expected
    assert (folder / name).read_bytes() == DATA
    assert done.result["name"] == name
    assert sorted(os.listdir(site.folder)) == ["downloads"]


def test_a_file_keeps_its_name_in_a_folder(site: Site) -> None:
    source = site.file(DATA, "grüße.bin")

    site.run(source, f"{site.folder}/sub/")

    assert (site.folder / "sub" / source.name).read_bytes() == DATA


def test_two_transfers_into_one_folder_do_not_meet(site: Site) -> None:
    for name in ("/one.bin", "/two.bin"):
        site.web.serve(name, DATA)

    ids = [site.submit(site.web.base + name, f"{site.folder}/both/") for name in ("/one.bin", "/two.bin")]
    for each in ids:
        site.fleet.wait(each)

    assert sorted(os.listdir(site.folder / "both")) == ["one.bin", "two.bin"]


def test_two_sources_of_one_name_into_one_folder_are_one_duplicate(site: Site) -> None:
    site.web.serve("/a/same.bin", DATA)
    site.web.fault("/a/same.bin", method="GET", drip_seconds=0.02)
    first = site.submit(f"{site.web.base}/a/same.bin", f"{site.folder}/both/")
    site.fleet.wait_leased(first)

    second = site.submit(site.file(DATA, "same.bin"), f"{site.folder}/both/")
    refused = site.fleet.wait_state(second, State.FAILED)
    with pytest.raises(DuplicateTransfer) as raised:
        site.submit(site.folder / "same.bin", site.folder / "both" / "same.bin")

    assert (refused.error["number"], refused.error["code"]) == (103, "duplicate")
    assert raised.value.transfer_id == first
    site.client.cancel(first)


@pytest.mark.parametrize("name", ["a#b?c%41 d.bin", "grüße.bin"])
def test_an_object_below_a_prefix_takes_the_name_of_the_file(site: Site, name: str) -> None:
    prefix = site.key()

    site.run(site.file(DATA, name), site.store.url(prefix) + "/")

    stored = name.replace("?", "_")
    assert site.store.read(f"{prefix}/{stored}") == DATA


# folders, permissions, disks


def test_a_missing_folder_is_made(site: Site) -> None:
    target = site.folder / "not" / "yet" / "here" / "target.bin"

    site.run(site.file(DATA), target)

    assert target.read_bytes() == DATA


def test_a_file_in_the_way_of_the_folder_is_named(site: Site) -> None:
    site.file(b"a file", "way")

    assert site.fail(site.file(DATA), site.folder / "way" / "target.bin") == (105, "io")

    assert (site.folder / "way").read_bytes() == b"a file"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o444])
def test_permission_bits_go_with_the_file(site: Site, mode: int) -> None:
    source = site.file(DATA)
    source.chmod(mode)
    target = site.folder / "target.bin"

    site.run(source, target)

    assert stat.S_IMODE(target.stat().st_mode) == mode


def test_a_full_disk_makes_it_wait_and_a_read_only_one_fails_it(tmp_path: Path) -> None:
    """The scenarios are in ``on_small_disk``: what is mounted there nobody else sees."""
    for command in (["unshare", "-rm"], ["unshare", "-m"]):
        if shutil.which("unshare") and not subprocess.run([*command, "true"], capture_output=True).returncode:
            break
    else:
        raise ServerMissing("no mount namespace can be made here: run as root, or allow user namespaces (unshare -rm)")
    argv = [*command, sys.executable, "-W", "error", "-m", on_small_disk.__name__, str(tmp_path)]

    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=90, check=False)

    assert done.returncode == 0, done.stderr


# what is there already


@pytest.mark.parametrize("on_exists", [None, "fail"])
def test_an_existing_file_is_refused_before_a_byte_is_read(site: Site, on_exists: str | None) -> None:
    site.web.serve(PATH, DATA)
    target = site.file(b"old", "target.bin")

    assert site.fail(site.web.base + PATH, target, on_exists=on_exists) == (105, "destination_exists")

    assert target.read_bytes() == b"old"
    assert site.gets(PATH) == []
    assert partial_files(site.folder) == []


def test_an_existing_file_is_skipped(site: Site) -> None:
    site.web.serve(PATH, DATA)
    target = site.file(b"old", "target.bin")

    done = site.run(site.web.base + PATH, target, on_exists="skip")

    assert done.state is State.COMPLETED
    assert done.result["skipped"] is True
    assert target.read_bytes() == b"old"
    assert site.gets(PATH) == []


def test_an_existing_file_is_replaced_at_the_end_and_not_before(site: Site) -> None:
    site.web.serve(PATH, DATA)
    stalled = site.web.fault(PATH, method="GET", after=1, stall=10)
    target = site.file(b"old", "target.bin")

    transfer_id = site.submit(site.web.base + PATH, target, part_size=64 * KIB, on_exists="overwrite")
    wait_until(lambda: site.client.get(transfer_id).progress.parts_done == 1, "the first part is stored")
    assert target.read_bytes() == b"old"
    stalled.times = 0
    site.fleet.wait(transfer_id)

    assert target.read_bytes() == DATA


@pytest.mark.parametrize(("on_exists", "expected"), [("fail", b"late"), ("skip", b"late"), ("overwrite", DATA)])
def test_a_file_that_appears_in_mid_transfer_is_met_at_the_commit(site: Site, on_exists: str, expected: bytes) -> None:
    site.web.serve(PATH, DATA)
    stalled = site.web.fault(PATH, method="GET", after=1, stall=10)
    target = site.folder / "target.bin"
    transfer_id = site.submit(site.web.base + PATH, target, part_size=64 * KIB, on_exists=on_exists)
    wait_until(lambda: site.client.get(transfer_id).progress.parts_done == 1, "the first part is stored")

    target.write_bytes(b"late")
    stalled.times = 0
    ended = site.fleet.wait_state(transfer_id, State.COMPLETED, State.FAILED)

    assert ended.state is (State.FAILED if on_exists == "fail" else State.COMPLETED)
    assert ended.error.get("code") == ("destination_exists" if on_exists == "fail" else None)
    assert target.read_bytes() == expected


@pytest.mark.parametrize(
    ("on_exists", "expected"), [(None, DATA), ("overwrite", DATA), ("skip", b"old"), ("fail", b"old")]
)
def test_an_existing_object_is_replaced_unless_the_spec_says_otherwise(
    site: Site, on_exists: str | None, expected: bytes
) -> None:
    key = site.key()
    url = site.store.put(key, b"old")

    if on_exists == "fail":
        assert site.fail(site.file(DATA), url, on_exists=on_exists) == (105, "destination_exists")
    else:
        site.run(site.file(DATA), url, on_exists=on_exists)

    assert site.store.read(key) == expected


# expected checksums


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
@pytest.mark.parametrize("place", ["file", "store", "mem"])
def test_the_right_checksum_is_proof(site: Site, algorithm: str, place: str) -> None:
    digest = hashlib.new(algorithm, DATA).hexdigest().upper()

    done = site.run(site.file(DATA), _place(site, place), checksum=f"{algorithm}:{digest}")

    assert done.result["verified"] == algorithm


@pytest.mark.parametrize("place", ["file", "store", "mem"])
def test_a_wrong_checksum_leaves_nothing_under_the_final_name(site: Site, place: str) -> None:
    destination = _place(site, place)

    assert site.fail(site.file(DATA), destination, checksum="sha256:" + "0" * 64) == (116, "checksum_mismatch")

    assert not (site.folder / "target.bin").exists()
    if place == "store":
        assert not site.store.exists(destination.rpartition("/")[2])
    if place == "mem":
        assert site.fail(destination, site.folder / "target.bin") == (109, "not_found")
    wait_until(lambda: partial_files(site.folder) == [], "wrong bytes are not kept")


def test_a_wrong_checksum_leaves_an_existing_file_as_it_was(site: Site) -> None:
    target = site.file(b"old", "target.bin")

    ended = site.fail(site.file(DATA), target, checksum="md5:" + "0" * 32, on_exists="overwrite")

    assert ended == (116, "checksum_mismatch")
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize(
    "checksum", ["sha256:" + "0" * 63, "sha256:" + "g" * 64, "crc32:00000000", "0" * 64, ":", "", "sha256"]
)
def test_a_malformed_checksum_is_refused_when_submitted(site: Site, checksum: str) -> None:
    with pytest.raises(InvalidSpec) as raised:
        site.submit(site.file(DATA), site.folder / "target.bin", checksum=checksum)

    assert (raised.value.field, raised.value.number) == ("checksum", 102)
    assert "sha256 (64 digits)" in raised.value.allowed


def _place(site: Site, place: str) -> str:
    key = site.key()
    return {"file": str(site.folder / "target.bin"), "store": site.store.url(key), "mem": f"mem:{key}"}[place]


@pytest.mark.parametrize("times", [1, 100], ids=["at first", "at all"])
def test_a_wrong_object_that_cannot_be_removed(
    site: Site, proxied_fleet: Fleet, proxied: LoggingProxy, times: int
) -> None:
    """Tried again while that may help; in the end the checksum is what is named, not the removal."""
    key = site.key()
    proxied.answer("DELETE", key, status=503, times=times)
    transfer_id = proxied_fleet.client.submit(
        str(site.file(DATA)),
        f"s3://{BUCKET}/{key}",
        destination_profile=STORE,
        checksum="md5:" + "0" * 32,
        retry={**QUICK_RETRY, "prepare_attempts": 3},
    )

    failed = proxied_fleet.wait_state(transfer_id, State.FAILED)

    assert failed.error["code"] == "checksum_mismatch"
    assert site.store.exists(key) == (times > 1)
    assert ("could not be removed" in failed.error["message"]) == (times > 1)


def test_a_wrong_object_that_replaced_another_is_not_removed_too(site: Site) -> None:
    key = site.key()
    url = site.store.put(key, b"old")

    assert site.fail(site.file(DATA), url, checksum="sha256:" + "0" * 64) == (116, "checksum_mismatch")

    assert site.store.exists(key)


# sources that change


def halfway(site: Site, **options: object) -> tuple[str, Path, Path]:
    """A transfer from file to file that is paused between two of its parts."""
    source = site.file(noise(300 * KIB), "moving.bin")
    target = site.folder / "target.bin"
    transfer_id = site.submit(source, target, part_size=100, parts_in_flight=1, **options)
    wait_until(lambda: site.client.get(transfer_id).progress.parts_done > 0, "a part is stored")
    site.client.pause(transfer_id)
    wait_until(lambda: not site.fleet.live_leases(transfer_id), "the part is handed back")
    assert site.client.get(transfer_id).progress.parts_done < 3000
    return transfer_id, source, target


def _touch(source: Path) -> None:
    os.utime(source, ns=(1, 1))


def _rewrite(source: Path) -> None:
    source.write_bytes(noise(300 * KIB + 1)[1:])


def _replace(source: Path) -> None:
    other = source.with_name("other")
    other.write_bytes(source.read_bytes())
    shutil.copystat(source, other)
    other.replace(source)


@pytest.mark.parametrize("change", [_touch, _rewrite, _replace])
def test_a_file_that_changed_between_pause_and_resume_is_not_mixed(site: Site, change: Callable[[Path], None]) -> None:
    transfer_id, source, target = halfway(site)

    change(source)
    site.client.resume(transfer_id)
    failed = site.fleet.wait_state(transfer_id, State.FAILED)

    assert (failed.error["number"], failed.error["code"]) == (114, "source_changed")
    assert not target.exists()


def test_with_restart_a_file_that_changed_is_copied_anew(site: Site) -> None:
    transfer_id, source, target = halfway(site, on_source_change="restart")

    _rewrite(source)
    site.client.resume(transfer_id)
    site.fleet.wait(transfer_id)

    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("change", [_touch, _rewrite, _replace])
def test_a_file_that_changes_while_it_is_read_is_not_mixed(site: Site, change: Callable[[Path], None]) -> None:
    source = site.file(noise(300 * KIB), "moving.bin")
    target = site.folder / "target.bin"
    transfer_id = site.submit(source, target, part_size=100, parts_in_flight=1)
    wait_until(lambda: site.client.get(transfer_id).progress.parts_done > 0, "a part is stored")

    change(source)
    failed = site.fleet.wait_state(transfer_id, State.FAILED)

    assert failed.error["number"] in (114, 122)
    assert failed.progress.parts_done < 3000
    assert not target.exists()


def test_a_file_that_is_removed_while_it_is_read_is_named_so(site: Site) -> None:
    source = site.file(noise(300 * KIB), "moving.bin")
    target = site.folder / "target.bin"
    transfer_id = site.submit(source, target, part_size=100, parts_in_flight=1)
    wait_until(lambda: site.client.get(transfer_id).progress.parts_done > 0, "a part is stored")

    source.unlink()
    failed = site.fleet.wait_state(transfer_id, State.FAILED)

    assert (failed.error["number"], failed.error["code"]) == (122, "local_file_removed")
    assert not target.exists()


def test_a_partial_file_that_vanished_is_written_anew(site: Site) -> None:
    transfer_id, source, target = halfway(site)

    (partial,) = partial_files(site.folder)
    (site.folder / partial).unlink()
    site.client.resume(transfer_id)
    site.fleet.wait(transfer_id)

    assert target.read_bytes() == source.read_bytes()


# one file, two paths


def test_two_paths_to_one_file_are_found_to_be_one(site: Site) -> None:
    real, link = site.folder / "real", site.folder / "link"
    real.mkdir()
    link.symlink_to(real)
    site.web.serve(PATH, DATA)
    stalled = site.web.fault(PATH, method="GET", drip_seconds=0.02)
    first = site.submit(site.web.base + PATH, real / "target.bin")
    site.fleet.wait_leased(first)

    second = site.submit(site.file(DATA), link / "target.bin")
    refused = site.fleet.wait_state(second, State.FAILED)

    assert (refused.error["number"], refused.error["code"]) == (103, "duplicate")
    assert first in refused.error["message"]
    stalled.times = 0
    site.client.cancel(first)
