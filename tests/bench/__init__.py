"""The benchmark: `scripts/bench`. Not collected by pytest."""
