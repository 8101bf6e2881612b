"""Every size at an edge, on every kind of way: the bytes arrive, in as many parts as planned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.shared import KIB, MIB, Site, noise, partial_files, sha256

pytest_plugins = ["tests.e2e.calm"]

SIZES: dict[str, Callable[[int], int]] = {
    "nothing": lambda part: 0,
    "one byte": lambda part: 1,
    "a part less one": lambda part: part - 1,
    "a part": lambda part: part,
    "a part and one": lambda part: part + 1,
    "three parts": lambda part: 3 * part,
}
LOCAL_PART, STORE_PART = 64 * KIB, 5 * MIB


@pytest.fixture(params=SIZES)
def size_of(request: pytest.FixtureRequest) -> Callable[[int], int]:
    return SIZES[request.param]


def parts(size_bytes: int, part_bytes: int) -> int:
    return max(1, -(-size_bytes // part_bytes))


def test_from_the_web_to_a_file(site: Site, size_of: Callable[[int], int]) -> None:
    data = noise(size_of(LOCAL_PART))
    url = site.web.serve("/x.bin", data)
    target = site.folder / "target.bin"

    done = site.run(url, target, part_size=LOCAL_PART)

    assert target.read_bytes() == data
    assert (done.result["size_bytes"], done.result["parts"]) == (len(data), parts(len(data), LOCAL_PART))
    assert sum(each.bytes_sent for each in site.gets("/x.bin")) - len(data) in (0, 1)  # a probe may ask for one byte
    assert partial_files(site.folder) == []


def test_from_file_to_file(site: Site, size_of: Callable[[int], int]) -> None:
    source = site.file(noise(size_of(LOCAL_PART)))
    target = site.folder / "target.bin"

    done = site.run(source, target, part_size=LOCAL_PART)

    assert target.read_bytes() == source.read_bytes()
    assert done.result["parts"] == parts(source.stat().st_size, LOCAL_PART)
    assert partial_files(site.folder) == []


def test_from_a_file_to_the_store_and_back(site: Site, size_of: Callable[[int], int]) -> None:
    source = site.file(noise(size_of(STORE_PART)))
    target, key = site.folder / "target.bin", site.key()

    up = site.run(source, site.store.url(key), part_size=STORE_PART)
    stored = site.store.read(key)
    down = site.run(site.store.url(key), target, part_size=STORE_PART)

    assert sha256(stored) == sha256(source) == sha256(target)
    assert up.result["parts"] == down.result["parts"] == parts(len(stored), STORE_PART)
    assert site.store.uploads(key) == 0


@pytest.mark.parametrize("size_bytes", [0, 1, 100_000])
def test_by_a_put_to_the_web(site: Site, size_bytes: int) -> None:
    source = site.file(noise(size_bytes))

    site.run(source, f"{site.web.base}/up.bin")

    assert site.web.objects["/up.bin"].content == source.read_bytes()


def test_an_object_that_fits_no_limit_is_refused_with_the_limit_named(site: Site, tmp_path: Path) -> None:
    huge = tmp_path / "huge.bin"
    with huge.open("wb") as file:
        file.truncate(17 * MIB)

    assert site.fail(huge, "mem:" + site.key()) == (114, "object_too_large")
