"""A first `asyncup.toml`.

looking   which tables the database has, which of them could be a job, and whether the bucket answers
proposing what a job for a table could be
writing   the file's text
"""
