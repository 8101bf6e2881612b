"""The calls the OSS stand-in knows, as functions from one request to one answer."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, unquote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.servers.oss_server_auth import Asked, Refused
from tests.servers.oss_server_store import Store, Stored, Upload

CRC = "x-oss-hash-crc64ecma"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_KEPT_HEADERS = ("content-type", "cache-control", "content-encoding", "content-disposition", "expires")
_PAGE = 1000


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def answer(store: Store, asked: Asked, body: bytes) -> Answer:
    """Raises Refused."""
    query = asked.query
    if not asked.key:
        if asked.method == "GET" and "uploads" in query:
            return _list_uploads(store, asked)
        raise Refused(405, "MethodNotAllowed", "This stand-in has no such call of a bucket.")
    if "uploadId" in query:
        return _of_upload(store, asked, body)
    if asked.method == "POST" and "uploads" in query:
        upload = store.begin(asked.bucket, asked.key, _described(asked.headers))
        return _xml("InitiateMultipartUploadResult", Bucket=asked.bucket, Key=asked.key, UploadId=upload.id)
    match asked.method:
        case "PUT" if "x-oss-copy-source" in asked.headers:
            return _copy(store, asked)
        case "PUT":
            return _put(store, asked, body)
        case "GET" | "HEAD":
            return _get(store, asked)
        case "DELETE":
            store.delete(asked.bucket, asked.key)
            return Answer(204)
    raise Refused(405, "MethodNotAllowed")


def _of_upload(store: Store, asked: Asked, body: bytes) -> Answer:
    upload = store.upload(asked.bucket, asked.key, asked.query["uploadId"])
    match asked.method:
        case "PUT" if "x-oss-copy-source" in asked.headers:
            return _copy_part(store, asked, upload)
        case "PUT":
            _check_digest(asked.headers, body)
            part = Stored(body)
            store.put_part(upload, _number(asked), part)
            return Answer(headers={"ETag": part.etag, CRC: str(part.crc)})
        case "GET":
            return _list_parts(asked, upload)
        case "POST":
            return _complete(store, asked, upload, body)
        case "DELETE":
            store.abort(upload)
            return Answer(204)
    raise Refused(405, "MethodNotAllowed")


# objects


def _put(store: Store, asked: Asked, body: bytes) -> Answer:
    _check_digest(asked.headers, body)
    stored = Stored(body, _described(asked.headers))
    store.put(asked.bucket, asked.key, stored, keep=_keeps(asked))
    return Answer(headers={"ETag": stored.etag, CRC: str(stored.crc)})


def _get(store: Store, asked: Asked) -> Answer:
    stored = store.get(asked.bucket, asked.key)
    headers = asked.headers
    if "if-match" in headers and headers["if-match"] not in ("*", stored.etag):
        message = "At least one of the pre-conditions you specified did not hold."
        raise Refused(412, "PreconditionFailed", message, Condition="If-Match")
    if headers.get("if-none-match") == stored.etag:
        return Answer(304, headers={"ETag": stored.etag})
    told = {
        "content-type": "application/octet-stream",
        **stored.headers,
        "ETag": stored.etag,
        "Last-Modified": stored.last_modified,
        "Accept-Ranges": "bytes",
        "x-oss-object-type": stored.kind,
        CRC: str(stored.crc),  # of the whole, whatever range is asked for
    }
    size = len(stored.data)
    span = _span(headers.get("range"), size, strict=headers.get("x-oss-range-behavior") == "standard")
    if span is None:
        return Answer(200, stored.data, told)
    told["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{size}"
    return Answer(206, stored.data[span[0] : span[1]], told)


def _span(text: str | None, size: int, *, strict: bool) -> tuple[int, int] | None:
    """Half-open; None for the whole object, which is the answer to a range that makes no sense, unless ``strict``."""
    if text is None:
        return None
    match = _RANGE.fullmatch(text)
    if match is None or match[0] == "bytes=-":
        return None
    if not match[1]:
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), int(match[2]) + 1 if match[2] else size
    if 0 <= start < stop <= size:
        return start, stop
    if not strict or (start < size and stop <= start):
        return None
    if start >= size:
        raise Refused(416, "InvalidRange", "The requested range cannot be satisfied.", ActualObjectSize=str(size))
    return start, size


def _copy(store: Store, asked: Asked) -> Answer:
    source = _copy_source(store, asked)
    replace = asked.headers.get("x-oss-metadata-directive") == "REPLACE"
    copied = Stored(source.data, _described(asked.headers) if replace else dict(source.headers))
    store.put(asked.bucket, asked.key, copied, keep=_keeps(asked))
    return _xml("CopyObjectResult", ETag=copied.etag, LastModified=_instant(copied.at))


def _copy_source(store: Store, asked: Asked) -> Stored:
    bucket, _, key = unquote(asked.headers["x-oss-copy-source"]).lstrip("/").partition("/")
    source = store.get(bucket, key)
    if asked.headers.get("x-oss-copy-source-if-match") not in (None, source.etag):
        message = "At least one of the pre-conditions you specified did not hold."
        raise Refused(412, "PreconditionFailed", message, Condition="x-oss-copy-source-if-match")
    if asked.headers.get("x-oss-copy-source-if-none-match") == source.etag:
        raise Refused(304, "NotModified")
    return source


# uploads


def _copy_part(store: Store, asked: Asked, upload: Upload) -> Answer:
    """The answer names no checksum."""
    data = _copy_source(store, asked).data
    span = _span(asked.headers.get("x-oss-copy-source-range"), len(data), strict=False)
    part = Stored(data if span is None else data[span[0] : span[1]])
    store.put_part(upload, _number(asked), part)
    return _xml("CopyPartResult", ETag=part.etag, LastModified=_instant(part.at))


def _complete(store: Store, asked: Asked, upload: Upload, body: bytes) -> Answer:
    everything = asked.headers.get("x-oss-complete-all") == "yes"
    listed = None if everything else _listed(body)
    whole = store.complete(upload, listed, keep=_keeps(asked))
    reply = _xml("CompleteMultipartUploadResult", Bucket=asked.bucket, Key=asked.key, ETag=whole.etag)
    reply.headers |= {CRC: str(whole.crc), "ETag": whole.etag}
    return reply


def _listed(body: bytes) -> list[tuple[int, str]]:
    try:
        root = ElementTree.fromstring(body)  # noqa: S314  # what a test sent
        return [(int(each.findtext("PartNumber", "")), each.findtext("ETag", "")) for each in root.iter("Part")]
    except (ElementTree.ParseError, ValueError):
        raise Refused(400, "MalformedXML", "The XML you provided was not well-formed.") from None


def _list_parts(asked: Asked, upload: Upload) -> Answer:
    after, most = int(asked.query.get("part-number-marker") or 0), int(asked.query.get("max-parts") or _PAGE)
    rest = [(number, part) for number, part in sorted(upload.parts.items()) if number > after]
    page = rest[: min(most, _PAGE)]
    rows = "".join(
        f"<Part><PartNumber>{number}</PartNumber><LastModified>{_instant(part.at)}</LastModified>"
        f"<ETag>{escape(part.etag)}</ETag><HashCrc64ecma>{part.crc}</HashCrc64ecma><Size>{len(part.data)}</Size></Part>"
        for number, part in page
    )
    return _xml(
        "ListPartsResult",
        rows,
        Bucket=asked.bucket,
        Key=_encoded(asked, asked.key),
        UploadId=upload.id,
        PartNumberMarker=str(after),
        NextPartNumberMarker=str(page[-1][0] if page else after),
        MaxParts=str(most),
        IsTruncated=str(len(rest) > len(page)).lower(),
        **_encoding(asked),
    )


def _list_uploads(store: Store, asked: Asked) -> Answer:
    query = asked.query
    after = (query.get("key-marker", ""), query.get("upload-id-marker", ""))
    most, prefix = int(query.get("max-uploads") or _PAGE), query.get("prefix", "")
    # A key marker alone skips all uploads of that key; with an upload's id those up to it.
    rest = [
        each
        for each in store.uploads(asked.bucket)
        if each.key.startswith(prefix) and ((each.key, each.id) > after if after[1] else each.key > after[0])
    ]
    page = rest[: min(most, _PAGE)]
    rows = "".join(
        f"<Upload><Key>{escape(_encoded(asked, each.key))}</Key><UploadId>{each.id}</UploadId>"
        f"<Initiated>{_instant(each.at)}</Initiated></Upload>"
        for each in page
    )
    return _xml(
        "ListMultipartUploadsResult",
        rows,
        Bucket=asked.bucket,
        KeyMarker=_encoded(asked, after[0]),
        UploadIdMarker=after[1],
        NextKeyMarker=_encoded(asked, page[-1].key if page else ""),
        NextUploadIdMarker=page[-1].id if page else "",
        Prefix=_encoded(asked, prefix),
        MaxUploads=str(most),
        IsTruncated=str(len(rest) > len(page)).lower(),
        **_encoding(asked),
    )


# words


def _number(asked: Asked) -> int:
    text = asked.query.get("partNumber", "")
    return int(text) if text.isdigit() else 0


def _keeps(asked: Asked) -> bool:
    return asked.headers.get("x-oss-forbid-overwrite") == "true"


def _described(headers: Mapping[str, str]) -> dict[str, str]:
    return {n: v for n, v in headers.items() if n in _KEPT_HEADERS or n.startswith("x-oss-meta-")}


def _check_digest(headers: Mapping[str, str], body: bytes) -> None:
    told = headers.get("content-md5")
    if told not in (None, base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()):
        raise Refused(400, "InvalidDigest", "The Content-MD5 you specified was invalid.")


def _encoding(asked: Asked) -> dict[str, str]:
    return {"EncodingType": "url"} if asked.query.get("encoding-type") == "url" else {}


def _encoded(asked: Asked, text: str) -> str:
    return quote(text, safe="") if _encoding(asked) else text


def _instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _xml(root: str, rows: str = "", **fields: str) -> Answer:
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>{inner}{rows}</{root}>'
    return Answer(body=text.encode(), headers={"Content-Type": "application/xml"})
