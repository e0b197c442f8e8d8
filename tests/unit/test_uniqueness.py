"""Object keys are unique: a template that is accepted gives no two rows the same one, whatever their values are."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncup.errors import RowRefused, TemplateRefused
from asyncup.model import Column, Row, RowShape
from asyncup.render.renderer import Renderer
from asyncup.render.template import parse_template
from asyncup.render.uniqueness import check_uniqueness

#: Separators that ordinary people use, and those that values are made of.
SEPARATORS = ["-", "/", "--", "0", "1", "5", " ", ".", ":", "-0", " B", "20", "+", ",", "_", "f", "e", "-1-"]

#: For each type values that are beginnings and ends of one another, as Postgres writes them.
VALUES = {
    "int8": ["0", "1", "-1", "10", "-10", "101", "15", "255", "1000", "1000000"],
    "uuid": ["00000000-0000-0000-0000-00000000000f", "f0000000-0000-0000-0000-000000000000"],
    "date": [
        "2000-01-01",
        "2000-01-11",
        "12000-01-01",
        "20000-01-01",
        "202000-01-01",
        "0044-01-01",
        "0044-01-01 BC",
        "infinity",
        "-infinity",
    ],
    "timestamp": [
        "2000-01-01 23:59:59",
        "2000-01-01 23:59:59.5",
        "2000-01-01 23:59:59.55",
        "2000-01-01 23:59:59.501",
        "12000-01-01 23:59:59",
        "0044-01-01 23:59:59 BC",
        "0044-01-01 23:59:59",
        "infinity",
        "-infinity",
    ],
    "timestamptz": [
        "2000-01-01 23:59:59+00",
        "2000-01-01 23:59:59.5+00",
        "12000-01-01 23:59:59+00",
        "0044-01-01 23:59:59+00 BC",
        "0044-01-01 23:59:59+00",
        "infinity",
        "-infinity",
    ],
    "time": ["00:00:00", "24:00:00", "00:00:00.5", "00:00:00.55", "10:00:00"],
    "bool": ["true", "false"],
    "text": [],
}

SPECS = {
    "int8": ["d", "08d", "x", "#x", "+d", " d", ",", "_", ">4", "0>4", " =5", "c", ".1e", "<4", "0<4", "*>4"],
    "date": ["%Y/%m/%d", "%Y%m%d", "%d%m%Y", "%Y-%m", "%Y%B%m%d", "%-d%m%Y%d", "%-d", "%%Y%m%d", "%m%d%y"],
    "timestamp": ["%Y%m%d%H%M%S%f", "%f%S%M%H%d%m%Y", "%Y-%m-%d", "%-S"],
    "timestamptz": ["%Y%m%d%H%M%S%f", "%Y/%m/%d"],
    "time": ["%H%M%S%f", "%H:%M"],
    "text": [".1", ">2"],
    "uuid": [".8"],
    "bool": [".1"],
}


def texts(literals: tuple[str, ...]) -> list[str]:
    """Texts made of the very literals that separate them, and of what other types' values begin and end with."""
    parts = {"", "a", "1", "0", "-", "BC", "000", *literals[1:-1]}
    return sorted({left + right for left, right in itertools.product(parts, repeat=2)})


def check_no_collision(text: str, types: tuple[str, ...], unique: tuple[int, ...], share: int = 100) -> bool:
    """Render every combination of hostile values; False when the template is refused before the run.

    `unique` are the positions of the unique key's columns; `share` is the most values that are tried of a column.
    """
    shape = RowShape(0, tuple(Column(f"c{number}", base, base, not_null=True) for number, base in enumerate(types)))
    template = parse_template(text)
    try:
        check_uniqueness(template, shape, [[f"c{number}" for number in unique]])
        render = Renderer(shape, template).render
    except TemplateRefused:
        return False
    pools = [VALUES[base] or texts(template.literals) for base in types]
    owners: dict[str, tuple[str, ...]] = {}
    for values in itertools.product(*(pool[:: -(-len(pool) // share)] for pool in pools)):
        try:
            upload = render((*values, 0, b""))
        except RowRefused:
            continue
        assert upload is not None
        mine = tuple(values[number] for number in unique)
        assert owners.setdefault(upload.key, mine) == mine, (text, upload.key, values)
    return True


@pytest.mark.parametrize("base", VALUES)
def test_no_two_rows_share_an_object_key_whatever_stands_beside_a_text(base: str) -> None:
    accepted = 0
    for separator, spec in itertools.product(SEPARATORS, ["", *SPECS[base]]):
        hole = "{c0:" + spec + "}" if spec else "{c0}"
        for text in (f"{hole}{separator}{{c1}}", f"{{c1}}{separator}{hole}.json"):
            for unique in ((0, 1), (1,)):
                accepted += check_no_collision(text, (base, "text"), unique)
    assert accepted >= 4 * len(SEPARATORS)


@st.composite
def templates(draw: st.DrawFn) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
    """A template, the types of the columns that it names, and the positions of the unique key's columns."""
    types = draw(st.lists(st.sampled_from([*VALUES, "text", "int8"]), min_size=2, max_size=3))
    parts = [draw(st.sampled_from(["", "x/", "1"]))]
    for number in draw(st.permutations(range(len(types)))):
        spec = draw(st.sampled_from(["", "", *SPECS[types[number]]]))
        parts += [f"{{c{number}:{spec}}}" if spec else f"{{c{number}}}", draw(st.sampled_from(SEPARATORS))]
    unique = draw(st.lists(st.sampled_from(range(len(types))), min_size=1, unique=True))
    return "".join(parts), tuple(types), tuple(unique)


@settings(max_examples=150, deadline=None)
@given(templates())
def test_no_two_rows_share_an_object_key_under_any_template_that_is_accepted(
    case: tuple[str, tuple[str, ...], tuple[int, ...]],
) -> None:
    check_no_collision(*case, share=12)


PAGES = RowShape(
    0,
    (
        Column("id", "bigint", "int8", not_null=True),
        Column("tenant", "text", "text", not_null=True),
        Column("slug", "text", "text", not_null=True),
        Column("day", "date", "date", not_null=True),
        Column("created", "timestamp with time zone", "timestamptz", not_null=True),
        Column("We ird", "uuid", "uuid", not_null=True),
    ),
)
ORDINARY: list[Row] = [
    (number, tenant, slug, day, f"{day} 23:59:59.5+00", "123e4567-e89b-12d3-a456-426614174000", 0, b"")
    for number in ("1", "42", "9223372036854775807")
    for tenant, slug in (("acme", "a-page"), ("acme", "docs/intro"), ("zoë & co", "2024-01-01"), ("", ""))
    for day in ("2024-02-29", "1999-12-31")
]


@pytest.mark.parametrize(
    ("text", "unique"),
    [
        ("{id}", ["id"]),
        ("{id:08d}", ["id"]),
        ("docs/{id:x}.pdf", ["id"]),
        ("{tenant}/{slug}.json", ["tenant", "slug"]),
        ("{tenant}/{slug}-{id}", ["id"]),
        ("{day}-{id}", ["day", "id"]),
        ("{day}-{slug}", ["day", "slug"]),
        ("{slug}-{day}", ["day", "slug"]),
        ("{created}-{id}", ["created", "id"]),
        ("{created}-{slug}", ["created", "slug"]),
        ("{slug} {created}", ["created", "slug"]),
        ("{created:%Y/%m/%d}/{id}", ["id"]),
        ("{created:%Y/%m/%d}/{slug}", ["slug"]),
        ("{day:%Y-%m-%d}-{slug}", ["day", "slug"]),
        ("{day:%d %B %Y (%m)}/{id}", ["day", "id"]),
        ('{"We ird"}-{slug}-{id}', ["We ird"]),
        ('{slug}-{"We ird"}', ["We ird", "slug"]),
        ("{id}-{day}-{created}", ["created", "day", "id"]),
    ],
)
def test_an_ordinary_template_is_accepted_and_fails_no_ordinary_row(text: str, unique: list[str]) -> None:
    template = parse_template(text)
    check_uniqueness(template, PAGES, [unique])
    render = Renderer(PAGES, template).render
    owners: dict[str, tuple[str, ...]] = {}
    for row in ORDINARY:
        upload = render(row)
        assert upload is not None
        mine = tuple(row[PAGES.index(name)] for name in unique)
        assert owners.setdefault(upload.key, mine) == mine


def test_a_format_that_fits_no_value_is_said_before_what_it_would_lose() -> None:
    with pytest.raises(TemplateRefused, match=r"{id:zz} does not fit a column"):
        check_uniqueness(parse_template("{id:zz}"), PAGES, [["id"]])


@pytest.mark.parametrize(
    ("text", "row", "blamed"),
    [
        # what is refused could be read in another way: another row with that reading may exist
        ("{tenant}/{slug}", {"tenant": "a/b", "slug": "c"}, "tenant"),
        ("{slug}-{id}", {"slug": "a", "id": "-1"}, "id"),
        ("{slug}-{day}", {"slug": "a", "day": "-infinity"}, "day"),
        ("{slug}1{day}", {"slug": "a", "day": "12000-01-31"}, "day"),
        ("{day} {slug}", {"day": "0044-03-15 BC", "slug": "a"}, "day"),
        ("{created}.{slug}", {"created": "infinity", "slug": "a"}, None),
        ("{tenant}--{slug}", {"tenant": "a-", "slug": "b"}, "tenant"),
        ("{tenant}--{slug}", {"tenant": "a", "slug": "-b"}, None),
        ("{tenant}/{slug}", {"tenant": "a", "slug": "b/c"}, None),
        ("{tenant}/{id}", {"tenant": "a/b", "id": "-1"}, None),
        ("{day}-{slug}", {"day": "infinity", "slug": "-"}, None),
    ],
)
def test_only_a_value_that_contains_its_separator_fails_its_row(
    text: str, row: dict[str, str], blamed: str | None
) -> None:
    render = Renderer(PAGES, parse_template(text)).render
    values = [row.get(column.name) for column in PAGES.columns]
    if blamed is None:
        assert render((*values, 0, b"")) is not None
        return
    with pytest.raises(RowRefused, match=f"the value of column {blamed} contains") as caught:
        render((*values, 0, b""))
    assert "--allow-collisions" in (caught.value.hint or "")


def test_with_allow_collisions_such_a_row_is_rendered() -> None:
    renderer = Renderer(PAGES, parse_template("{tenant}/{slug}"), allow_collisions=True)
    upload = renderer.render(("1", "a/b", "c", "", "", "", 0, b""))
    assert upload is not None
    assert upload.key == "a/b/c"


@pytest.mark.parametrize(
    ("text", "keys", "reason", "hint"),
    [
        ("page.json", [["id"]], "names no unique key", "add {id}"),
        ("{slug}.json", [["id"], ["We ird"]], "names no unique key", "add {id}"),
        ("{tenant}.json", [["tenant", "slug"]], "names no unique key", "add {tenant} and {slug}"),
        ("{slug}.json", [["We ird"]], "names no unique key", 'add {"We ird"}'),
        ("{slug}.json", [], "names no unique key", "name a unique key"),
        ("{id:.2e}", [["id"]], "{id:.2e} renders different values to the same text", "use {id} without"),
        ("{id:c}", [["id"]], "{id:c} renders different values", "use {id} without"),
        ("{id:0<9}", [["id"]], "{id:0<9} renders different values", "use {id} without"),
        ("{day:%Y-%m}", [["day"]], "{day:%Y-%m} renders different values", "use {day} without"),
        ("{created:%Y%m%d%H%M%S}", [["created"]], "renders different values", "use {created} without"),
        ("{day:%%Y%m%d}", [["day"]], "renders different values", "use {day} without"),
        ("{day:%Y%m%-d}", [["day"]], "renders different values", "use {day} without"),
        ("{day:%Y%m%d%s}", [["day"]], "renders different values", "use {day} without"),
        ("{slug:.3}", [["slug"]], "renders different values", "use {slug} without"),
        # the reason is about the key's own column, not about one that was only written before it
        ("{created:%Y/%m}/{id:.2e}", [["id"]], "{id:.2e} renders different values", "use {id} without"),
        ('{"We ird":.8}', [["We ird"]], '{"We ird":.8} renders different values', 'use {"We ird"} without'),
        ("{tenant}{slug}", [["tenant", "slug"]], "nothing separates {tenant} from {slug}", "{tenant}/{slug}"),
        ("{id}{slug}", [["id"]], "nothing separates {id} from {slug}", "{id}/{slug}"),
    ],
)
def test_a_template_that_could_collide_is_refused_with_the_reason_and_the_way_out(
    text: str, keys: list[list[str]], reason: str, hint: str
) -> None:
    with pytest.raises(TemplateRefused) as caught:
        check_uniqueness(parse_template(text), PAGES, keys)
    assert reason in caught.value.message
    assert hint in (caught.value.hint or "")
    assert "--allow-collisions" in (caught.value.hint or "")


def test_one_faithful_mention_of_a_key_column_is_enough() -> None:
    check_uniqueness(parse_template("{day:%Y/%m}/{day}"), PAGES, [["day"]])


def test_any_one_of_the_unique_keys_will_do() -> None:
    check_uniqueness(parse_template("{tenant}/{slug}"), PAGES, [["id"], ["slug", "tenant"]])
