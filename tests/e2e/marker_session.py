"""What an application might write: sessions with a marker header, for ``HAULAGE_SESSION_FACTORY``; and bad ones."""

from __future__ import annotations

import requests

NAME, VALUE = "X-Marker", "of-the-application"
not_a_function = 5


def make() -> requests.Session:
    session = requests.Session()
    session.headers[NAME] = VALUE
    return session


def no_session() -> str:
    return "canary-of-a-bad-factory"
