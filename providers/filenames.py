"""A safe file name from what a server suggests; pure."""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_to_bytes, urlsplit

FALLBACK = "download"
_MAX_BYTES = 255
"""Of UTF-8: what Linux file systems allow; 255 characters may be four times as long."""
_FORBIDDEN = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[1-9¹²³]|lpt[1-9¹²³])\s*(?:\..*)?", re.IGNORECASE | re.DOTALL)
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105  # a grammar rule of RFC 9110
_PARAMETER = re.compile(rf';\s*({_TOKEN})\s*=\s*("(?:[^"\\]|\\.)*"|[^;"\s][^;]*)')


def suggested_name(disposition: str | None, url: str) -> str:
    """The name in Content-Disposition (``filename*`` before ``filename``), else the URL's last segment, sanitised."""
    for name in (*_from_disposition(disposition or ""), _from_url(url)):
        clean = sanitise(name)
        if clean:
            return clean
    return FALLBACK


def sanitise(name: str) -> str:
    """One path segment that every file system takes, or "" if nothing is left of ``name``.

    Separators, wildcards, control and text-direction characters become ``_``; outer spaces and trailing dots go;
    names that Windows reserves get a ``_``; longer than 255 bytes is cut, keeping the extension.
    """
    clean = _FORBIDDEN.sub("_", name).strip().rstrip(". ").lstrip()
    if not clean.strip("._ "):  # nothing but dots and what was replaced: "..", "/", "../.."
        return ""
    if _RESERVED.fullmatch(clean):
        stem, dot, rest = clean.partition(".")
        clean = f"{stem.rstrip()}_{dot}{rest}"
    return _cut(clean)


def _cut(name: str) -> str:
    if len(name.encode()) <= _MAX_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > _MAX_BYTES // 4:
        stem, dot, extension = name, "", ""
    room = _MAX_BYTES - len((dot + extension).encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip(". ") + dot + extension


def _from_url(url: str) -> str:
    try:
        segments = urlsplit(url).path.split("/")
    except ValueError:
        return ""
    return unquote(next((each for each in reversed(segments) if each), ""))


def _from_disposition(header: str) -> list[str]:
    """Candidates, best first. http.client reads headers as latin-1, while most servers send UTF-8."""
    found: dict[str, str] = {}
    for name, value in _PARAMETER.findall(";" + header.partition(";")[2]):
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        found.setdefault(name.lower(), value.strip())
    names = [_extended(found["filename*"])] if "filename*" in found else []
    if "filename" in found:
        names.append(_as_utf8(found["filename"]))
    return [name for name in names if name]


def _extended(value: str) -> str:
    """RFC 5987: ``UTF-8'en'%e2%82%ac.txt``; any other character set is ignored."""
    charset, _, rest = value.partition("'")
    _, quote, text = rest.partition("'")
    if not quote or charset.lower() not in ("utf-8", "iso-8859-1"):
        return ""
    try:
        return unquote_to_bytes(text).decode(charset)
    except UnicodeDecodeError:
        return ""


def _as_utf8(text: str) -> str:
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text
