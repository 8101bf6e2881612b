"""The error trees: numbers and codes that others rely on, exactly where they belong, and picklable."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

import orchestrator.errors
import providers.errors
from orchestrator.errors import DuplicateTransfer, HaulageError, InvalidSpec, TransferFailed
from providers.errors import InvalidValue, ProviderError, Throttled

NUMBERS = {
    101: {"RuntimeFailed"},
    102: {"InvalidSpec", "InvalidValue", "UnknownScheme"},
    103: {"DuplicateTransfer"},
    104: {"SubmitFailed"},
    105: {"IoFailed", "LocalBusy", "DestinationExists"},
    106: {"TransportError", "Stalled", "CertificateRefused"},
    107: {"ClientClosed"},
    108: {"TransferNotFound", "TransferEnded"},
    109: {
        *("ResponseStatusError", "Throttled", "ServerFault", "Forbidden", "NotFound"),
        *("UploadNotFound", "InvalidPart", "CompletionUnknown"),
    },
    110: {"LengthUnknown"},
    111: {"QueueFull"},
    112: {"LedgerUnavailable"},
    113: {"ResponseParseError"},
    114: {"InvalidRange", "SourceChanged", "OffsetMoved", "OffsetStuck", "ObjectTooLarge"},
    115: {"SourceMissing"},
    116: {"ChecksumMismatch", "PartCorrupted"},
    117: {"InvalidState", "CredentialExpired", "SignerUnavailable", "SignerRefused"},
    118: {"LedgerCorrupt"},
    119: {"ProviderUnavailable"},
    120: {"TransferCancelled", "StopRequested"},
    121: {"DiskFull"},
    122: {"LocalFileRemoved"},
}
WITHOUT = {"ProviderError", "HaulageError", "TransferFailed", "WaitTimeout"}
RETRYABLE = {
    "TransportError",
    "Stalled",
    "Throttled",
    "ServerFault",
    "PartCorrupted",
    "LocalBusy",
    "OffsetMoved",
    "LedgerUnavailable",
}


def tree(root: type[Exception]) -> Iterator[type[Exception]]:
    """Our own classes only: a test or a worker may add some of its own below."""
    if root.__module__ in (orchestrator.errors.__name__, providers.errors.__name__):
        yield root
    for each in root.__subclasses__():
        yield from tree(each)


CLASSES = [*tree(ProviderError), *tree(HaulageError)]
SPECIAL: dict[str, Exception] = {
    "InvalidSpec": InvalidSpec("part_size", 3, "more"),
    "DuplicateTransfer": DuplicateTransfer("s0-1"),
    "TransferFailed": TransferFailed("s0-1", "disk_full", 121, "no space"),
    **{each.__name__: each("field", 3, "more") for each in tree(InvalidValue)},
}


def example(kind: type[Exception]) -> Exception:
    return SPECIAL.get(kind.__name__) or kind("what happened")


def test_each_number_is_on_exactly_the_right_classes() -> None:
    found: dict[int, set[str]] = {}
    for kind in CLASSES:
        found.setdefault(kind.number, set()).add(kind.__name__)  # type: ignore[attr-defined]

    assert found.pop(-1) == WITHOUT
    assert found == NUMBERS


def test_each_class_has_a_code_of_its_own_but_for_the_two_refusals() -> None:
    codes: dict[str, set[str]] = {}
    for kind in CLASSES:
        codes.setdefault(kind.code, set()).add(kind.__name__)  # type: ignore[attr-defined]

    shared = {code: names for code, names in codes.items() if len(names) > 1}
    assert shared == {"invalid_value": {"InvalidSpec", "InvalidValue"}}


def test_only_faults_that_may_pass_are_retryable() -> None:
    assert {kind.__name__ for kind in CLASSES if kind.retryable} == RETRYABLE  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_error_survives_pickling(kind: type[Exception]) -> None:
    """RC-16."""
    error = example(kind)

    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes

    assert type(again) is kind
    assert (str(again), vars(again)) == (str(error), vars(error))
    assert (again.code, again.number) == (error.code, error.number)  # type: ignore[attr-defined]


def test_pickling_keeps_what_a_retry_needs() -> None:
    again = pickle.loads(pickle.dumps(Throttled("429", retry_after_seconds=3.5, status=429)))  # noqa: S301

    assert (again.retry_after_seconds, again.status) == (3.5, 429)


def test_a_failed_transfer_keeps_its_cause_on_its_way_to_another_process() -> None:
    """RC-16: code, number, message and the server's status."""
    lost = TransferFailed("s0-1", "forbidden", 109, "no permission", 403)

    again = pickle.loads(pickle.dumps(lost))  # noqa: S301 - written a line above

    assert vars(again) == vars(lost)
    assert str(again) == str(lost) == "transfer s0-1 failed: forbidden: no permission"


@pytest.mark.parametrize("module", [providers.errors, orchestrator.errors], ids=lambda each: each.__name__)
def test_the_tree_in_the_docstring_is_the_tree(module: object) -> None:
    lines = [line for line in (module.__doc__ or "").splitlines() if "─" in line]
    drawn = {words[0]: words[1] for line in lines if (words := line.lstrip("│├└─ ").split())}
    ours = [kind for kind in CLASSES if kind.__module__ == module.__name__]  # type: ignore[attr-defined]

    assert set(drawn) == {kind.__name__ for kind in ours} - {"ProviderError", "HaulageError"}
    for kind in ours:
        number = kind.number  # type: ignore[attr-defined]
        assert kind.__name__ in ("ProviderError", "HaulageError") or number == -1 or drawn[kind.__name__] == str(number)


def test_a_refused_value_names_field_value_and_what_is_allowed() -> None:
    assert str(InvalidSpec("part_size", 3, "at least 5")) == "part_size: 3 is refused; allowed: at least 5"
