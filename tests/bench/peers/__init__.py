"""Other clients, each a program of its own: `python -m tests.bench.peers.NAME`. They put one body under many keys."""
