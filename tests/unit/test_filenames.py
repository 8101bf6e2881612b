"""Names that servers and URLs suggest, hostile ones among them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.filenames import FALLBACK, sanitise, suggested_name

URL = "https://host/folder/from-url.bin?name=query"


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (None, "from-url.bin"),
        ("", "from-url.bin"),
        ("attachment", "from-url.bin"),
        ("attachment; filename=plain.txt", "plain.txt"),
        ('attachment; filename="with space.txt"', "with space.txt"),
        ("attachment; filename=with space.txt", "with space.txt"),
        ("ATTACHMENT; FileName=case.txt", "case.txt"),
        ('attachment;filename="tight.txt";size=3', "tight.txt"),
        (r'attachment; filename="a\"quote\".txt"', "a_quote_.txt"),
        ('attachment; filename="semi;colon.txt"', "semi;colon.txt"),
        ("attachment; filename=\"x; filename*=UTF-8''y.txt\"", "x; filename_=UTF-8''y.txt"),
        ("attachment; filename=old.txt; filename*=UTF-8''%e2%82%ac%20rates.txt", "€ rates.txt"),
        ("attachment; filename*=UTF-8''first.txt; filename=old.txt", "first.txt"),
        ("attachment; filename*=iso-8859-1'en'%A3.txt", "£.txt"),
        ("attachment; filename*=utf-8'de'%C3%BCber.txt", "über.txt"),
        ("attachment; filename*=UTF-8''%ff%fe; filename=good.txt", "good.txt"),
        ("attachment; filename*=koi8-r''%d0; filename=good.txt", "good.txt"),
        ("attachment; filename*=broken; filename=good.txt", "good.txt"),
        ('attachment; filename="' + "Ã¼ber.txt" + '"', "über.txt"),  # UTF-8 as http.client hands it out
        ('attachment; filename="caf\xe9.txt"', "café.txt"),
        ('attachment; filename="../../etc/passwd"', ".._.._etc_passwd"),
        (r'attachment; filename="C:\\Windows\\x.exe"', "C__Windows_x.exe"),
        ("attachment; filename*=UTF-8''..%2F..%2Fevil", ".._.._evil"),
        ("attachment; filename*=UTF-8''a%00b.txt", "a_b.txt"),
        ("attachment; filename=\"..\"; filename*=UTF-8''", "from-url.bin"),
        ('attachment; filename="/"', "from-url.bin"),
        ('attachment; filename="unclosed', "from-url.bin"),
    ],
)
def test_content_disposition_is_read_before_the_url(disposition: str | None, name: str) -> None:
    assert suggested_name(disposition, URL) == name


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a/b.tar.gz", "b.tar.gz"),
        ("http://h/a/b/", "b"),
        ("http://h/a//", "a"),
        ("http://h/%D0%BF%D1%83%D1%82%D1%8C.bin?sig=s#f", "путь.bin"),
        ("http://h/..%2f..%2fetc%2fpasswd", ".._.._etc_passwd"),
        ("http://h/a%00b", "a_b"),
        ("http://h/%2e%2e", FALLBACK),
        ("http://h/", FALLBACK),
        ("http://h", FALLBACK),
        ("http://[broken", FALLBACK),
    ],
)
def test_the_last_segment_of_the_url_is_the_name_else_a_fixed_one(url: str, name: str) -> None:
    assert suggested_name(None, url) == name


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("normal.txt", "normal.txt"),
        (".hidden", ".hidden"),
        ("  spaces  ", "spaces"),
        ("dots...", "dots"),
        ("dots . . .", "dots"),
        ('a/b\\c:d*e?f"g<h>i|j', "a_b_c_d_e_f_g_h_i_j"),
        ("tab\tnew\nline", "tab_new_line"),
        ("del\x7fc1\x9f", "del_c1_"),
        ("exe\u202etxt.bin", "exe_txt.bin"),
        ("lone\ud800surrogate", "lone_surrogate"),
        ("", ""),
        (".", ""),
        ("..", ""),
        ("...", ""),
        ("/", ""),
        ("../..", ""),
        ("CON", "CON_"),
        ("con.txt", "con_.txt"),
        ("Com1.tar.gz", "Com1_.tar.gz"),
        ("lpt9 .txt", "lpt9_.txt"),
        ("console.txt", "console.txt"),
        ("com10", "com10"),
        ("日本語.txt", "日本語.txt"),
        ("x" * 300, "x" * 255),
        ("x" * 300 + ".tar", "x" * 251 + ".tar"),
        ("é" * 200 + ".txt", "é" * 125 + ".txt"),
        ("x." + "y" * 300, "x." + "y" * 253),
    ],
)
def test_a_name_is_made_safe(name: str, clean: str) -> None:
    assert sanitise(name) == clean


@given(st.text(max_size=400))
def test_any_name_becomes_one_segment_that_a_file_system_takes(name: str) -> None:
    clean = suggested_name(f'attachment; filename="{name}"', "http://h/")

    assert 0 < len(clean.encode()) <= 255
    assert not set(clean) & set('/\\:*?"<>|\0\r\n')
    assert clean not in (".", "..")
    assert clean == clean.strip().rstrip(".")
    assert sanitise(clean) == clean
