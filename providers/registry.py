"""From a parsed URL to the object that serves it: a scheme's module is imported when it is first used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from providers.base import Destination, Options, Profile, Services, Source
from providers.errors import ProviderUnavailable, UnknownScheme
from providers.schemes import Location, Role

_SourceFactory = Callable[[Location, Profile, Options, Services], Source]
_DestinationFactory = Callable[[Location, Profile, Options, Services], Destination]


def open_source(location: Location, profile: Profile, options: Options, services: Services) -> Source:
    """Where bytes are read from. No request is made yet. Raises ProviderUnavailable, UnknownScheme, InvalidValue."""
    factory = cast(_SourceFactory, _factory(location, "source"))
    return factory(location, profile, options, services)


def open_destination(location: Location, profile: Profile, options: Options, services: Services) -> Destination:
    """Where bytes are written to. No request is made yet. Raises ProviderUnavailable, UnknownScheme, InvalidValue."""
    factory = cast(_DestinationFactory, _factory(location, "destination"))
    return factory(location, profile, options, services)


def _factory(location: Location, role: Role) -> object:
    scheme = location.scheme
    if role not in scheme.roles:
        raise UnknownScheme(role, f"{scheme.name}:", f"as {scheme.name}: only " + " or ".join(sorted(scheme.roles)))
    try:
        return getattr(import_module(scheme.module), role)
    except ImportError as exc:
        missing = exc.name or str(exc)
        hint = f"; run: pip install 'haulage[{scheme.extra}]'" if scheme.extra else ""
        raise ProviderUnavailable(f"{scheme.name}: the Python module {missing} cannot be imported{hint}") from exc
