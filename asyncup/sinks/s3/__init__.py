"""Amazon S3 and the servers that speak its protocol.

sink        chooses the lane; large objects go in parts (multipart)
wire        the lane of our own: framing and signing → pool → exchange
compatible  the lane through botocore, for what the wire cannot reach
client      the control client: credentials, region, endpoint, multipart uploads
"""

from asyncup.sinks.s3.settings import S3Settings
from asyncup.sinks.s3.sink import S3Sink

__all__ = ["S3Settings", "S3Sink"]
