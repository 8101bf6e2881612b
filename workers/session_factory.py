"""The application's own ``requests.Session``: found by name, and tried once when a worker starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.utils.imports import import_from_cwd

from orchestrator.errors import InvalidSpec
from orchestrator.settings import Settings
from providers.errors import InvalidValue

_FIELD = "HAULAGE_SESSION_FACTORY"


def session_factory(settings: Settings) -> Callable[[], Any] | None:
    """The function that ``settings.session_factory`` names; None when it names none.

    It is called once, so that a bad one is named at the start of a worker and not in the midst of a transfer. Modules
    in the working folder are found too. Raises InvalidSpec.
    """
    name = settings.session_factory
    if name is None:
        return None
    module_name, _, function_name = name.partition(":")
    try:
        module = import_from_cwd(module_name)
    except ModuleNotFoundError as exc:
        raise InvalidSpec(_FIELD, name, f"a module that can be imported: there is no module {exc.name!r}") from None
    except Exception as exc:  # whatever foreign code does when it is imported
        raise InvalidSpec(_FIELD, name, f"a module that can be imported: it raised {type(exc).__name__}") from None
    factory = getattr(module, function_name, None)
    if factory is None:
        raise InvalidSpec(_FIELD, name, f"module:function, and {module_name} has no {function_name!r}")
    if not callable(factory):
        raise InvalidSpec(_FIELD, name, f"module:function, and {name} is a {type(factory).__name__}")
    from providers.sessions import injected

    try:
        injected(factory)
    except InvalidValue as exc:
        raise InvalidSpec(_FIELD, name, f"{exc.allowed}, not {exc.value}") from None
    made: Callable[[], Any] = factory
    return made
