"""An S3 that keeps nothing and answers in microseconds: what is left to measure is the client.

`python -m asyncup.bench.simulator` runs it as a process of its own, `launch.simulator` starts one from Python. Rooms:
`framing` finds requests in bytes, `answers` says what is answered, `delay` when, `counters` what has happened,
`connection` joins them, `server` listens.
"""
