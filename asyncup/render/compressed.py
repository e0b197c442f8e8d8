"""What is compressed already, so that compressing it again would cost time and gain nothing.

A body is taken for compressed when its content type says so or the extension of its object key does. What both leave
open is compressed. The table follows what mime-db (https://github.com/jshttp/mime-db) marks as not compressible. PDF is
there: its streams are deflated (ISO 32000-2, 7.4.4), and what is left gains a few per cent.
"""

from __future__ import annotations

import re

#: Pictures that lie uncompressed in their files; those of every other type are compressed, as are sound and film.
_PLAIN_IMAGES = frozenset(
    {
        "image/bmp",
        "image/svg+xml",
        "image/vnd.adobe.photoshop",
        "image/vnd.microsoft.icon",
        "image/x-icon",
        "image/x-ms-bmp",
        "image/x-portable-anymap",
        "image/x-portable-bitmap",
        "image/x-portable-graymap",
        "image/x-portable-pixmap",
    }
)
_MEDIA = ("audio/", "image/", "video/")
_FAMILIES = ("application/vnd.openxmlformats-officedocument.", "application/vnd.oasis.opendocument.")
_TYPES = frozenset(
    {
        "application/font-woff",
        "application/font-woff2",
        "application/gzip",
        "application/java-archive",
        "application/ogg",
        "application/pdf",
        "application/vnd.android.package-archive",
        "application/vnd.apache.parquet",
        "application/vnd.google-earth.kmz",
        "application/vnd.rar",
        "application/x-7z-compressed",
        "application/x-brotli",
        "application/x-bzip",
        "application/x-bzip2",
        "application/x-compress",
        "application/x-gzip",
        "application/x-lz4",
        "application/x-rar-compressed",
        "application/x-xz",
        "application/x-zip-compressed",
        "application/zip",
        "application/zstd",
        "font/woff",
        "font/woff2",
    }
)
_EXTENSION = re.compile(
    r"\.(?:7z|aac|apk|avif|avi|br|bz2|docx|epub|flac|flv|gif|gz|heic|heif|jar|jp2|jpeg|jpg|jxl|kmz|lz4|m4a|m4v|mkv|mov|"
    r"mp3|mp4|mpeg|mpg|odp|ods|odt|ogg|ogv|opus|parquet|pdf|png|pptx|rar|tbz2|tgz|txz|war|webm|webp|whl|wma|wmv|woff2?|"
    r"xlsx|xz|zip|zst)\Z",
    re.IGNORECASE,
)


def is_compressed(key: str, content_type: str | None) -> bool:
    """Whether a body under this object key, of this content type, is compressed by what it is."""
    if _EXTENSION.search(key):
        return True
    if content_type is None:
        return False
    plain = content_type.partition(";")[0].strip().lower()
    if plain.startswith(_MEDIA):
        return plain not in _PLAIN_IMAGES
    return plain in _TYPES or plain.startswith(_FAMILIES) or plain.endswith("+zip")
