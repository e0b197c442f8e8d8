"""What flags say of an object's headers: templates, and names that are refused before the first row where S3 would."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from asyncup.errors import UsageError
from asyncup.render.headervalues import MAX_TAG_KEY, MAX_TAGS, METADATA_PREFIX, tag_fault
from asyncup.render.template import Template, parse_template

#: A header's name (RFC 9110, section 5.6.2), in lower case.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")

#: Names, or keys, and the templates of their values.
Entries = tuple[tuple[str, Template], ...]


@dataclass(frozen=True, slots=True)
class HeaderTemplates:
    """Templates of an object's headers; metadata names are in lower case and have no prefix.

    A template that renders NULL leaves its header, metadata entry or tag out; an empty text leaves out a header. Without
    a template the content type is guessed.
    """

    content_type: Template | None = None
    cache_control: Template | None = None
    content_disposition: Template | None = None
    content_language: Template | None = None
    metadata: Entries = ()
    tags: Entries = ()

    @classmethod
    def parse(
        cls,
        *,
        content_type: str | None = None,
        cache_control: str | None = None,
        content_disposition: str | None = None,
        content_language: str | None = None,
        metadata: Iterable[tuple[str, str]] = (),
        tags: Iterable[tuple[str, str]] = (),
    ) -> HeaderTemplates:
        """Parse the texts of flags. Names are checked here; values wait for their columns.

        Raises:
            UsageError: a name of metadata or a tag's key is refused, or there are too many.
            TemplateRefused: a text is no template.
        """
        entries = [(_metadata_name(name), text) for name, text in metadata]
        pairs = [(_tag_key(key), text) for key, text in tags]
        _refuse_twice("--metadata", [name for name, _ in entries])
        _refuse_twice("--tag", [key for key, _ in pairs])
        if len(pairs) > MAX_TAGS:
            raise UsageError("read flags", "--tag", f"{len(pairs)} tags; S3 takes {MAX_TAGS} for an object")
        return cls(
            content_type=_parsed(content_type),
            cache_control=_parsed(cache_control),
            content_disposition=_parsed(content_disposition),
            content_language=_parsed(content_language),
            metadata=tuple((name, parse_template(text)) for name, text in entries),
            tags=tuple((key, parse_template(text)) for key, text in pairs),
        )

    def columns(self) -> dict[str, str]:
        """The columns that they name, each with the flag that names it first."""
        single = {
            "--content-type": self.content_type,
            "--cache-control": self.cache_control,
            "--content-disposition": self.content_disposition,
            "--content-language": self.content_language,
        }
        flags = [(flag, template) for flag, template in single.items() if template is not None]
        flags += [(f"--metadata {name}", template) for name, template in self.metadata]
        flags += [(f"--tag {key}", template) for key, template in self.tags]
        return {name: flag for flag, template in reversed(flags) for name in template.names}


def _parsed(text: str | None) -> Template | None:
    return None if text is None else parse_template(text)


def _metadata_name(name: str) -> str:
    lower = name.lower()
    if not _TOKEN.fullmatch(lower) or not name.isascii():
        raise UsageError(
            "read flags",
            "--metadata",
            f"{name!r} cannot be the name of metadata",
            "a name has ASCII letters, digits and - _ . and is the same for all rows: --metadata name=value",
        )
    if lower.startswith(METADATA_PREFIX):
        raise UsageError(
            "read flags", "--metadata", f"{name!r} has a prefix", f"leave {METADATA_PREFIX} out: it is added"
        )
    return lower


def _tag_key(key: str) -> str:
    fault = tag_fault(key, MAX_TAG_KEY) if key else "is empty"
    if fault is None and key.lower().startswith("aws:"):
        fault = "begins with aws:, which is reserved"
    if fault is not None:
        raise UsageError("read flags", "--tag", f"the key {key[:200]!r} {fault}", "write it as --tag key=value")
    return key


def _refuse_twice(flag: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError("read flags", flag, f"{name} is given twice", "give each name once")
