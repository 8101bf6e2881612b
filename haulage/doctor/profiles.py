"""Whether the profiles of this machine can be used: secret files, the way to their endpoints, a cheap signed call."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from haulage.doctor.check import Check, Status, fail, ok, warn
from haulage.doctor.origins import profile_keys
from orchestrator.settings import SECRET_FILES, Settings
from providers.base import Profile
from providers.schemes import parse, redact

_S3_KEYS = frozenset({"access_key", "secret_key", "aws_profile", "region", "addressing", "bucket"})


def checks(settings: Settings, *, bucket: str | None = None) -> list[Check]:
    """The files of settings, then all profiles; those that cannot be resolved are not tried."""
    named = (os.environ.get(variable) for variable in ("HAULAGE_CONFIG", *SECRET_FILES.values()))
    found = [settings_file(Path(file)) for file in named if file]
    for name in settings.profile_names():
        resolved = resolve(settings, name)
        found.append(resolved)
        profile = settings.profile(name) if resolved.status is not Status.FAIL else None
        if profile is None:
            continue
        if profile.get("endpoint"):
            found.append(endpoint(profile, settings.connect_seconds))
        wanted = bucket or profile.get("bucket")
        if wanted and is_s3(profile) and found[-1].status is not Status.FAIL:
            found.append(signed_call(profile, settings, wanted))
    return found


def settings_file(path: Path) -> Check:
    """The TOML file may hold passwords, of Redis and of profiles; the file of a URL is there for one."""
    if path.stat().st_mode & 0o004:
        text = f"every user of this machine can read {path}, which may hold passwords"
        return warn("settings_file", text, f"chmod 640 {path}, with the group of the worker")
    return ok("settings_file", f"{path} is closed to others")


def is_s3(profile: Profile) -> bool:
    """By what it holds: a profile does not say which scheme it is for."""
    return bool(_S3_KEYS & set(profile.values))


def resolve(settings: Settings, name: str) -> Check:
    """Every secret file is readable, and by nobody else on this machine."""
    title = f"profile {name}"
    open_to_all = []
    for key, path in secret_files(settings, name).items():
        try:
            Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is no UTF-8 text"
            advice = "create the file, and let the user of the worker read it"
            return fail(title, f"the file of {key} cannot be read: {path}: {reason}", advice)
        if os.stat(path).st_mode & 0o004:
            open_to_all.append(path)
    if open_to_all:
        advice = f"chmod 640 {open_to_all[0]}, with the group of the worker; in Kubernetes defaultMode 0440"
        return warn(title, f"every user of this machine can read {', '.join(open_to_all)}", advice)
    profile = settings.profile(name)
    return ok(title, f"keys: {', '.join(sorted(profile.values)) if profile else 'none'}")


def secret_files(settings: Settings, name: str) -> Mapping[str, str]:
    """Key -> path, of what a profile reads from files."""
    values = dict(settings.profiles.get(name, {}))
    for key, variable in profile_keys(settings, os.environ, name).items():
        if variable:
            values[key] = os.environ[variable]
    return {key.removesuffix("_file"): value for key, value in values.items() if _is_secret_file(key)}


def _is_secret_file(key: str) -> bool:
    return key.endswith("_file") and key != "ca_file"


def endpoint(profile: Profile, connect_seconds: float) -> Check:
    """A TCP connection to the endpoint (or the proxy before it), and its certificate if it is https."""
    title = f"endpoint of {profile.name}"
    url = urlsplit(profile.get("endpoint") or "")
    proxy = profile.get("proxy")
    way = urlsplit(proxy) if proxy else url
    where = redact(way.geturl())
    try:
        if way.hostname is None or way.scheme not in ("http", "https"):
            raise ValueError("no host")
        _shake_hands(way, profile.get("ca_file"), connect_seconds)
    except ssl.SSLCertVerificationError as exc:
        advice = "set ca_file of the profile to the authority's PEM file; check the host name"
        return fail(title, f"the certificate of {where} is not trusted: {exc.verify_message}", advice)
    except ssl.SSLError as exc:
        return fail(title, f"no TLS at {where}: {exc.reason}", "write http:// if the endpoint has no TLS")
    except ValueError:
        return fail(title, f"{where} is no http:// or https:// URL with a host", "mend the profile's endpoint or proxy")
    except socket.gaierror:
        return fail(title, f"the host name of {where} cannot be resolved", "mend the profile's endpoint, look at DNS")
    except TimeoutError:
        return fail(title, f"{where} does not answer", "look at the firewall between here and the store")
    except OSError as exc:
        return fail(title, f"{where} cannot be reached: {exc.strerror}", "look whether it runs, and at the firewall")
    return ok(title, f"{where} answers" + (", its certificate is trusted" if way.scheme == "https" else ""))


def _shake_hands(url: SplitResult, ca_file: str | None, seconds: float) -> None:
    port = url.port or (443 if url.scheme == "https" else 80)
    with socket.create_connection((url.hostname or "", port), timeout=seconds) as connection:
        if url.scheme == "https":
            context = ssl.create_default_context(cafile=ca_file)
            with context.wrap_socket(connection, server_hostname=url.hostname):
                pass


def signed_call(profile: Profile, settings: Settings, bucket: str) -> Check:
    """List one key of the bucket: the cheapest call that proves credential, region, clock and permission at once."""
    title = f"bucket {bucket} by {profile.name}"
    from haulage.doctor.try_profile import list_one

    try:
        return list_one(title, profile, settings, bucket)
    except ImportError as exc:
        return warn(title, f"not tried: {exc.name} is not installed", "pip install 'haulage[s3]'")


def call(settings: Settings, profile: Profile, url: str | None) -> Check:
    """One cheap call with the profile: for the object or bucket of ``url``, or the bucket that the profile names."""
    from haulage.doctor import try_profile

    title = f"call with {profile.name}"
    bucket = profile.get("bucket")
    try:
        if url and url.startswith("s3://") and not url.removeprefix("s3://").partition("/")[2]:
            return try_profile.list_one(title, profile, settings, url.removeprefix("s3://").rstrip("/"))
        if url:
            location = parse(url, "source", field_name="url", local_host=settings.host)
            return try_profile.look(title, profile, settings, location)
        if not is_s3(profile):
            return warn(title, "not made: the profile names no bucket", f"haulage profiles test {profile.name} URL")
        if bucket:
            return try_profile.list_one(title, profile, settings, bucket)
        return try_profile.list_buckets(title, profile, settings)
    except ImportError as exc:
        return fail(title, f"{exc.name} is not installed", "pip install 'haulage[s3]'")
