"""Why a source cannot be read, all of it: what a run would be told one by one, mended and tried again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from asyncup.config import Config
from asyncup.errors import AsyncupError, SourceRefused
from asyncup.model import RowShape
from asyncup.planning.findings import Findings
from asyncup.render.headertemplates import HeaderTemplates
from asyncup.render.renderer import Renderer
from asyncup.render.template import Template
from asyncup.render.uniqueness import check_uniqueness
from asyncup.sources.connection.session import Session
from asyncup.sources.planner.survey import denied_columns, relation_of
from asyncup.sources.postgres import PostgresSource, Request


async def note_refusals(
    findings: Findings,
    reason: AsyncupError,
    session: Session,
    request: Request,
    config: Config,
    template: Template | None,
    headers: HeaderTemplates,
) -> None:
    """Note the reason why a request was refused, and what else the database, or a template, would refuse of it.

    `template` is that of the object keys, None where it need not be unique.
    """
    if not isinstance(reason, SourceRefused) or reason.op == "connect":
        findings.note(reason)
        return
    if request.table is not None and reason.message.startswith("permission denied"):
        wanted = None if request.body is None else {*request.columns, request.body, *(request.key or ())}
        with findings.noting():
            denied = await denied_columns(session, request.table, wanted)
            if denied is not None:
                reason.hint = denied.grant
                findings.permit(select=False, grant=denied.grant)
    findings.note(reason)
    await _check_templates(findings, session, request, config, template, headers)
    if reason.op == "resolve columns":
        await _try_parts(findings, session, request)


async def _try_parts(findings: Findings, session: Session, whole: Request) -> None:
    """Resolve each part of a request by itself, so that one wrong name does not hide another one."""
    bare = replace(whole, key=None if whole.query is None else whole.key, columns=(), body=None, where=None)
    parts = [replace(bare, key=whole.key), replace(bare, body=whole.body), replace(bare, where=whole.where)]
    for part in [*parts, *(replace(bare, columns=(name,)) for name in whole.columns)]:
        with findings.noting():
            await PostgresSource.resolve(session, part)


async def _check_templates(
    findings: Findings,
    session: Session,
    request: Request,
    config: Config,
    template: Template | None,
    headers: HeaderTemplates,
) -> None:
    """Check the templates by what the catalogue says, of a source whose rows cannot be read."""
    columns: Mapping[str, str] = request.asked_by
    try:
        relation, key = await relation_of(session, request)
    except AsyncupError:
        return  # it is the reason that is noted already
    if template is None or not set(columns) <= set(relation.names):
        return
    shape = RowShape(len(key.columns), tuple(relation.column(name) for name in columns))
    keys = (tuple(column.name for column in key.columns),) if relation.is_query else relation.unique_keys
    if not config.allow_collisions:
        with findings.noting():
            check_uniqueness(template, shape, keys)
    with findings.noting():
        Renderer(shape, template, headers=headers, on_null=config.on_null, allow_collisions=True)
