"""A real PostgreSQL and a real S3 server from wheels, for the demo and the tests.

Installed by the extra `demo`. Nothing here is used by a run.
"""
