"""What an object is called when no template says it: by its object key's extension, else by its body.

Only Python's own table is used, not the machine's, so that every machine gives the same objects.
"""

from __future__ import annotations

import mimetypes

#: What a body is called when neither a template nor the key's extension says it, by the column's type.
_FALLBACKS = {"json": "application/json", "jsonb": "application/json", "xml": "application/xml", "text": "text/plain"}
_ENCODINGS = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
    "br": "application/x-brotli",
}
#: Types that older tables of Python lack, or name otherwise.
_NEWER_TYPES = {
    ".avif": "image/avif",
    ".js": "text/javascript",
    ".markdown": "text/markdown",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".ndjson": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".rst": "text/x-rst",
    ".rtf": "text/rtf",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}


def _type_table() -> mimetypes.MimeTypes:
    """Python's own table with the newer types; made at import, since `mimetypes` looks into files when it first is."""
    table = mimetypes.MimeTypes()
    for extension, content_type in _NEWER_TYPES.items():
        table.add_type(content_type, extension)
    return table


_TYPES = _type_table()


def fallback_content_type(body: str | None, base: str) -> str:
    """The content type of a body column of type `base`; a body of None is the row as JSON."""
    return "application/json" if body is None else _FALLBACKS.get(base, "application/octet-stream")


def guess_content_type(key: str, fallback: str) -> str:
    """What the extension of an object key says; `fallback` when it has none or an unknown one."""
    name = key.rpartition("/")[2]
    if "." not in name:
        return fallback
    guess, encoding = _TYPES.guess_type("x." + name.rpartition(".")[2].lower())
    if encoding is not None:  # what is compressed is a compressed file, and stored as one
        guess = _ENCODINGS.get(encoding)
    return guess or fallback
