"""What is said of an object beside its key and body, compiled once for a run: from row and object key to headers.

A constant that cannot be sent is refused before the first row, as the flag that is wrong; what only a value can tell
fails its row. Where no template names a column, rows share one tuple of headers for each extension of their keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar
from urllib.parse import quote

from asyncup.errors import RowRefused, TemplateRefused
from asyncup.model import Headers, Row, RowShape
from asyncup.render.contenttype import guess_content_type
from asyncup.render.headertemplates import Entries, HeaderTemplates
from asyncup.render.headervalues import (
    METADATA_PREFIX,
    disposition_value,
    header_value,
    metadata_value,
    refused,
    tag_value,
)
from asyncup.render.template import Template, compile_template

#: S3 takes 2 KB of metadata, the UTF-8 bytes of names and values, in a request with 8 KB of headers.
#: Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html#UserMetadata
MAX_METADATA = 2048
MAX_HEADERS = 8192

#: What a user's function may say of an object beside its metadata.
OWN_HEADERS = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
        "x-amz-storage-class",
        "x-amz-tagging",
        "x-amz-website-redirect-location",
    }
)

#: The name of a header of metadata: a token (RFC 9110, section 5.6.2).
_OWN_METADATA = re.compile(METADATA_PREFIX + r"[a-z0-9!#$%&'*+.^_`|~-]+")

#: More extensions than there are come from dots that mean something else.
_MAX_EXTENSIONS = 10_000

#: From a row and its object key to headers.
HeadersOf = Callable[[Row, str], Headers]
#: From a text, the header that it is for and the flag that it comes from to what is sent.
_Write = Callable[[str, str, str], str]
_T = TypeVar("_T")


def compile_headers(
    templates: HeaderTemplates, shape: RowShape, key: Template, fallback: str, suffix: str = ""
) -> HeadersOf:
    """A function from a row and its object key to its headers.

    `key` is the object key's template, `fallback` the content type where the key's extension says nothing; a `suffix` of
    the key is left out of account. The function
    raises RowRefused where a value cannot be sent.

    Raises:
        TemplateRefused: a template does not fit its columns, or no row could have the header.
    """
    constant: Headers = ()
    functions: list[HeadersOf] = []
    for part in _parts(templates, shape):
        if callable(part):
            functions.append(part)
        else:
            constant += part
    if not functions:
        if templates.content_type is None:
            return _guessed(key, fallback, suffix, constant)
        return _always(_at_start("headers", partial(_checked, constant)))
    if templates.content_type is None:
        functions.append(_guessed(key, fallback, suffix))

    def headers(row: Row, key: str) -> Headers:
        found = constant
        for function in functions:
            found += function(row, key)
        return _checked(found)

    return headers


def with_own(headers: Headers, own: Headers) -> Headers:
    """Headers of templates with those over them that a user's function gave for one object; names are in lower case.

    Raises:
        RowRefused: one of them is none that an object may have, or cannot be sent.
    """
    if not own:
        return headers
    flag = "what the transform gives"
    found: dict[str, str] = {}
    size = 0
    for name, value in own:
        is_metadata = _OWN_METADATA.fullmatch(name) is not None
        if name not in OWN_HEADERS and not is_metadata:
            raise refused(
                "transform",
                f"{name!r} is no header that a transform may give: those are {', '.join(sorted(OWN_HEADERS))} and "
                f"{METADATA_PREFIX}NAME",
                "leave it out",
            )
        if name in found:
            raise refused("transform", f"the transform gives {name} twice", "give each name once")
        write = metadata_value if is_metadata else disposition_value if name == "content-disposition" else header_value
        found[name] = write(value, name, flag)
        size += (len(name) - len(METADATA_PREFIX) + len(value.encode())) * is_metadata
    if size > MAX_METADATA:
        raise refused(
            "metadata",
            f"the names and values of metadata are {size:,} bytes of UTF-8; S3 takes {MAX_METADATA:,}",
            "shorten what the transform gives",
        )
    return _checked((*(pair for pair in headers if pair[0] not in found), *found.items()))


def _parts(templates: HeaderTemplates, shape: RowShape) -> Iterator[Headers | HeadersOf]:
    """What is the same for all rows as headers, what depends on the row as functions."""
    singles: tuple[tuple[str, Template | None, _Write], ...] = (
        ("content-type", templates.content_type, header_value),
        ("cache-control", templates.cache_control, header_value),
        ("content-disposition", templates.content_disposition, disposition_value),
        ("content-language", templates.content_language, header_value),
    )
    for header, template, write in singles:
        if template is not None:
            single, flag = _single(header, template, shape, write), f"--{header}"
            yield single if template.placeholders else _at_start(flag, partial(single, (), ""))
    fixed, varying = _split(templates.metadata)
    yield _at_start("--metadata", partial(_metadata(fixed, shape), (), ""))
    if varying:
        spent = sum(len(name) + len(template.literals[0].encode()) for name, template in fixed)
        yield _metadata(varying, shape, spent)
    fixed, varying = _split(templates.tags)
    tags = _at_start("--tag", partial(_tagging(fixed, shape), (), ""))
    yield _tagging(templates.tags, shape) if varying else tags


def _split(entries: Entries) -> tuple[Entries, Entries]:
    """Those that are the same for all rows, and those that are not."""
    return (
        tuple(entry for entry in entries if not entry[1].placeholders),
        tuple(entry for entry in entries if entry[1].placeholders),
    )


def _single(header: str, template: Template, shape: RowShape, write: _Write) -> HeadersOf:
    """A header with a template of its own."""
    flag = f"--{header}"
    render = compile_template(template, shape, quoted=header == "content-disposition")

    def single(row: Row, _key: str) -> Headers:
        text = render(row)
        return ((header, write(text, header, flag)),) if text else ()

    return single


def _metadata(entries: Entries, shape: RowShape, spent: int = 0) -> HeadersOf:
    """A header for each entry; `spent` bytes of what S3 takes are used already."""
    flag = "--metadata"
    compiled = [(len(name), METADATA_PREFIX + name, compile_template(template, shape)) for name, template in entries]

    def metadata(row: Row, _key: str) -> Headers:
        size, found = spent, []
        for width, header, render in compiled:
            text = render(row)
            if text is not None:
                found.append((header, metadata_value(text, header, flag)))
                size += width + (len(text) if text.isascii() else len(text.encode()))
        if size > MAX_METADATA:
            raise refused(
                "metadata",
                f"the names and values of metadata are {size:,} bytes of UTF-8; S3 takes {MAX_METADATA:,}",
                f"shorten the values, or leave out a {flag}",
            )
        return tuple(found)

    return metadata


def _tagging(entries: Entries, shape: RowShape) -> HeadersOf:
    """All tags in one header, as the query of a URL.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html#API_PutObject_RequestSyntax
    """
    compiled = [(key, quote(key, safe=""), compile_template(template, shape)) for key, template in entries]

    def tagging(row: Row, _key: str) -> Headers:
        found = [
            f"{encoded}={tag_value(text, key)}"
            for key, encoded, render in compiled
            if (text := render(row)) is not None
        ]
        return (("x-amz-tagging", "&".join(found)),) if found else ()

    return tagging


def _guessed(template: Template, fallback: str, suffix: str, others: Headers = ()) -> HeadersOf:
    """The content type by the object key's extension, with headers that are always the same."""

    def merged(key: str) -> Headers:
        return _checked((("content-type", guess_content_type(key, fallback)), *others))

    end = template.literals[-1].removesuffix(suffix)
    if not template.placeholders or "." in end or "/" in end:  # it says the extension itself, or that there is none
        return _always(_at_start("headers", partial(merged, end)))
    known: dict[str, Headers] = {}
    unknown = _at_start("headers", partial(merged, ""))

    def by_extension(_row: Row, key: str) -> Headers:
        if suffix:
            key = key.removesuffix(suffix)
        end = key[key.rfind(".") :]  # of a key without a dot its last character, which says no more than none
        found = known.get(end)
        if found is None:
            if end[:1] != "." or "/" in end:
                return unknown
            found = merged(end)
            if len(known) < _MAX_EXTENSIONS:
                known[end] = found
        return found

    return by_extension


def _always(headers: Headers) -> HeadersOf:
    return lambda _row, _key: headers


def _checked(headers: Headers) -> Headers:
    """The headers, if a request has room for them."""
    size = 0
    for name, value in headers:
        size += len(name) + len(value) + 4  # a colon, a blank, and the end of the line
    if size > MAX_HEADERS:
        raise refused(
            "headers", f"the headers are {size:,} bytes long; S3 takes {MAX_HEADERS:,}", "shorten their values"
        )
    return headers


def _at_start(flag: str, made: Callable[[], _T]) -> _T:
    """What no row decides, made before the first one: what would refuse every row refuses the run."""
    try:
        return made()
    except RowRefused as exc:
        raise TemplateRefused("check template", flag, exc.message, exc.hint) from None
