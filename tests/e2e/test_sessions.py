"""``haulage sessions`` on a real S3 server and the OSS stand-in: what is listed, what is aborted, what never is."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.states import State
from providers.plans_signing import plan_presigned_upload
from tests.e2e.shared import BUCKET, MIB, STORE, Site, noise
from tests.e2e.test_cli import Done, haulage
from tests.servers.logging_proxy import LoggingProxy
from tests.servers.oss_server import OssServer

pytest_plugins = ["tests.e2e.calm"]

DATA = noise(11 * MIB)


@pytest.fixture
def prefix() -> str:
    """A folder of its own in the bucket."""
    return f"{uuid.uuid4().hex}/"


@pytest.fixture(scope="module")
def oss() -> Iterator[OssServer]:
    with OssServer() as server:
        server.make_bucket(BUCKET)
        yield server


def sessions(site: Site, *argv: str, environment: dict[str, str] | None = None) -> Done:
    """No secret of a profile is in any answer."""
    secrets = [site.store.server.secret_key, *(environment or {}).values()]
    done = haulage(site, "sessions", *argv, environment=environment)
    assert not [each for each in secrets if len(each) > 30 and each in done.out + done.err]
    return done


def rows(done: Done) -> list[dict[str, Any]]:
    assert done.code == 0, done.err
    return [json.loads(each) for each in done.out.splitlines()]


def foreign(site: Site, key: str) -> str:
    """Opened by somebody else, with boto3."""
    upload: str = site.store.server.client().create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    return upload


def live(site: Site, key: str) -> str:
    """The id of a transfer whose upload is open, and whose parts move and move."""
    site.web.serve("/slow.bin", DATA)
    site.web.fault("/slow.bin", method="GET", after=1, drip_seconds=0.02)
    options: dict[str, Any] = {"destination_profile": STORE, "part_size": 5 * MIB}
    transfer_id = site.fleet.client.submit(f"{site.web.base}/slow.bin", site.store.url(key), **options)
    site.fleet.wait_leased(transfer_id)
    return transfer_id


def test_an_upload_of_somebody_else_is_aborted_only_when_told_and_old_enough(site: Site, prefix: str) -> None:
    keys = [f"{prefix}one.bin", f"{prefix}two ü&?.bin"]
    uploads = {foreign(site, key) for key in keys}
    beside = f"beside-{prefix}x"
    foreign(site, beside)
    there = (site.store.url(prefix), "--profile", STORE)

    listed = rows(sessions(site, "ls", *there, "--json"))
    aged = sessions(site, "ls", *there, "--older", "1d")
    young = sessions(site, "abort", *there, "--yes")
    dry = sessions(site, "abort", *there, "--older", "0s")
    still = [site.store.uploads(key) for key in keys]
    done = sessions(site, "abort", *there, "--older", "0s", "--yes", "--json")

    assert {each["upload_id"] for each in listed} == uploads
    assert {each["destination"] for each in listed} == {site.store.url(key) for key in keys}
    assert all(not each["known"] and each["age_seconds"] < 60 for each in listed)
    assert (aged.code, aged.out) == (0, "")
    assert (young.code, young.out) == (0, "")
    assert "2 too young" in young.err
    assert dry.out.count("would abort: ") == 2
    assert "2 to abort: --yes does it" in dry.err
    assert still == [1, 1]
    assert {(each["upload_id"], each["outcome"]) for each in rows(done)} == {(each, "aborted") for each in uploads}
    assert [site.store.uploads(key) for key in [*keys, beside]] == [0, 0, 1]


def test_the_upload_of_a_transfer_that_is_not_over_is_never_aborted(site: Site, prefix: str) -> None:
    key = f"{prefix}live.bin"
    transfer_id = live(site, key)
    theirs = foreign(site, f"{prefix}theirs.bin")
    there = (site.store.url(prefix), "--profile", STORE)

    mine = next(each for each in rows(sessions(site, "ls", "--json")) if each["transfer_id"] == transfer_id)
    tabbed = [each.split("\t") for each in sessions(site).out.splitlines()]
    listed = {each["upload_id"]: each for each in rows(sessions(site, "ls", *there, "--json"))}
    swept = sessions(site, "abort", *there, "--older", "0s", "--yes")
    refused = sessions(site, "abort", transfer_id, "--yes")
    site.fleet.client.pause(transfer_id)
    site.fleet.wait_state(transfer_id, State.PAUSED)
    paused = sessions(site, "abort", *there, "--older", "0s", "--yes")
    left = site.store.uploads(key)
    site.fleet.client.cancel(transfer_id)
    site.fleet.wait_state(transfer_id, State.CANCELLED)

    assert (mine["state"], mine["destination"]) == ("running", site.store.url(key))
    assert {upload: each["known"] for upload, each in listed.items()} == {mine["upload_id"]: True, theirs: False}
    assert listed[mine["upload_id"]]["transfer_id"] == transfer_id
    assert ["known", transfer_id, "running"] in [each[:3] for each in tabbed]
    assert swept.code == 0
    assert swept.out.count("aborted: ") == 1
    assert theirs in swept.out
    assert refused.code == 1
    assert refused.err.startswith(f"invalid_state: transfer {transfer_id} is running")
    assert (paused.code, paused.out, left) == (0, "", 1)


def test_an_upload_at_the_key_of_a_waiting_transfer_counts_as_known(site: Site, prefix: str) -> None:
    """It may be its own, opened a moment ago and not written down yet."""
    key = f"{prefix}paused.bin"
    options: dict[str, Any] = {"destination_profile": STORE}
    transfer_id = site.fleet.client.submit_paused(site.file(DATA), site.store.url(prefix) + "paused.bin", **options)
    foreign(site, key)

    (listed,) = rows(sessions(site, "ls", site.store.url(prefix), "--profile", STORE, "--json"))
    done = sessions(site, "abort", site.store.url(prefix), "--profile", STORE, "--older", "0s", "--yes")
    site.fleet.client.cancel(transfer_id)

    assert (listed["known"], listed["transfer_id"], listed["state"]) == (True, transfer_id, "paused")
    assert (done.code, done.out, site.store.uploads(key)) == (0, "", 1)


def test_the_upload_of_a_presigned_plan_that_has_not_begun_is_known(site: Site, prefix: str) -> None:
    key = f"{prefix}a b.bin"
    plan = plan_presigned_upload(site.store.server.profile, site.store.url(key), len(DATA), part_size=5 * MIB)
    transfer_id = site.fleet.client.submit_paused(site.file(DATA), plan)

    (listed,) = rows(sessions(site, "ls", site.store.url(prefix), "--profile", STORE, "--json"))
    done = sessions(site, "abort", site.store.url(prefix), "--profile", STORE, "--older", "0s", "--yes")
    left = site.store.uploads(key)
    site.fleet.client.cancel(transfer_id)

    assert (listed["known"], listed["transfer_id"], listed["state"]) == (True, transfer_id, "paused")
    assert (done.code, done.out, left) == (0, "", 1)


def test_what_a_cancelled_transfer_kept_is_aborted_by_its_id(site: Site, prefix: str) -> None:
    key = f"{prefix}kept.bin"
    site.web.serve("/slow.bin", DATA)
    site.web.fault("/slow.bin", method="GET", after=1, drip_seconds=0.02)
    options: dict[str, Any] = {"destination_profile": STORE, "part_size": 5 * MIB, "keep_partial": True}
    transfer_id = site.fleet.client.submit(f"{site.web.base}/slow.bin", site.store.url(key), **options)
    site.fleet.wait_leased(transfer_id)
    site.fleet.client.cancel(transfer_id)
    site.fleet.wait_state(transfer_id, State.CANCELLED)

    swept = sessions(site, "abort", site.store.url(prefix), "--profile", STORE, "--older", "0s", "--yes")
    dry = sessions(site, "abort", transfer_id)
    before = site.store.uploads(key)
    done = sessions(site, "abort", transfer_id, "--yes", "--json")
    again = sessions(site, "abort", transfer_id, "--yes")

    assert (swept.code, swept.out, before) == (0, "", 1)
    assert dry.out.startswith("would abort: ")
    assert [(each["state"], each["outcome"]) for each in rows(done)] == [("cancelled", "aborted")]
    assert site.store.uploads(key) == 0
    assert transfer_id not in site.fleet.ledger.sessions()
    assert again.code == 1
    assert again.err.startswith("transfer_not_found: ")


def test_one_that_cannot_be_aborted_is_told_and_the_others_are_aborted(site: Site, prefix: str) -> None:
    keys = [f"{prefix}{name}.bin" for name in ("bad", "gone", "good")]
    uploads = [foreign(site, key) for key in keys]
    with LoggingProxy(site.store.server.endpoint) as proxy:
        values = {**site.store.server.profile, "endpoint": proxy.endpoint}
        environment = {f"HAULAGE_PROFILE_BY__{name.upper()}": value for name, value in values.items()}
        proxy.answer("DELETE", keys[0], status=403, body=b"<Error><Code>AccessDenied</Code></Error>", times=9)
        proxy.answer("DELETE", keys[1], status=404, body=b"<Error><Code>NoSuchUpload</Code></Error>", times=9)
        command = ("abort", site.store.url(prefix), "--profile", "by", "--older", "0s", "--yes")
        done = sessions(site, *command, environment=environment)

    assert done.code == 1
    assert [line.partition(":")[0] for line in done.out.splitlines()] == ["failed", "aborted", "aborted"]
    assert all(upload in done.out for upload in uploads)
    assert done.err.startswith("forbidden: ")
    assert "2 aborted, 1 failed" in done.err
    assert [site.store.uploads(key) for key in keys] == [1, 1, 0]


def test_oss_too_names_and_drops_the_uploads_below_a_prefix(site: Site, oss: OssServer, prefix: str) -> None:
    bucket = oss.bucket(BUCKET)
    keys = [f"{prefix}{name}.bin" for name in ("a", "b ü&?", "c")]
    uploads = {bucket.init_multipart_upload(key).upload_id for key in keys}
    bucket.init_multipart_upload(f"other-{prefix}")
    environment = {f"HAULAGE_PROFILE_ALI__{name.upper()}": value for name, value in oss.profile.items()}
    there = (f"oss://{BUCKET}/{prefix}", "--profile", "ali")

    listed = rows(sessions(site, "ls", *there, "--json", environment=environment))
    done = rows(sessions(site, "abort", *there, "--older", "0s", "--yes", "--json", environment=environment))
    everything = rows(sessions(site, "ls", f"oss://{BUCKET}", "--profile", "ali", "--json", environment=environment))

    assert {each["upload_id"] for each in listed} == {each["upload_id"] for each in done} == uploads
    assert {each["destination"] for each in listed} == {f"oss://{BUCKET}/{key}" for key in keys}
    assert [each["destination"] for each in everything] == [f"oss://{BUCKET}/other-{prefix}"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["ls", "azblob://box/in/"], "Azure has no list of them"),
        (["abort", "/tmp/folder/"], ".haulage beside its final name"),
        (["ls", "https://host/x?signature=hidden"], "s3://bucket/prefix or oss://bucket/prefix"),
        (["abort", "s3://things/", "--profile", "nobody"], "a profile of this machine"),
        (["abort", "s3://things/", "--older", "soon"], "write 30m, 12h, 7d or 2w"),
        (["abort", "s0-00000000000", "--older", "1d"], "--older goes with a prefix"),
        (["ls", "--profile", STORE], "--profile goes with a prefix"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_asked_is_said_in_words(site: Site, argv: list[str], said: str) -> None:
    done = haulage(site, "sessions", *argv)

    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "hidden" not in done.err
