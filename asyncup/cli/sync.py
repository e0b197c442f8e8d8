"""`asyncup sync`: copy rows to objects."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from inspect import signature
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncup.cli.completing import complete_jobs
from asyncup.cli.following import Following
from asyncup.cli.jobs import Stage, as_job, choose
from asyncup.cli.running import Run, present
from asyncup.config import (
    ADDRESSING,
    CHECKSUMS,
    COMPRESSIONS,
    EXECUTORS,
    IF_EXISTS,
    ON_NULL,
    PACK_BYTES,
    PACK_ROWS,
    PACKS,
    S3_CLIENTS,
    SSE,
    Config,
)
from asyncup.errors import UsageError
from asyncup.values import MIB, environment, flag

if TYPE_CHECKING:
    from asyncup.cli.presentation import Outcome, View
    from asyncup.flow.interrupt import Interrupt

HELP = """Reads by keyset pagination, sends many objects at a time, and keeps a checkpoint: after an interruption the same \
command goes on where it stopped.

JOB is a name of \\[jobs.NAME] in asyncup.toml, where every flag has its key; several run together, each with a checkpoint \
of its own. A flag goes over the environment, that over the job, and the job over the file's \\[defaults].

Every flag can be set in the environment too, as ASYNCUP_ and its name, such as ASYNCUP_ENDPOINT_URL; a flag wins. \
Those that can be repeated have one value in each line there.

Exit codes: 0 complete; 1 aborted and resumable, or a server cannot be reached, or a gate was missed (--expect-rows, \
--min-rate, --timeout); 2 only another configuration mends \
it, and nothing was sent; 3 complete, but rows failed; 130 and 143 interrupted and resumable."""

#: A line each, since what renders help joins the lines of a paragraph.
EXAMPLES = """Examples, with the database in DATABASE_URL or PG* and credentials where AWS tools look for them:

asyncup sync --table documents --to 's3://bucket/docs/{id}.pdf' --body content

asyncup sync --table pages --to 's3://bucket/{slug}.json' --dry-run

asyncup sync --table events --to 's3://bucket/{id}' --incremental updated_at

asyncup sync documents pages"""

SOURCE, DESTINATION, OBJECT = "What to read", "Where to write", "What an object is"
TRANSFORM, PACK = "A function of yours", "Many rows in one object"
FLOW, STATE, RUN, JOBS = "How fast, how much", "State", "This run", "Jobs of a configuration file"


def _default(option: str) -> str | None:
    """The default of an option as the help shows it; it is declared in Config alone."""
    value: Any = next(entry.default for entry in fields(Config) if entry.name == option)
    if value in (None, "", False, ()):
        return None
    if option == "memory":
        return f"{value // MIB}MiB"
    return f"{value:g}s" if isinstance(value, float) else str(value)


def _option(
    option: str, text: str, panel: str, metavar: str = "", default: str | None = None, *, repeated: bool = False
) -> Any:
    default = default or _default(option)
    return typer.Option(
        flag(option),
        envvar=None if repeated else environment(option),  # typer would take a variable apart at its blanks
        show_envvar=False,
        help=f"{text} Default: {default}." if default else text,
        rich_help_panel=panel,
        metavar=metavar,
        show_default=False,
    )


def sync(
    job: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="JOB",
            help="Jobs of the configuration file, by name.",
            show_default=False,
            autocompletion=complete_jobs,
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="Every job of the configuration file.", rich_help_panel=JOBS, metavar="", show_default=False
        ),
    ] = False,
    config: Annotated[
        str | None,
        typer.Option(
            help="The configuration file. Default: asyncup.toml, or pyproject.toml with \\[tool.asyncup], in this folder or "
            "above it.",
            envvar=environment("config"),
            show_envvar=False,
            rich_help_panel=JOBS,
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    at_a_time: Annotated[
        int,
        typer.Option(
            "--jobs",
            help="Jobs at a time; memory, requests in flight and rates are for all of them together. Default: 8.",
            envvar=environment("jobs"),
            show_envvar=False,
            rich_help_panel=JOBS,
            metavar="N",
            show_default=False,
        ),
    ] = 8,
    fail_fast: Annotated[
        bool,
        typer.Option(
            "--fail-fast",
            help="When a job cannot begin or go on, end the others too.",
            envvar=environment("fail_fast"),
            show_envvar=False,
            rich_help_panel=JOBS,
            metavar="",
            show_default=False,
        ),
    ] = False,
    dsn: Annotated[
        str | None,
        _option(
            "dsn",
            "postgresql://user@host:5432/database, or host=… dbname=… as psql takes it; else DATABASE_URL, else the PG* "
            "variables.",
            SOURCE,
            "DSN",
        ),
    ] = None,
    password_command: Annotated[
        str | None,
        _option(
            "password_command",
            "A shell command that prints the database's password, run for each connection.",
            SOURCE,
            "COMMAND",
        ),
    ] = None,
    table: Annotated[
        str | None, _option("table", 'Table or view, as in SQL: docs, public.docs, "Mixed Case".', SOURCE, "NAME")
    ] = None,
    query: Annotated[
        str | None, _option("query", "A SELECT to read instead of a table; needs --key.", SOURCE, "SQL")
    ] = None,
    where: Annotated[
        str | None, _option("where", "Only rows for which this SQL condition holds.", SOURCE, "SQL")
    ] = None,
    key: Annotated[
        str | None,
        _option("key", "Pagination key, immutable columns, as in SQL.", SOURCE, "A,B", default="the primary key"),
    ] = None,
    page_size: Annotated[
        str | None, _option("page_size", "Rows per page.", SOURCE, "auto|N", default="auto, by their size")
    ] = None,
    readers: Annotated[
        str | None,
        _option("readers", "Connections that read a table side by side, in ranges of its key.", SOURCE, "N"),
    ] = None,
    shard: Annotated[
        str | None,
        _option("shard", "One of N disjoint parts, I from 0: N machines copy a table together.", SOURCE, "I/N"),
    ] = None,
    snapshot: Annotated[
        bool,
        _option("snapshot", "Read everything as of one instant; such a run cannot be resumed.", SOURCE),
    ] = False,
    allow_sort: Annotated[
        bool,
        _option(
            "allow_sort", "Read page by page even where no index gives the pages, so that each sorts or scans.", SOURCE
        ),
    ] = False,
    incremental: Annotated[
        str | None,
        _option(
            "incremental",
            "Only what is new or changed since the last run, by this column: when a row was written (timestamptz, "
            "timestamp, date), the transaction that wrote it (xid8), or, for new rows alone, a number from a sequence.",
            SOURCE,
            "COLUMN",
        ),
    ] = None,
    lag: Annotated[
        str | None,
        _option(
            "lag",
            "With --incremental by time: leave the last 5m to the next run, for clocks that differ and transactions that "
            "the server does not show.",
            SOURCE,
            "DURATION",
            default="as long as open transactions need",
        ),
    ] = None,
    limit: Annotated[
        str | None,
        _option("limit", "Read N rows from the start, to try out; leaves no checkpoint.", SOURCE, "N"),
    ] = None,
    to: Annotated[
        str | None,
        _option(
            "to",
            "s3://bucket/{column}.ext, file:///dir/{column}.ext, python:module:factory (a sink of your own) or "
            "null:. {column} is the column's text, "
            "{column:08d} or {column:%Y/%m} formats its value, {{ is a brace.",
            DESTINATION,
            "URL",
        ),
    ] = None,
    endpoint_url: Annotated[
        str | None, _option("endpoint_url", "Another S3 server than AWS; also AWS_ENDPOINT_URL.", DESTINATION, "URL")
    ] = None,
    region: Annotated[str | None, _option("region", "AWS region; also AWS_REGION.", DESTINATION, "NAME")] = None,
    profile: Annotated[
        str | None, _option("profile", "Profile of ~/.aws/config; also AWS_PROFILE.", DESTINATION, "NAME")
    ] = None,
    addressing: Annotated[
        str | None,
        _option("addressing", "Bucket in the path or in the host name.", DESTINATION, "|".join(ADDRESSING)),
    ] = None,
    ca_bundle: Annotated[
        str | None, _option("ca_bundle", "Certificate authorities to trust, PEM.", DESTINATION, "FILE")
    ] = None,
    no_sign_request: Annotated[
        bool, _option("no_sign_request", "Send requests without credentials.", DESTINATION)
    ] = False,
    request_payer: Annotated[
        str | None, _option("request_payer", "Pay for requests to somebody else's bucket.", DESTINATION, "requester")
    ] = None,
    expected_bucket_owner: Annotated[
        str | None,
        _option("expected_bucket_owner", "Refuse a bucket that another account owns.", DESTINATION, "ACCOUNT"),
    ] = None,
    s3_client: Annotated[
        str | None,
        _option(
            "s3_client", "What sends objects: asyncup's own client, or botocore's.", DESTINATION, "|".join(S3_CLIENTS)
        ),
    ] = None,
    no_verify_etag: Annotated[
        bool,
        _option("no_verify_etag", "Do not compare the ETag in an answer with the MD5 of what was sent.", DESTINATION),
    ] = False,
    body: Annotated[
        str | None,
        _option(
            "body",
            "Column that holds the object; lo:COLUMN for large objects; or row, the row as JSON.",
            OBJECT,
            "COLUMN|lo:COLUMN|row",
            default="row",
        ),
    ] = None,
    content_type: Annotated[
        str | None,
        _option(
            "content_type",
            "Content type, a template too.",
            OBJECT,
            "TEMPLATE",
            default="by the object key's extension, else by the body's type",
        ),
    ] = None,
    cache_control: Annotated[
        str | None, _option("cache_control", "Cache-Control, a template too: 'max-age=60'.", OBJECT, "TEMPLATE")
    ] = None,
    content_disposition: Annotated[
        str | None,
        _option(
            "content_disposition",
            "Content-Disposition, a template too: 'attachment; filename=\"{name}\"'.",
            OBJECT,
            "TEMPLATE",
        ),
    ] = None,
    content_language: Annotated[
        str | None, _option("content_language", "Content-Language, a template too.", OBJECT, "TEMPLATE")
    ] = None,
    metadata: Annotated[
        list[str] | None,
        _option(
            "metadata",
            "User metadata; the value is a template. Can be repeated.",
            OBJECT,
            "NAME=TEMPLATE",
            repeated=True,
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        _option("tag", "A tag; the value is a template. Can be repeated.", OBJECT, "KEY=TEMPLATE", repeated=True),
    ] = None,
    storage_class: Annotated[
        str | None,
        _option("storage_class", "Such as STANDARD_IA.", OBJECT, "CLASS", default="the server's"),
    ] = None,
    sse: Annotated[
        str | None, _option("sse", f"Encryption at rest: {', '.join(SSE)}.", OBJECT, "METHOD", default="the bucket's")
    ] = None,
    sse_kms_key_id: Annotated[
        str | None,
        _option("sse_kms_key_id", "The KMS key: id, ARN or alias.", OBJECT, "KEY", default="the account's own"),
    ] = None,
    acl: Annotated[
        str | None,
        _option("acl", "Canned ACL, such as bucket-owner-full-control.", OBJECT, "ACL", default="the server's"),
    ] = None,
    checksum: Annotated[
        str | None,
        _option(
            "checksum",
            "A checksum that S3 verifies and keeps.",
            OBJECT,
            "|".join(CHECKSUMS),
            default="crc32 on AWS, else none",
        ),
    ] = None,
    on_null: Annotated[
        str | None, _option("on_null", "What to do with a row whose body is NULL.", OBJECT, "|".join(ON_NULL))
    ] = None,
    allow_collisions: Annotated[
        bool,
        _option(
            "allow_collisions", "Take a template that may give two rows one object key; the later one wins.", OBJECT
        ),
    ] = False,
    if_exists: Annotated[
        str | None,
        _option(
            "if_exists",
            f"What to do with a row whose object is there already: {', '.join(IF_EXISTS)}. different compares size and "
            "checksum or ETag, by a listing, and sends what is not the same.",
            OBJECT,
            "MODE",
        ),
    ] = None,
    compress: Annotated[
        str | None,
        _option(
            "compress",
            "Compress bodies and set Content-Encoding; what is compressed already stays as it is.",
            OBJECT,
            "|".join(COMPRESSIONS),
        ),
    ] = None,
    compress_level: Annotated[
        str | None,
        _option("compress_level", "gzip: 1 to 9; zstd: 1 to 19.", OBJECT, "N", default="6 for gzip, 3 for zstd"),
    ] = None,
    transform: Annotated[
        str | None,
        _option(
            "transform",
            "A function that makes the object of a row: bytes, text, an Upload, several of them, or None to skip it.",
            TRANSFORM,
            "MODULE:FUNCTION",
        ),
    ] = None,
    executor: Annotated[
        str | None,
        _option(
            "executor",
            f"Where it runs: {', '.join(EXECUTORS)}. auto measures its first calls and says what it chose.",
            TRANSFORM,
            "WHERE",
        ),
    ] = None,
    executor_workers: Annotated[
        str | None,
        _option("executor_workers", "Threads or processes for it.", TRANSFORM, "N", default="by the cores"),
    ] = None,
    transform_timeout: Annotated[
        str | None,
        _option("transform_timeout", "Time for one row; then it is ended, and the row fails.", TRANSFORM, "DURATION"),
    ] = None,
    pack: Annotated[
        str | None,
        _option(
            "pack",
            "Pack rows into objects of this format, each named by its first row; one row one object without it.",
            PACK,
            "|".join(PACKS),
        ),
    ] = None,
    pack_rows: Annotated[
        str | None,
        _option(
            "pack_rows", "The most rows of a pack.", PACK, "N", default=f"{PACK_ROWS}, unless --pack-bytes is given"
        ),
    ] = None,
    pack_bytes: Annotated[
        str | None,
        _option(
            "pack_bytes",
            "The most bytes of rows in a pack, as they are read.",
            PACK,
            "SIZE",
            default=f"{PACK_BYTES // MIB}MiB, unless --pack-rows is given",
        ),
    ] = None,
    pack_by: Annotated[
        str | None,
        _option("pack_by", "A new pack where one of these columns changes, in the order of the key.", PACK, "A,B"),
    ] = None,
    pack_index: Annotated[
        bool,
        _option("pack_index", "Put an index beside each pack: which row lies where, for range requests.", PACK),
    ] = False,
    pack_member: Annotated[
        str | None,
        _option(
            "pack_member",
            "With tar: the name of a row's file, a template.",
            PACK,
            "TEMPLATE",
            default="the key's columns",
        ),
    ] = None,
    concurrency: Annotated[
        str | None,
        _option(
            "concurrency",
            "Requests in flight: as many as bring more, found while it runs, or always N.",
            FLOW,
            "auto|N",
            default="auto",
        ),
    ] = None,
    max_concurrency: Annotated[
        str | None,
        _option(
            "max_concurrency",
            "The most that auto may have in flight.",
            FLOW,
            "N",
            default="1000, or what open files allow",
        ),
    ] = None,
    max_rate: Annotated[
        str | None,
        _option("max_rate", "Requests a second at most, repeated ones too.", FLOW, "N", default="no limit"),
    ] = None,
    max_bandwidth: Annotated[
        str | None,
        _option("max_bandwidth", "Bytes a second at most: 20MiB.", FLOW, "SIZE", default="no limit"),
    ] = None,
    memory: Annotated[
        str | None,
        _option("memory", "Bound on the bytes held from read to acknowledged: 256MiB, 1GB.", FLOW, "SIZE"),
    ] = None,
    max_attempts: Annotated[
        str | None, _option("max_attempts", "Attempts for one object before its row fails.", FLOW, "N")
    ] = None,
    attempt_timeout: Annotated[
        str | None,
        _option("attempt_timeout", "Time for one attempt, and a second more for each MiB.", FLOW, "DURATION"),
    ] = None,
    drain_timeout: Annotated[
        str | None,
        _option("drain_timeout", "Time for uploads in flight to finish after the first Ctrl-C.", FLOW, "DURATION"),
    ] = None,
    max_failures: Annotated[
        str | None, _option("max_failures", "Abort when more than N rows failed.", FLOW, "N", default="no limit")
    ] = None,
    state: Annotated[
        str | None,
        _option(
            "state",
            "Where checkpoints, locks and dead letters are kept: a folder, s3://bucket/prefix, or postgres:schema.table.",
            STATE,
            "PLACE",
        ),
    ] = None,
    name: Annotated[
        str | None,
        _option("name", "Name of the job and its checkpoint.", STATE, "NAME", default="schema.table, or query-<hash>"),
    ] = None,
    restart: Annotated[bool, _option("restart", "Forget an unfinished checkpoint and start over.", STATE)] = False,
    dead_letters: Annotated[
        str | None,
        _option("dead_letters", "File for rows that failed.", STATE, "FILE", default="with the state"),
    ] = None,
    dry_run: Annotated[
        bool,
        _option(
            "dry_run",
            "Read, render, transform, pack and sign everything, and send nothing; say what would be sent. Leaves no checkpoint.",
            RUN,
        ),
    ] = False,
    expect_rows: Annotated[
        str | None,
        _option(
            "expect_rows",
            "Exit 1 where the job, once it is complete, has fewer or more rows; one side may be left out.",
            RUN,
            "MIN:MAX",
            default="any number",
        ),
    ] = None,
    min_rate: Annotated[
        str | None,
        _option("min_rate", "Exit 1 where fewer objects a second were put, over all of the run.", RUN, "N"),
    ] = None,
    timeout: Annotated[
        str | None,
        _option(
            "timeout",
            "When the time is over, end as after Ctrl-C, and exit 1: the same command goes on.",
            RUN,
            "DURATION",
            default="no limit",
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            help="A summary for people, or one JSON object on stdout. Default: text.",
            metavar="text|json",
            envvar="ASYNCUP_OUTPUT",
            show_envvar=False,
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = "text",
    progress: Annotated[
        str,
        typer.Option(
            help="A live view on a terminal, a line every few seconds elsewhere. Default: auto.",
            metavar="auto|live|plain|none",
            envvar="ASYNCUP_PROGRESS",
            show_envvar=False,
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = "auto",
    log_format: Annotated[
        str,
        typer.Option(
            help="What goes to stderr: lines for people, or a JSON object in each line. Default: text.",
            metavar="text|json",
            envvar="ASYNCUP_LOG_FORMAT",
            show_envvar=False,
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = "text",
    ci: Annotated[
        bool | None,
        typer.Option(
            "--ci/--no-ci",
            help="A step of a pipeline: plain lines, annotations, a step summary, outputs. Default: where CI is set.",
            envvar="ASYNCUP_CI",
            show_envvar=False,
            show_default=False,
            metavar="",
            rich_help_panel=RUN,
        ),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(
            help="Write what happened to a file that any browser opens: tables, curves, failures, configuration.",
            metavar="FILE.html",
            envvar="ASYNCUP_REPORT",
            show_envvar=False,
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Serve metrics for Prometheus at /metrics while it runs, and /healthz: :9464 on every interface, "
            "127.0.0.1:9464 on this machine, port 0 on any that is free.",
            metavar="[HOST]:PORT",
            envvar="ASYNCUP_METRICS",
            show_envvar=False,
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = None,
    verbose: Annotated[
        int,
        typer.Option(
            "-v",
            "--verbose",
            count=True,
            help="-v shows warnings of libraries and the first traceback of a transform, -vv those of errors too and requests to S3 "
            "that failed, with their ids, -vvv every request.",
            envvar="ASYNCUP_VERBOSE",
            show_envvar=False,
            rich_help_panel=RUN,
            metavar="",
            show_default=False,
        ),
    ] = 0,
    quiet: Annotated[
        bool,
        typer.Option(
            "-q",
            "--quiet",
            help="Only errors: no progress, no summary.",
            envvar="ASYNCUP_QUIET",
            show_envvar=False,
            rich_help_panel=RUN,
            metavar="",
        ),
    ] = False,
) -> int:
    return run_sync(locals())


#: What is for a sync alone.
_OF_A_RUN = ("at_a_time", "fail_fast", "dry_run", "expect_rows", "min_rate", "timeout")
#: What commands take that look at jobs one after another.
OF_JOBS = tuple(name for name in signature(sync).parameters if name not in _OF_A_RUN)


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a job among a command's values: those that flags or the environment give."""
    chosen = {entry.name for entry in fields(Config)}
    options = {name: value for name, value in values.items() if name in chosen and value not in (None, False, [])}
    for option in ("metadata", "tag"):  # typer would take a variable apart at its blanks
        if option not in options and environment(option) in os.environ:
            options[option] = os.environ[environment(option)]
    for option, value in values.items():  # said in the environment, it goes over what a file says
        if value is False and option in chosen and environment(option) in os.environ:
            options[option] = False
    return options


def run_sync(values: Mapping[str, Any]) -> int:
    """Run one job, or several, and present it; returns the exit code."""

    def prepare(stage: Stage) -> Run:
        own = given(values)
        if values["at_a_time"] < 1:
            raise UsageError("read flags", "--jobs", "must be at least 1", "leave it out for 8 jobs at a time")
        chosen = choose(values, own, stage)
        if (only := chosen.only) is not None:
            if values["fail_fast"] and not values["every"] and environment("fail_fast") not in os.environ:
                raise UsageError("read flags", "--fail-fast", "there are no other jobs to end", "leave it out")
            from asyncup.app import execute

            async def run(view: View, interrupt: Interrupt) -> Outcome:
                report = await execute(only.config, view, interrupt)
                only.explain(report.error)
                report = replace(report, **Following(values, own, [only.name]).of_report(report))
                job = report.job
                return (
                    report
                    if job is None
                    else replace(report, job=replace(job, configured=as_job(only.name, values["config"])))
                )

            return run
        from asyncup.errors import GateMissed
        from asyncup.report import ABORTED, INTERRUPTED
        from asyncup.together import Together, check_apart, labels_of, sync_together

        configs = [job.config for job in chosen.jobs]
        check_apart(configs)
        stage.labels = labels_of(configs)
        how = Together(chosen.whole, values["at_a_time"], fail_fast=values["fail_fast"])

        async def run_all(view: View, interrupt: Interrupt) -> Outcome:
            report = await sync_together(configs, how, view, interrupt)
            for job, ended in zip(chosen.jobs, report.jobs, strict=True):
                job.explain(ended.error)
            left = [
                str(job.name)
                for job, ended in zip(chosen.jobs, report.jobs, strict=True)
                if ended.status in (ABORTED, INTERRUPTED) and not isinstance(ended.error, GateMissed)
            ]
            jobs = tuple(
                replace(ended, configured=as_job(job.name, values["config"]))
                for job, ended in zip(chosen.jobs, report.jobs, strict=True)
            )
            names = [str(job.name) for job in chosen.jobs]
            following = Following(values, own, names).of_jobs(report, left or names)
            return replace(report, jobs=jobs, **following)

        return run_all

    return present(prepare, values)
