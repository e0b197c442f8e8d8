"""From a rendered text to a header's value as it goes over the wire, or the reason why it cannot.

A column may contain anything. Nothing of it ends a header or begins another one, and nothing arrives as another text
than the one that was meant: what HTTP or S3 would drop or change is refused.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from urllib.parse import quote

from asyncup.errors import RowRefused

METADATA_PREFIX = "x-amz-meta-"

#: S3 takes 10 tags, keys of 128 and values of 256 characters, counted in UTF-16.
#: Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html
MAX_TAGS = 10
MAX_TAG_KEY = 128
MAX_TAG_VALUE = 256

#: Letters, numbers and spaces of every script, and `_ . : / = + - @`.
#: Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_control_Tag.html (its pattern)
_TAG = re.compile("[\\w .:/=+\\-@\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_FILENAME = re.compile(r'(filename=")((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_ESCAPED = re.compile(r"\\(.)")
_ENCODED_WORD = re.compile(r"=\?[^?\s]+\?[BbQq]\?[^?\s]*\?=")
#: 75 characters for an encoded word, `=?UTF-8?B?` and `?=` among them, leave 60 of base64: 45 bytes.
_WORD_BYTES = 45


def header_value(text: str, header: str, flag: str) -> str:
    """A header's value: visible ASCII and blanks, none of them at its ends, where HTTP drops them.

    Source: RFC 9110, section 5.5.

    Raises:
        RowRefused: it is something else.
    """
    if text.isascii() and text.isprintable() and text[:1] != " " and text[-1:] != " ":
        return text
    raise refused(
        header,
        f"the value {text[:80]!r} of {header} cannot be sent as a header: printable ASCII, without blanks at its ends",
        f"change the value, or {flag}",
    )


def disposition_value(text: str, header: str, flag: str) -> str:
    """The value of a Content-Disposition; a `filename="…"` beyond ASCII is sent as `filename*` too.

    Source: RFC 6266, section 4.3 and appendix D.

    Raises:
        RowRefused: it cannot be sent.
    """
    if not text.isascii() and not _CONTROL.search(text) and "filename*" not in text.lower():
        text = _FILENAME.sub(_both_names, text, count=1)
        if not text.isascii():
            raise refused(
                header,
                f"the value {text[:80]!r} of {header} cannot be sent as a header: beyond ASCII outside of a file name",
                f"""write the file name in quotes: {flag} 'attachment; filename="{{column}}"'""",
            )
    return header_value(text, header, flag)


def _both_names(found: re.Match[str]) -> str:
    if found[2].isascii():
        return found[0]
    plain = "".join(char if char.isascii() else "_" for char in found[2])
    name = quote(_ESCAPED.sub(r"\1", found[2]), safe="")
    return f"{found[1]}{plain}\"; filename*=UTF-8''{name}"


def metadata_value(text: str, header: str, flag: str) -> str:
    """A metadata value: ASCII as it is, all else as encoded words, which S3 decodes before it stores them.

    ASCII that looks like an encoded word is encoded too, so that what is decoded is what was meant.

    Sources: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html#UserMetadata and RFC 2047,
    sections 2 and 5.

    Raises:
        RowRefused: it has control characters, or blanks that HTTP would drop.
    """
    if text.isascii() and not ("=?" in text and _ENCODED_WORD.search(text)):
        return header_value(text, header, flag)
    if _CONTROL.search(text):
        raise refused(
            header, f"the value {text[:80]!r} of {header} contains a control character", f"change the value, or {flag}"
        )
    words, start, size = [], 0, 0
    for position, char in enumerate(text):
        width = len(char.encode())
        if size + width > _WORD_BYTES:
            words.append(_word(text[start:position]))
            start, size = position, 0
        size += width
    return " ".join([*words, _word(text[start:])])


def _word(text: str) -> str:
    return f"=?UTF-8?B?{b2a_base64(text.encode(), newline=False).decode()}?="


def tag_value(text: str, tag: str) -> str:
    """A tag's value, URL-encoded.

    Raises:
        RowRefused: S3 would refuse it.
    """
    if text.isalnum() and text.isascii() and len(text) <= MAX_TAG_VALUE:
        return text  # the usual case, without two patterns
    reason = tag_fault(text, MAX_TAG_VALUE)
    if reason is not None:
        raise refused(f"tag {tag}", f"the value {text[:80]!r} of the tag {tag} {reason}", "change the value, or --tag")
    return quote(text, safe="")


def tag_fault(text: str, limit: int) -> str | None:
    """What is wrong with a tag's key or value, as the end of a sentence; None when nothing is."""
    size = len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
    if size > limit:
        return f"is {size} characters long; S3 takes {limit}"
    if _TAG.fullmatch(text) is None:
        return "has characters that S3 does not take in a tag: letters, numbers, spaces and + - = . _ : / @ are taken"
    return None


def refused(subject: str, message: str, hint: str) -> RowRefused:
    """What fails a row that cannot have the header `subject`."""
    return RowRefused("render", subject, message, hint)
