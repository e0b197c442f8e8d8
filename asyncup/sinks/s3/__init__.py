"""Amazon S3 and the servers that speak its protocol."""

from asyncup.sinks.s3.client import S3Settings
from asyncup.sinks.s3.sink import S3Sink

__all__ = ["S3Settings", "S3Sink"]
