"""How servers differ that all say they are S3, as far as a PUT notices.

What is unknown gets what every server takes: a signed payload and no extra checksum.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider's ways.

    Attributes:
        domains: its endpoints end in one of these.
        checksum: the checksum that is sent where the user leaves it open, None for none.
        signs_tls_payloads: False where, over TLS, the checksum may stand in for the payload's part in the signature.
        etag_is_md5: True where the ETag of an object that is not encrypted with KMS is promised to be the MD5 of its
            bytes; None where the first PUT has to show it.
        honours_conditions: True where `If-None-Match: *` is known to keep a PUT from replacing an object; None where it
            is to be found out, since servers that do not know the header ignore it.
    """

    domains: tuple[str, ...] = ()
    checksum: str | None = None
    signs_tls_payloads: bool = True
    etag_is_md5: bool | None = None
    honours_conditions: bool | None = None


#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html,
#: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html (ETag) and
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
AWS = Provider(
    ("amazonaws.com", "amazonaws.com.cn"), "crc32", signs_tls_payloads=False, etag_is_md5=True, honours_conditions=True
)
#: https://developers.cloudflare.com/r2/api/s3/api/
CLOUDFLARE = Provider(("r2.cloudflarestorage.com",), etag_is_md5=True, honours_conditions=True)
OTHER = Provider()


def provider_of(host: str) -> Provider:
    """The provider that a host belongs to."""
    for provider in (AWS, CLOUDFLARE):
        if any(host == domain or host.endswith("." + domain) for domain in provider.domains):
            return provider
    return OTHER
