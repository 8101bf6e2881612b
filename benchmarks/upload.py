"""File -> S3 in parts of 16 MiB, four in flight."""

from __future__ import annotations

import itertools
from functools import partial

from benchmarks import peers, report
from benchmarks.bench import Bench, write_random
from benchmarks.house import QUANTUM, SHORT_QUANTUM, House
from benchmarks.measure import Sample
from benchmarks.rounds import OURS, run_rounds
from tests.servers.s3_server import S3Server

BUCKET, PART_MIB, IN_FLIGHT = "bench", 16, 4


def run(bench: Bench) -> None:
    source = write_random(bench.folder / "object.bin", bench.size_bytes)
    with S3Server(bench.folder / "s3") as server:
        server.make_bucket(BUCKET)
        profile = {f"profile_s3__{key}": value for key, value in server.profile.items()}
        with (
            House(bench.folder / "house", processes=bench.processes, **profile) as house,
            House(bench.folder / "quantum", processes=bench.processes, **profile, **SHORT_QUANTUM) as quantum,
        ):
            keys = (f"object-{number}" for number in itertools.count())

            def ours(house: House) -> Sample:
                key = next(keys)
                options = {"part_size": f"{PART_MIB}MiB", "parts_in_flight": IN_FLIGHT}
                sample, _ = house.transfer(str(source), f"s3://{BUCKET}/{key}", **options)
                return checked(key, sample)

            def theirs(peer: peers.Peer) -> Sample:
                key = next(keys)
                return checked(key, peer.run(key))

            def checked(key: str, sample: Sample) -> Sample:
                where = {"Bucket": BUCKET, "Key": key}
                assert server.client().head_object(**where)["ContentLength"] == bench.size_bytes
                server.client().delete_object(**where)
                return sample

            contestants = {OURS: partial(ours, house), QUANTUM: partial(ours, quantum)}
            for peer in peers.uploaders(source, server, BUCKET, part_mib=PART_MIB, in_flight=IN_FLIGHT):
                contestants[peer.name] = partial(theirs, peer)
            report.heading(
                f"file -> S3, {bench.size_bytes // report.MIB} MiB, parts of {PART_MIB} MiB, {IN_FLIGHT} in flight",
                *peers.missing("rclone", "s5cmd"),
                report.load(),
            )
            report.contest(run_rounds(contestants, bench.rounds))
