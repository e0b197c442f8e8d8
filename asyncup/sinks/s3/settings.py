"""What the user chose about S3, and what follows from it for every request."""

from __future__ import annotations

from dataclasses import dataclass, field

from asyncup.model import STREAM_BYTES, Headers

MIB = 1 << 20
#: Bodies from here on go in parts of this size (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html).
PART_BYTES = STREAM_BYTES
MAX_PARTS = 10_000
#: An attempt has a second for each MiB of its body beyond `--attempt-timeout`, so that large objects can pass.
SECONDS_PER_BYTE = 1.0 / MIB


@dataclass(frozen=True, slots=True)
class S3Settings:
    """How to reach S3, and what every object is given; None leaves the choice to botocore, the provider or the bucket.

    `keys` are an access key and its secret for a server of our own, in place of those that botocore finds.
    `attempt_timeout` in seconds; `connections` is the most that botocore's lane opens;
    bodies from `part_bytes` on go in parts of this size.
    """

    bucket: str
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    addressing: str = "auto"
    ca_bundle: str | None = None
    no_sign_request: bool = False
    s3_client: str = "wire"
    connections: int = 64
    attempt_timeout: float = 60.0
    storage_class: str | None = None
    sse: str | None = None
    sse_kms_key_id: str | None = None
    acl: str | None = None
    request_payer: str | None = None
    expected_bucket_owner: str | None = None
    checksum: str | None = None
    verify_etag: bool = True
    part_bytes: int = PART_BYTES
    keys: tuple[str, str] | None = field(default=None, repr=False)

    def patience(self, size: int) -> float:
        """How many seconds an attempt with a body of `size` bytes may take."""
        return self.attempt_timeout + size * SECONDS_PER_BYTE

    def object_headers(self) -> Headers:
        """What every object is given, as headers of the request that creates it."""
        return _present(
            {
                "x-amz-storage-class": self.storage_class,
                "x-amz-server-side-encryption": self.sse,
                "x-amz-server-side-encryption-aws-kms-key-id": self.sse_kms_key_id,
                "x-amz-acl": self.acl,
            }
        )

    def request_headers(self) -> Headers:
        """What every request says, whatever it is about."""
        return _present(
            {
                "x-amz-request-payer": self.request_payer,
                "x-amz-expected-bucket-owner": self.expected_bucket_owner,
            }
        )


def _present(headers: dict[str, str | None]) -> Headers:
    return tuple((name, value) for name, value in headers.items() if value is not None)
