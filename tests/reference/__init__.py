"""The pages of docs/reference, made of the code that they speak of. `scripts/docs` writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.reference import configuration, exit_codes, fields, flags, metrics

#: Each page below docs/ and what makes its text.
PAGES: Mapping[str, Callable[[], str]] = {
    "reference/flags.md": flags.text,
    "reference/configuration.md": configuration.text,
    "reference/exit-codes.md": exit_codes.text,
    "reference/json.md": fields.json_page,
    "reference/log-events.md": fields.log_page,
    "reference/metrics.md": metrics.text,
}
