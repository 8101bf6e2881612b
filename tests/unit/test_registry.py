"""The registry: a module per scheme, imported when first used, and a clear word when it cannot be."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from providers.base import Options, Profile, Services
from providers.errors import ProviderUnavailable, UnknownScheme
from providers.local import LocalDestination
from providers.local_source import LocalSource
from providers.registry import open_destination, open_source
from providers.schemes import Location, parse, schemes

NOTHING = (Profile("p"), Options(), Services())


def test_a_scheme_opens_its_source_and_its_destination() -> None:
    assert isinstance(open_source(parse("/a/b", "source"), *NOTHING), LocalSource)
    assert isinstance(open_destination(parse("/a/b", "destination"), *NOTHING), LocalDestination)


def test_a_missing_library_is_named_with_what_installs_it() -> None:
    scheme = replace(schemes()["s3"], module="not_installed_sdk.inner", extra="s3")

    with pytest.raises(ProviderUnavailable, match=r"not_installed_sdk .* pip install 'haulage\[s3\]'") as raised:
        open_source(Location(scheme, "s3://b/k", "s3://b/k"), *NOTHING)

    assert raised.value.number == 119


def test_a_role_that_a_scheme_does_not_play_is_refused() -> None:
    scheme = replace(schemes()["mem"], roles=frozenset({"source"}))

    with pytest.raises(UnknownScheme):
        open_destination(Location(scheme, "mem:x", "mem:x"), *NOTHING)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, providers, providers.base, providers.errors, providers.schemes, providers.registry;"
        "heavy = {'boto3', 'botocore', 'requests', 'urllib3', 'awscrt', 'redis', 'celery'} & set(sys.modules);"
        "assert not heavy, heavy; assert providers.__haulage__ is True"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
