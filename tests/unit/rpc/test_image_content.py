"""Headers of content: what a client has, which part it wants, and under which name it saves it."""

import pytest
from image_categorizer_server.rpc.image_content import cut, disposition, is_known, requested_range

CONTENT = bytes(range(10))
TAG = '"abc"'


@pytest.mark.parametrize(
    ("wanted", "part", "span"),
    [
        ("bytes=0-3", CONTENT[:4], "bytes 0-3/10"),
        ("bytes=4-", CONTENT[4:], "bytes 4-9/10"),
        ("bytes=-3", CONTENT[-3:], "bytes 7-9/10"),
        ("bytes=-30", CONTENT, "bytes 0-9/10"),
        ("bytes=8-99", CONTENT[8:], "bytes 8-9/10"),
    ],
)
def test_a_range_is_a_part(wanted, part, span):
    fields = (("content-range", span), ("x-http-status", "206"))
    assert cut(CONTENT, wanted) == (part, fields)


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused(wanted):
    fields = (("content-range", "bytes */10"), ("x-http-status", "416"))
    assert cut(CONTENT, wanted) == (b"", fields)


@pytest.mark.parametrize(
    "wanted",
    ["", "bytes=", "bytes=-", "bytes=3-1", "bytes=0-1,3-4", "lines=0-1", "bytes=" + "9" * 5000],
)
def test_what_is_not_one_range_is_ignored(wanted):
    assert cut(CONTENT, wanted) == (CONTENT, ())


def test_a_range_of_other_content_is_ignored():
    assert requested_range({"range": "bytes=0-1"}, TAG) == "bytes=0-1"
    assert requested_range({"range": "bytes=0-1", "if-range": TAG}, TAG) == "bytes=0-1"
    assert requested_range({"range": "bytes=0-1", "if-range": '"other"'}, TAG) == ""


@pytest.mark.parametrize("known", [TAG, f"W/{TAG}", f'"x", {TAG}', "*", f'W/"x",{TAG}'])
def test_what_the_client_has_is_known(known):
    assert is_known(known, TAG)


@pytest.mark.parametrize("other", ["", '"x"', "abc", '"abcd"', '"a" abc'])
def test_what_the_client_lacks_is_not(other):
    assert not is_known(other, TAG)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("rose.jpeg", 'inline; filename="rose.jpeg"'),
        ("my rose (2).jpeg", 'inline; filename="my rose (2).jpeg"'),
        ('a"b\\c.jpeg', "inline; filename=\"a_b_c.jpeg\"; filename*=UTF-8''a%22b%5Cc.jpeg"),
        (
            "a\r\nx: y.jpeg",
            "inline; filename=\"a__x_ y.jpeg\"; filename*=UTF-8''a%0D%0Ax%3A%20y.jpeg",
        ),
        ("größe.png", "inline; filename=\"gr__e.png\"; filename*=UTF-8''gr%C3%B6%C3%9Fe.png"),
        ("100%41.png", "inline; filename=\"100_41.png\"; filename*=UTF-8''100%2541.png"),
    ],
)
def test_no_name_breaks_the_header(name, header):
    assert disposition(name) == header
    assert header.isascii()
