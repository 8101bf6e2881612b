"""What every test shares: an environment without the machine's own settings, and servers that may be missing."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.servers.process import ServerMissing

# These would turn a test's own certificate, credentials or settings into the machine's; requests even prefers
# REQUESTS_CA_BUNDLE to Session.verify.
_FOREIGN = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_FOREIGN_PREFIXES = ("AWS_", "AZURE_", "HAULAGE_", "OSS_")
_LOOPBACK_NAMES = "127.0.0.1,localhost,::1"
_NO_ENGINE = "/dev/null/a-test-names-the-folder-of-its-engine"
"""Cannot be made: no test ever finds, starts or stops the engine of whoever runs the tests."""


def pytest_configure() -> None:
    for name in list(os.environ):
        if name in _FOREIGN or name.startswith(_FOREIGN_PREFIXES):
            del os.environ[name]
    os.environ["HAULAGE_ENGINE_FOLDER"] = os.environ["XDG_STATE_HOME"] = _NO_ENGINE
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), _LOOPBACK_NAMES]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A server that is not installed skips the test on a laptop, and fails it where ``CI`` is set."""
    report = yield
    if call.excinfo is not None and call.excinfo.errisinstance(ServerMissing) and not os.environ.get("CI"):
        path, line, _ = item.reportinfo()
        report.outcome = "skipped"
        report.longrepr = (str(Path(path)), (line or 0) + 1, str(call.excinfo.value))
    return report
