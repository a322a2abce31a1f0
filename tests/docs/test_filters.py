"""Every row of docs/filters.md: the other system's filter and our expression select the same documents.

The page itself is read. Its left column is evaluated by a small reading of what the other system documents (SQL's null
included), its right column is compiled and asked of ``evaluate``, of DuckDB and of Elasticsearch, all over one set of
documents drawn from the values the filters speak of.
"""

from __future__ import annotations

import json
import random
import re
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from segments import Catalog, Tree, compile_segment, evaluate, to_elasticsearch, to_sql

PAGE = Path(__file__).parents[2] / "docs" / "filters.md"
NOW = datetime(2026, 3, 29, 10, tzinfo=UTC)
DOCUMENTS = 400
ROW = re.compile(r"^\| `(?P<theirs>.+?)` \| `(?P<ours>.+?)` \| (?P<note>.*) \|$")

# The predicates as Commerce Layer lists them.
PREDICATES = [
    "eq", "eq_or_null", "not_eq", "not_eq_or_null", "matches", "does_not_match", "matches_any", "matches_all",
    "does_not_match_any", "does_not_match_all", "lt", "lteq", "gt", "gteq", "present", "blank", "null", "not_null",
    "in", "in_or_null", "not_in", "not_in_or_null", "lt_any", "lteq_any", "gt_any", "gteq_any", "lt_all", "lteq_all",
    "gt_all", "gteq_all", "not_eq_all", "start", "not_start", "start_any", "start_all", "not_start_any",
    "not_start_all", "end", "not_end", "end_any", "end_all", "not_end_any", "not_end_all", "cont", "not_cont",
    "cont_any", "cont_all", "not_cont_all", "jcont", "true", "false",
]  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A row of the page, below which heading it stands."""

    system: str
    theirs: dict[str, Any]
    ours: dict[str, Any]


def page_rows() -> Iterator[Row]:
    system = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            system = line[3:]
        elif line.startswith("| `"):
            found = ROW.match(line)
            assert found, line
            yield Row(system, json.loads(found["theirs"]), json.loads(found["ours"]))


ROWS = list(page_rows())

# -- documents -------------------------------------------------------------------------------------------------------

NAMES = ["", "pink", "Pink logo", "red", "nil@gmail.com", "x@Hotmail.com", "logo", "pink@gmail.com", "o", "P"]
DATES = ["2026-02-28T23:59:59.999Z", "2026-03-01", "2026-03-29T10:00:00Z", "2026-03-29T09:59:59.999Z", "2026-04-01"]
DATES += ["2026-03-31T23:59:59.999Z", "2026-03-29T23:59:59Z", "2026-03-30"]
WORDS, NUMBERS, FLAGS = "VARCHAR", [-5, 0, 1, 5, 6, 100, 101], [True, False]
PRICES = [0.0, 1.5, 1.49, 10.0, 10.01]
STATUS = ["placed", "approved", "draft", "FULFILLED", "CANCELED", ""]
LETTERS = ["a", "b", "c"]

Kind = tuple[str, list[Any]] | dict[str, Any] | list[Any]
SHAPE: dict[str, Any] = {
    "id": (WORDS, ["1", "2", "3"]),
    "name": (WORDS, NAMES),
    "reference": (WORDS, NAMES),
    "slug": (WORDS, ["pink", "red", "blue"]),
    "code": (WORDS, ["pink", "Pink"]),
    "status": (WORDS, STATUS),
    "amount": ("BIGINT", NUMBERS),
    "number": ("BIGINT", NUMBERS),
    "price": ("DOUBLE", PRICES),
    "minimal_price": ("DOUBLE", PRICES),
    "current_balance": ("DOUBLE", [0.0, 5.0, 4.99]),
    "times_used": ("BIGINT", NUMBERS),
    "lines_count": ("BIGINT", NUMBERS),
    "number_of_orders": ("BIGINT", NUMBERS),
    "placed_at": ("TIMESTAMP", DATES),
    "updated_at": ("TIMESTAMP", DATES),
    "created": ("TIMESTAMP", DATES),
    "published_at": ("TIMESTAMP", DATES),
    "available_at": ("TIMESTAMP", DATES),
    "starts_at": ("TIMESTAMP", DATES),
    "ends_at": ("TIMESTAMP", DATES),
    "date_joined": ("TIMESTAMP", DATES),
    "enabled": ("BOOLEAN", FLAGS),
    "is_published": ("BOOLEAN", FLAGS),
    "gift_card": ("BOOLEAN", FLAGS),
    "is_available": ("BOOLEAN", FLAGS),
    "visible_in_listing": ("BOOLEAN", FLAGS),
    "has_preordered_variants": ("BOOLEAN", FLAGS),
    "is_click_and_collect": ("BOOLEAN", FLAGS),
    "is_active": ("BOOLEAN", FLAGS),
    "category": (WORDS, ["shoes", "hats"]),
    "product_type": (WORDS, ["book", "shoe"]),
    "channel": (WORDS, ["c1", "c2"]),
    "currency": (WORDS, ["EUR", "USD"]),
    "discount_type": (WORDS, ["FIXED", "PERCENTAGE"]),
    "used_by": (WORDS, ["u1"]),
    "category_path": (f"{WORDS}[]", ["shoes", "hats", "clothes"]),
    "collections": (f"{WORDS}[]", LETTERS),
    "tag_ids": (f"{WORDS}[]", LETTERS),
    "tags": (f"{WORDS}[]", LETTERS),
    "metadata": {"size": (WORDS, ["L", "M", "S"]), "colour": (WORDS, ["red", "blue"])},
    "customer": {"email": (WORDS, NAMES), "name": (WORDS, NAMES)},
    "total": {"currency": (WORDS, ["EUR", "USD"]), "gross": ("DOUBLE", PRICES)},
    "billing_address": {"country": (WORDS, ["NL", "DE"])},
    "line_items": [{"sku": (WORDS, ["sku-1", "sku-2"])}],
    "stocks": [{"warehouse": (WORDS, ["w1", "w2"]), "quantity": ("BIGINT", NUMBERS)}],
    "invoices": [{"number": (WORDS, LETTERS), "created": ("TIMESTAMP", DATES)}],
    "orders": [{"created": ("TIMESTAMP", DATES)}],
    "attributes": [
        {
            "slug": (WORDS, ["colour", "width", "washable", "released"]),
            "values": (f"{WORDS}[]", ["red", "blue", "green"]),
            "number": ("BIGINT", NUMBERS),
            "boolean": ("BOOLEAN", FLAGS),
            "date": ("TIMESTAMP", DATES),
        }
    ],
}
ALWAYS = {"invoices.number"}  # what every child has
TYPES = {"VARCHAR": "keyword", "BIGINT": "long", "DOUBLE": "double", "BOOLEAN": "boolean", "TIMESTAMP": "date"}


def drawn(chance: random.Random, shape: Any, path: str = "") -> Any:
    if isinstance(shape, dict):
        members = {key: drawn(chance, inner, f"{path}.{key}".strip(".")) for key, inner in shape.items()}
        return {key: value for key, value in members.items() if value is not None or chance.random() < 0.5}
    if isinstance(shape, list):
        return [drawn(chance, shape[0], path) for _ in range(chance.choice([0, 1, 1, 2, 4]))]
    printed, pool = shape
    if printed.endswith("[]"):
        return chance.sample(pool, chance.choice([0, 1, 2])) or chance.choice([None, []])
    return chance.choice(pool) if path in ALWAYS or chance.random() < 0.8 else None


CHANCE = random.Random(4)
HELD = [drawn(CHANCE, SHAPE) for _ in range(DOCUMENTS)]


def printed_type(shape: Any) -> str:
    if isinstance(shape, list):
        return printed_type(shape[0]) + "[]"
    if isinstance(shape, dict):
        return "STRUCT(" + ", ".join(f'"{key}" {printed_type(inner)}' for key, inner in shape.items()) + ")"
    return str(shape[0])


def mapped(shape: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, inner in shape.items():
        if isinstance(inner, list):
            made[key] = {"type": "nested", "properties": mapped(inner[0])}
        elif isinstance(inner, dict):
            made[key] = {"properties": mapped(inner)}
        else:
            made[key] = {"type": TYPES[inner[0].removesuffix("[]")]}
    made.update({"name": {"type": "text", "fields": {"keyword": {"type": "keyword"}}}} if "reference" in shape else {})
    return made


COLUMNS = [(name, printed_type(shape)) for name, shape in SHAPE.items()]
TABLED = Catalog.from_columns(COLUMNS, types={"name": "text"})
MAPPED = Catalog.from_mapping(mapped(SHAPE))


def tree(row: Row, catalog: Catalog) -> Tree:
    segment = {"entity": "people", "index": "any", "join": "all", "chain_id": 1, "rules": [row.ours]}
    return compile_segment(segment, catalog, now=NOW, zone=ZoneInfo("UTC"))


# -- Commerce Layer --------------------------------------------------------------------------------------------------

PATHS = {
    "customer_email": ("customer", "email"),
    "line_items_sku": ("line_items", "sku"),
    "tags_id": ("tag_ids",),
}
Sql = bool | None


def like(value: Any, pattern: str) -> Sql:
    if value is None:
        return None
    parts = (".*" if one == "%" else "." if one == "_" else re.escape(one) for one in pattern)
    return re.fullmatch("".join(parts), value, re.IGNORECASE | re.DOTALL) is not None


def negated(test: Callable[[Any, Any], Sql]) -> Callable[[Any, Any], Sql]:
    def other(value: Any, operand: Any) -> Sql:
        found = test(value, operand)
        return None if found is None else not found

    return other


def known(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Sql]:
    return lambda value, operand: None if value is None else test(value, operand)


def comparable(value: Any) -> Any:
    return when(value) if isinstance(value, str) and re.match(r"\d{4}-", value) else value


def ordered(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Sql]:
    return known(lambda value, operand: test(comparable(value), comparable(operand)))


BASE: dict[str, Callable[[Any, Any], Sql]] = {
    "eq": known(lambda value, operand: value == operand),
    "in": known(lambda value, operand: value in operand),
    "matches": like,
    "start": lambda value, operand: like(value, operand + "%"),
    "end": lambda value, operand: like(value, "%" + operand),
    "cont": lambda value, operand: like(value, f"%{operand}%"),
    "lt": ordered(lambda value, operand: value < operand),
    "lteq": ordered(lambda value, operand: value <= operand),
    "gt": ordered(lambda value, operand: value > operand),
    "gteq": ordered(lambda value, operand: value >= operand),
    "null": lambda value, _: value is None,
    "present": lambda value, _: value is not None and value != "",
    "jcont": known(lambda value, operand: operand.items() <= value.items()),
    "true": known(lambda value, _: value is True),
    "false": known(lambda value, _: value is False),
}
BASE["does_not_match"], BASE["blank"] = negated(BASE["matches"]), negated(BASE["present"])


def predicate(name: str) -> Callable[[Any, Any], Sql]:
    """What one of the predicates means, from its parts."""
    if name.endswith("_or_null"):
        inner = predicate(name.removesuffix("_or_null"))
        return lambda value, operand: value is None or inner(value, operand)
    for suffix, join in (("_any", any), ("_all", all)):
        if name.endswith(suffix):
            one = predicate(name.removesuffix(suffix))
            return lambda value, operand, join=join, one=one: join([one(value, item) for item in operand])
    return BASE[name] if name in BASE else negated(BASE[name.removeprefix("not_")])


def split(filter_name: str) -> tuple[list[str], str]:
    suffix = max((one for one in PREDICATES if filter_name.endswith(f"_{one}")), key=len)
    return filter_name.removesuffix(f"_{suffix}").split("_or_"), suffix


def commerce_layer(theirs: dict[str, Any], document: dict[str, Any]) -> bool:
    return all(one_predicate(name, operand, document) for name, operand in theirs.items())


def one_predicate(name: str, operand: Any, document: dict[str, Any]) -> bool:
    attributes, suffix = split(name)
    test = predicate(suffix)
    for attribute in attributes:
        path = PATHS.get(attribute, (attribute,))
        if attribute == "metadata":
            held: list[Any] = [{key: one for key, one in document.get("metadata", {}).items() if one is not None}]
        else:
            held = values(document, path)
        if attribute == "tags_id" and suffix == "not_in":
            found = bool(held) and not any(predicate("in")(value, operand) for value in held)
        else:
            found = any(test(value, operand) for value in held or [None])
        if found:
            return True
    return False


def values(held: Any, path: tuple[str, ...]) -> list[Any]:
    if isinstance(held, list):
        return [value for one in held for value in values(one, path)]
    if not path:
        return [] if held is None else [held]
    return values(held.get(path[0]), path[1:]) if isinstance(held, dict) else []


def when(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def test_every_predicate_of_commerce_layer_has_a_row() -> None:
    rows = [row for row in ROWS if row.system == "Commerce Layer"]
    assert len(PREDICATES) == len(set(PREDICATES)) == 51
    first = [split(name)[1] for row in rows for name in row.theirs][:51]
    assert sorted(first) == sorted(PREDICATES)


# -- Saleor ----------------------------------------------------------------------------------------------------------

# Their member -> where the document holds it, with the type that bounds are read as.
MEMBERS: dict[str, tuple[str, ...]] = {
    "ids": ("id",),
    "slugs": ("slug",),
    "numbers": ("number",),
    "categories": ("category_path",),
    "productTypes": ("product_type",),
    "channels": ("channel",),
    "updatedAt": ("updated_at",),
    "isPublished": ("is_published",),
    "giftCard": ("gift_card",),
    "isAvailable": ("is_available",),
    "isVisibleInListing": ("visible_in_listing",),
    "hasPreorderedVariants": ("has_preordered_variants",),
    "minimalPrice": ("minimal_price",),
    "userEmail": ("customer", "email"),
    "isClickAndCollect": ("is_click_and_collect",),
    "linesCount": ("lines_count",),
    "isActive": ("is_active",),
    "currentBalance": ("current_balance",),
    "timesUsed": ("times_used",),
    "discountType": ("discount_type",),
    "started": ("starts_at",),
    "dateJoined": ("date_joined",),
    "numberOfOrders": ("number_of_orders",),
    "placedOrders": ("orders", "created"),
}


def within(value: Any, bounds: dict[str, Any]) -> bool:
    if isinstance(value, str):
        day = any(len(one) == len("2026-03-01") for one in bounds.values())
        value = when(value)
        value = value.date().isoformat() if day else value
        bounds = bounds if day else {key: when(one) for key, one in bounds.items()}
    return bounds.get("gte", value) <= value <= bounds.get("lte", value)


def fits(held: list[Any], asked: Any) -> bool:
    """A value input of theirs, of a field that may have several values."""
    if isinstance(asked, list):
        return any(str(value) in map(str, asked) for value in held)
    if not isinstance(asked, dict):
        return any(value is asked or (isinstance(asked, str) and value == asked) for value in held)
    if "eq" in asked or "oneOf" in asked:
        return any(value in asked.get("oneOf", [asked.get("eq")]) for value in held)
    bounds = asked.get("range", asked)
    return any(within(value, bounds) for value in held)


def saleor(theirs: dict[str, Any], document: dict[str, Any]) -> bool:
    tests = ((SPECIAL.get(name, partial(member, name)), asked) for name, asked in theirs.items())
    return all(test(asked, document) for test, asked in tests)


def member(name: str, asked: Any, document: dict[str, Any]) -> bool:
    return fits(values(document, MEMBERS.get(name, (name,))), asked)


def metadata(asked: Any, document: dict[str, Any]) -> bool:
    wanted = asked if isinstance(asked, list) else [asked]
    held = document.get("metadata", {})
    return all(
        held.get(one["key"]) is not None and ("value" not in one or fits([held[one["key"]]], one["value"]))
        for one in wanted
    )


def attributes(asked: list[dict[str, Any]], document: dict[str, Any]) -> bool:
    members = {"values": "values", "valuesRange": "number", "boolean": "boolean", "dateTime": "date"}

    def one_has(wanted: dict[str, Any]) -> bool:
        [(key, inside)] = [(key, inside) for key, inside in members.items() if key in wanted]
        of_slug = [one for one in document.get("attributes", []) if one.get("slug") == wanted["slug"]]
        return any(fits(values(one, (inside,)), wanted[key]) for one in of_slug)

    return all(map(one_has, asked))


def in_some_stock(asked: dict[str, Any], document: dict[str, Any]) -> bool:
    quantities = [one.get("quantity") for one in document["stocks"] if one.get("warehouse") in asked["warehouseIds"]]
    return fits([one for one in quantities if one is not None], asked["quantity"])


def status(asked: list[str], document: dict[str, Any]) -> bool:
    starts, ends = (values(document, (one,)) for one in ("starts_at", "ends_at"))
    if asked == ["ACTIVE"]:
        return any(when(one) < NOW for one in starts) and (not ends or when(ends[0]) >= NOW)
    if asked == ["SCHEDULED"]:
        return any(when(one) >= NOW for one in starts)
    if asked == ["EXPIRED"]:
        return any(when(one) < NOW for one in ends)
    return member("status", asked, document)


def searched(*paths: tuple[str, ...]) -> Callable[[str, dict[str, Any]], bool]:
    return lambda asked, document: any(
        asked.lower() in value.lower() for path in paths for value in values(document, path)
    )


def total(asked: dict[str, Any], document: dict[str, Any]) -> bool:
    held = document["total"]
    return held.get("currency") == asked["currency"] and fits(values(held, ("gross",)), asked["amount"])


def present(*path: str) -> Callable[[bool, dict[str, Any]], bool]:
    return lambda asked, document: bool(values(document, path)) is asked


def until(name: str) -> Callable[[str, dict[str, Any]], bool]:
    return lambda asked, document: fits(values(document, (name,)), {"lte": asked})


SPECIAL: dict[str, Callable[[Any, dict[str, Any]], bool]] = {
    "AND": lambda asked, document: all(saleor(one, document) for one in asked),
    "OR": lambda asked, document: any(saleor(one, document) for one in asked),
    "search": searched(("name",), ("slug",)),
    "customer": searched(("customer", "email"), ("customer", "name")),
    "metadata": metadata,
    "attributes": attributes,
    "stocks": in_some_stock,
    "stockAvailability": lambda asked, document: (
        any(one > 0 for one in values(document, ("stocks", "quantity"))) is (asked == "IN_STOCK")
    ),
    "status": status,
    "hasCategory": present("category"),
    "hasInvoices": present("invoices"),
    "used": present("used_by"),
    "publishedFrom": until("published_at"),
    "availableFrom": until("available_at"),
    "invoices": lambda asked, document: fits(values(document, ("invoices", "created")), asked[0]["createdAt"]),
    "totalGross": total,
    "billingAddress": lambda asked, document: fits(values(document, ("billing_address", "country")), asked["country"]),
}
SYSTEMS = {"Commerce Layer": commerce_layer, "Saleor": saleor}


# -- every row -------------------------------------------------------------------------------------------------------


def meant(row: Row) -> set[int]:
    return {number for number, document in enumerate(HELD) if SYSTEMS[row.system](row.theirs, document)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: json.dumps(row.theirs)[:60])
def test_both_select_the_same_documents(row: Row) -> None:
    expected = meant(row)
    assert 0 < len(expected) < DOCUMENTS, "the documents cannot tell"
    for catalog in (TABLED, MAPPED):
        asked = tree(row, catalog)
        found = {number for number, document in enumerate(HELD) if evaluate(asked, document)}
        wrong = sorted(found ^ expected)
        assert wrong == [], HELD[wrong[0]]


def test_duckdb_selects_them_too() -> None:
    structure = json.dumps({name: structured(shape) for name, shape in SHAPE.items()})
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE held (row_number BIGINT, document JSON)")
        connection.executemany("INSERT INTO held VALUES (?, ?)", [[n, json.dumps(one)] for n, one in enumerate(HELD)])
        typed = f"SELECT row_number, unnest(from_json(document, '{structure}')) FROM held"  # noqa: S608 -- our own
        connection.execute(f"CREATE TABLE world AS {typed}")
        for row in ROWS:
            sql, parameters = to_sql(tree(row, TABLED))
            found = connection.execute(f"SELECT row_number FROM world WHERE {sql}", parameters).fetchall()  # noqa: S608
            assert {number for (number,) in found} == meant(row), row


def structured(shape: Any) -> Any:
    if isinstance(shape, list):
        return [structured(shape[0])]
    if isinstance(shape, dict):
        return {key: structured(inner) for key, inner in shape.items()}
    printed = shape[0]
    return [printed.removesuffix("[]")] if printed.endswith("[]") else printed


def test_elasticsearch_selects_them_too(elasticsearch_url: str) -> None:
    index = f"filters-{uuid.uuid4().hex[:8]}"

    def call(method: str, path: str, *lines: Any) -> Any:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        request = urllib.request.Request(elasticsearch_url + path, method=method, data=text.encode() or None)  # noqa: S310
        request.add_header("Content-Type", "application/x-ndjson" if len(lines) > 1 else "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 -- loopback
            return json.loads(answer.read())

    call("PUT", f"/{index}", {"mappings": {"dynamic": "strict", "properties": mapped(SHAPE)}})
    try:
        bulk = [line for n, one in enumerate(HELD) for line in ({"index": {"_id": str(n)}}, one)]
        assert not call("POST", f"/{index}/_bulk?refresh=true", *bulk)["errors"]
        queries = [{"size": DOCUMENTS, "_source": False, "query": to_elasticsearch(tree(row, MAPPED))} for row in ROWS]
        answers = call("POST", f"/{index}/_msearch", *(line for one in queries for line in ({}, one)))["responses"]
        for row, answer in zip(ROWS, answers, strict=True):
            assert {int(hit["_id"]) for hit in answer["hits"]["hits"]} == meant(row), row
    finally:
        call("DELETE", f"/{index}")
