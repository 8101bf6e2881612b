"""How an object is cut: no byte missing or twice, never a part the destination refuses."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrator.plan import Plan, PlannedParts, check_part_size, plan_parts, plan_stream, stream_part_size
from providers.base import MIB, PartLimits
from providers.errors import InvalidValue, ObjectTooLarge
from providers.schemes import LOCAL_LIMITS, MEMORY_LIMITS, S3_LIMITS, SINGLE_PUT_LIMITS

SMALL = PartLimits(min_part_bytes=4, max_part_bytes=64, max_parts=20, max_object_bytes=1_000)

sizes = st.integers(0, 3_000)


@st.composite
def limits_of_a_store(draw: st.DrawFn) -> PartLimits:
    smallest = draw(st.integers(1, 50))
    return PartLimits(
        min_part_bytes=smallest,
        max_part_bytes=draw(st.integers(smallest, 4 * MIB)),
        max_parts=draw(st.integers(2, 100)),
        max_object_bytes=draw(st.integers(1, 10_000)),
    )


def covers(plan: Plan) -> None:
    parts = [plan.part(number) for number in range(1, plan.part_count + 1)]
    assert [each.number for each in parts] == list(range(1, len(parts) + 1))
    assert parts[0].span.start == 0
    assert parts[-1].span.stop == plan.size_bytes
    assert all(left.span.stop == right.span.start for left, right in pairwise(parts))
    assert {each.size_bytes for each in parts[:-1]} <= {plan.part_size_bytes}
    assert 0 < parts[-1].size_bytes <= plan.part_size_bytes or plan.size_bytes == 0


@given(sizes, limits_of_a_store(), st.none() | st.integers(1, 500))
def test_parts_cover_the_object_exactly_and_fit_every_limit(size: int, limits: PartLimits, wish: int | None) -> None:
    try:
        plan = plan_parts(size, limits, part_size_bytes=wish)
    except InvalidValue:
        assume(False)
    covers(plan)
    assert plan.part_count <= limits.max_parts
    assert limits.min_part_bytes <= plan.part_size_bytes <= limits.max_part_bytes
    assert wish is None or plan.part_size_bytes == wish


@given(st.integers(0, 10_000 * (5 << 30)))
def test_any_object_s3_can_hold_has_a_plan_it_accepts(size: int) -> None:
    plan = plan_parts(size, S3_LIMITS)

    assert plan.part_count <= 10_000
    assert 5 * MIB <= plan.part_size_bytes <= 5 << 30
    assert (plan.part_count - 1) * plan.part_size_bytes < max(size, 1) <= plan.part_count * plan.part_size_bytes


@pytest.mark.parametrize(
    ("size", "part_mib", "count"),
    [
        (0, 8, 1),
        (1, 8, 1),
        (8 * MIB, 8, 1),
        (8 * MIB + 1, 8, 2),
        (16_000 * MIB, 8, 2_000),
        (32_000 * MIB, 16, 2_000),
        (128_000 * MIB, 64, 2_000),
        (640_000 * MIB, 64, 10_000),
        (640_000 * MIB + 1, 65, 9_847),
    ],
)
def test_the_default_part_size_grows_with_the_object(size: int, part_mib: int, count: int) -> None:
    plan = plan_parts(size, LOCAL_LIMITS)

    assert (plan.part_size_bytes, plan.part_count) == (part_mib * MIB, count)


def test_an_empty_object_is_one_empty_part() -> None:
    plan = plan_parts(0, S3_LIMITS)

    assert plan.part_count == 1
    assert plan.part(1).size_bytes == 0


def test_a_destination_of_one_put_gets_one_part_of_any_size() -> None:
    assert plan_parts(1 << 40, SINGLE_PUT_LIMITS).part_count == 1
    assert plan_parts(100, SINGLE_PUT_LIMITS, part_size_bytes=7).part(1).size_bytes == 100


@pytest.mark.parametrize("wish", [3, 65, 1_000_000])
def test_a_part_size_out_of_the_limits_is_refused_with_what_is_allowed(wish: int) -> None:
    with pytest.raises(InvalidValue) as caught:
        plan_parts(100, SMALL, part_size_bytes=wish)

    assert (caught.value.field, caught.value.value) == ("part_size", wish)
    assert caught.value.allowed == "4 to 64 bytes"


def test_a_part_size_that_gives_too_many_parts_is_refused_with_the_least_that_fits() -> None:
    with pytest.raises(InvalidValue, match="at least 10 bytes, so that there are at most 20 parts"):
        plan_parts(200, SMALL, part_size_bytes=9)

    assert plan_parts(200, SMALL, part_size_bytes=10).part_count == 20


def test_an_object_of_more_than_all_parts_can_hold_is_refused() -> None:
    with pytest.raises(ObjectTooLarge, match="53687091200000 bytes in 10000 parts"):
        plan_parts(10_000 * (5 << 30) + 1, S3_LIMITS)


def test_an_object_too_large_for_the_destination_is_refused() -> None:
    with pytest.raises(ObjectTooLarge, match="at most 16777216 bytes") as caught:
        plan_parts(16 * MIB + 1, MEMORY_LIMITS)

    assert caught.value.number == 114


@pytest.mark.parametrize("number", [0, -1, 4])
def test_there_is_no_part_outside_the_plan(number: int) -> None:
    with pytest.raises(ValueError, match="no part"):
        Plan(30, 10, 3).part(number)


def test_a_stream_of_known_size_is_cut_like_any_other() -> None:
    plan = plan_stream(100, SMALL, part_size_bytes=10)

    covers(plan)
    assert plan.stream


def test_a_stream_of_unknown_size_has_no_count_yet_and_needs_more_than_one_put() -> None:
    plan = plan_stream(None, S3_LIMITS)

    assert (plan.size_bytes, plan.part_size_bytes, plan.part_count) == (None, 8 * MIB, 0)
    with pytest.raises(InvalidValue, match="source"):
        plan_stream(None, SINGLE_PUT_LIMITS)
    with pytest.raises(InvalidValue, match="part_size"):
        plan_stream(None, S3_LIMITS, part_size_bytes=1)


def test_parts_of_a_stream_of_unknown_size_grow_until_10_000_of_them_hold_4_tib() -> None:
    grown = [stream_part_size(number, 8 * MIB, S3_LIMITS) for number in range(1, 10_001)]

    assert grown[0] == 8 * MIB
    assert grown == sorted(grown)
    assert sum(grown) >= 4 << 40
    assert max(grown) <= S3_LIMITS.max_part_bytes
    check_part_size(max(grown), S3_LIMITS)


def test_parts_made_when_asked_for_are_those_of_the_plan() -> None:
    plan = plan_parts(10 * MIB + 1, PartLimits(), part_size_bytes=MIB)
    parts = PlannedParts(plan, [2, 5, 11])

    assert list(parts) == [plan.part(2), plan.part(5), plan.part(11)]
    assert (len(parts), parts[-1].size_bytes) == (3, 1)
    assert list(parts[1:]) == [plan.part(5), plan.part(11)]
