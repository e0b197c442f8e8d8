"""What somebody who runs asyncup for hours looks at from outside: metrics, health, and the live state on a signal."""
