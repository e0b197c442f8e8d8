"""An S3 that answers in microseconds and misbehaves on order: what is left to measure, and to test, is the client.

`python -m asyncup.bench.simulator` runs it as a process of its own, `launch.simulator` starts one from Python. Rooms:
`framing` finds requests in bytes, `asked` says which operation they mean, `judge` what becomes of them, `faults` and
`limits` what is in their way, `refusals` and `answers` how that is worded, `null` what is answered when nothing is kept,
`delay` when, `misbehaviour` what is done to a client instead, `counters` what has happened, `control` how to change it all,
`connection` joins them, `options` composes, `server` listens.
"""
