"""Nothing secret in what is stored, shown and logged of an error."""

from __future__ import annotations

import pytest

from providers.schemes import safe_text

CANARY = "cAnArY"


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://user:{CANARY}@host/key failed",
        f"GET https://host/key?X-Amz-Signature={CANARY}&b=c failed",
        f"(Caused by 'https://host/key?sig={CANARY}')",
        f"Max retries exceeded with url: /bucket/key?X-Amz-Signature={CANARY}&X-Amz-Expires=60 (Caused by timeout)",
        f'"PUT /bucket/key?sv=2024&sig={CANARY}%2B{CANARY} HTTP/1.1" 403',
        f"{{'Authorization': 'AWS4-HMAC-SHA256 Credential=AK/s3, Signature={CANARY}'}}",
        f"authorization: Bearer {CANARY}",
        f"https://[broken?sig={CANARY}",
    ],
)
def test_signatures_and_passwords_are_taken_out_of_any_text(text: str) -> None:
    assert CANARY not in safe_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "part 3: 10 of 20 bytes were sent",
        "did it arrive? nobody knows",
        "file:///there/a exists and on_exists is 'fail'",
        "is a = b ? yes: no",
    ],
)
def test_plain_sentences_stay_as_they_are(text: str) -> None:
    assert safe_text(text) == text
