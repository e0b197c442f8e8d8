"""The command line: flags become a Config, a Report becomes an exit code."""
