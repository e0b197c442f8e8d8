"""Whether this is a step of a pipeline, and whose.

`CI` is what nearly all of them set: https://docs.github.com/en/actions/reference/workflows-and-actions/variables,
https://docs.gitlab.com/ci/variables/predefined_variables/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

GITHUB, GITLAB, OTHER = "github", "gitlab", "other"

_FALSE = frozenset(("", "0", "false", "no", "off", "n", "f"))
_TRUE = frozenset(("1", "true", "yes", "on", "y", "t"))


def detect(asked: bool | None, environ: Mapping[str, str]) -> str | None:
    """Whose step this is: one of GITHUB, GITLAB and OTHER; None where it is none. `asked` is what --ci or --no-ci says."""
    if asked is None:
        asked = is_true(environ.get("CI", ""))
    if not asked:
        return None
    if environ.get("GITHUB_ACTIONS") == "true":
        return GITHUB
    return GITLAB if environ.get("GITLAB_CI") == "true" else OTHER


def is_true(value: str) -> bool:
    """Whether a variable is set to something; a few set CI to the name of the service."""
    return value.strip().lower() not in _FALSE


def asked_for(arguments: Sequence[str], environ: Mapping[str, str]) -> bool | None:
    """What a command line that was not parsed says: the last of --ci and --no-ci, or else ASYNCUP_CI."""
    said = [argument for argument in arguments if argument in ("--ci", "--no-ci")]
    if said:
        return said[-1] == "--ci"
    value = environ.get("ASYNCUP_CI", "").strip().lower()
    return True if value in _TRUE else False if value in _FALSE - {""} else None
