"""Asks the OSS stand-in by Alibaba's second SDK, in an environment of its own, and prints what it answered as JSON.

Arguments, as JSON: endpoint, region, access_key, secret_key, token, bucket, prefix, signature (v4, v1), style (path,
virtual). Of a name below the stand-in's domain every one is this machine.
"""

# mypy: ignore-errors
# The SDK is not installed where the types are checked.

from __future__ import annotations

import datetime
import json
import socket
import sys
import urllib.error
import urllib.request

import alibabacloud_oss_v2 as oss

PART = 100 << 10
told = json.loads(sys.argv[1])
bucket, prefix = told["bucket"], told["prefix"]
data = bytes(range(256)) * 1000

resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **options: resolve(
    "127.0.0.1" if str(host).endswith(".oss.test") else host, *rest, **options
)


def client(secret: str = "") -> oss.Client:
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(
        told["access_key"], secret or told["secret_key"], told["token"] or None
    )
    config.region, config.endpoint, config.signature_version = told["region"], told["endpoint"], told["signature"]
    config.use_path_style = told["style"] == "path"
    config.retry_max_attempts = 1
    return oss.Client(config)


def code_of(call, **fields) -> str:
    """The code of the error the call ends with; empty if it succeeds."""
    try:
        call(**fields)
    except oss.exceptions.OperationError as exc:
        inner = exc.unwrap()
        return inner.code if isinstance(inner, oss.exceptions.ServiceError) else type(inner).__name__
    return ""


def fetched(url: str, method: str = "GET") -> tuple[int, bytes]:
    try:
        asked = urllib.request.Request(url, method=method)  # noqa: S310  # the stand-in's
        with urllib.request.urlopen(asked) as reply:  # noqa: S310
            return reply.status, reply.read()
    except urllib.error.HTTPError as refused:
        return refused.code, b""


def objects(ours: oss.Client) -> dict:
    key = f"{prefix}/a b/ü%&+=?.bin"
    where = {"bucket": bucket, "key": key}
    put = ours.put_object(oss.PutObjectRequest(**where, body=data, metadata={"haulage-id": "t1"}))
    head = ours.head_object(oss.HeadObjectRequest(**where))

    def get(**fields):
        return ours.get_object(oss.GetObjectRequest(**where, **fields))

    part = get(range_header="bytes=5-9", range_behavior="standard")
    return {
        "put": [put.status_code, put.etag == head.etag, put.hash_crc64 == head.hash_crc64],
        "head": [head.content_length, head.object_type, head.metadata.get("haulage-id")],
        "read": get().body.content == data,
        "range": [part.status_code, part.content_range, part.body.content == data[5:10]],
        "clipped": get(range_header=f"bytes=5-{len(data)}", range_behavior="standard").content_length,
        "overlong": [get(range_header=f"bytes=5-{len(data)}").status_code],
        "past": code_of(get, range_header="bytes=999999-", range_behavior="standard"),
        "if_match": [get(if_match=head.etag).status_code, code_of(get, if_match='"other"')],
        "kept": code_of(ours.put_object, request=oss.PutObjectRequest(**where, body=b"x", forbid_overwrite=True)),
        "wrong_md5": code_of(ours.put_object, request=oss.PutObjectRequest(**where, body=b"x", content_md5="AAAA")),
        "missing": code_of(ours.get_object, request=oss.GetObjectRequest(bucket=bucket, key=f"{prefix}/no")),
        "missing_head": code_of(ours.head_object, request=oss.HeadObjectRequest(bucket=bucket, key=f"{prefix}/no")),
        "wrong_secret": code_of(client("wrong").get_object, request=oss.GetObjectRequest(**where)),
    }


def uploads(ours: oss.Client) -> dict:
    where = {"bucket": bucket, "key": f"{prefix}/joined.bin"}
    ours.put_object(oss.PutObjectRequest(bucket=bucket, key=f"{prefix}/source", body=data))
    etag = ours.head_object(oss.HeadObjectRequest(bucket=bucket, key=f"{prefix}/source")).etag
    upload = ours.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(**where)).upload_id
    other = ours.initiate_multipart_upload(oss.InitiateMultipartUploadRequest(**where)).upload_id

    def send(number, body):
        return ours.upload_part(oss.UploadPartRequest(**where, upload_id=upload, part_number=number, body=body))

    def copied(number, span, **fields):
        source = {"source_bucket": bucket, "source_key": f"{prefix}/source", "source_range": span}
        asked = oss.UploadPartCopyRequest(**where, upload_id=upload, part_number=number, **source, **fields)
        return ours.upload_part_copy(asked)

    def complete(*parts, upload_id=upload, **fields):
        listed = [oss.UploadPart(part_number=number, etag=tag) for number, tag in parts]
        body = oss.CompleteMultipartUpload(parts=listed)
        return ours.complete_multipart_upload(
            oss.CompleteMultipartUploadRequest(**where, upload_id=upload_id, complete_multipart_upload=body, **fields)
        )

    first, last = send(1, data[:PART]).etag, send(3, b"the end").etag
    middle = copied(2, f"bytes=0-{PART - 1}", if_match=etag).etag
    rows = [
        each
        for page in ours.list_parts_paginator(limit=2).iter_page(oss.ListPartsRequest(**where, upload_id=upload))
        for each in page.parts
    ]
    asked = oss.ListMultipartUploadsRequest(bucket=bucket, prefix=where["key"])
    pages = list(ours.list_multipart_uploads_paginator(limit=1).iter_page(asked))
    answers = {
        "listed": [[each.part_number, each.size, each.etag] for each in rows]
        == [[1, PART, first], [2, PART, middle], [3, 7, last]],
        "listed_crcs": [bool(each.hash_crc64) for each in rows],
        "uploads": sorted(each.upload_id for page in pages for each in page.uploads) == sorted([upload, other]),
        "copy_of_changed": code_of(copied, number=2, span=f"bytes=0-{PART - 1}", if_match='"other"'),
        "order": code_of(lambda: complete((2, middle), (1, first))),
        "wrong_etag": code_of(lambda: complete((1, last))),
        "too_small": code_of(lambda: (send(4, b"small"), complete((3, last), (1, first)), None)[-1]),
    }
    done = complete((1, first), (2, middle), (3, last), forbid_overwrite=True)
    answers["done"] = [done.status_code, done.etag.endswith('-3"'), bool(done.hash_crc64)]
    answers["joined"] = ours.get_object(oss.GetObjectRequest(**where)).body.content == data[:PART] * 2 + b"the end"
    answers["again"] = code_of(lambda: complete((1, first)))
    ours.abort_multipart_upload(oss.AbortMultipartUploadRequest(**where, upload_id=other))
    gone = oss.AbortMultipartUploadRequest(**where, upload_id=other)
    answers["aborted"] = code_of(ours.abort_multipart_upload, request=gone)
    return answers


def presigned(ours: oss.Client) -> dict:
    key = f"{prefix}/presigned"
    ours.put_object(oss.PutObjectRequest(bucket=bucket, key=key, body=b"by url"))
    url = ours.presign(oss.GetObjectRequest(bucket=bucket, key=key), expires=datetime.timedelta(seconds=60)).url
    put = ours.presign(oss.PutObjectRequest(bucket=bucket, key=f"{key}2"), expires=datetime.timedelta(seconds=60)).url
    return {
        "by_url": fetched(url)[1] == b"by url",
        "by_url_put": fetched(put, "PUT")[0],
        "url_of_another": fetched(url.replace("presigned", "joined.bin"))[0],
        "url_used_to_write": fetched(url, "PUT")[0],
    }


ours = client()
print(json.dumps({**objects(ours), **uploads(ours), **presigned(ours)}))
