"""The sample documents: the same everywhere, each row by itself, and as hard on exports as real data is."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks_service.indices.fields import Field
from tasks_service.sample import INDICES, documents, raw_documents

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)

# Of the first hundred documents of each index. A change here changes everybody's sample data.
GOLDEN = {
    "transactions": "b27ccc9aad56136df61e053d6938ecec950573910ec22193e148b7e449a3795d",
    "users": "c11cb81855992b68e09cd6fb931fddaa98c565cc46b85a9da2e6f06d43cb86db",
    "vouchers": "e30f5e3135aa94104b8e1bdae86670c4909468de7a1e1c80e929399ec1a35c87",
    "wallet-ledger": "b76bd675971af4f34340aa16df14b85562d84fe44687bdf19b313805b1fa524f",
    "products": "df0b53de0083bed03d8357cec80547c249ca32ca046bf7412f6956113e0783dc",
    "product-variants": "2886a82391914eed6104c6c33c7b1f83c9deff7e2dc6c3099969efc7c863ba43",
}


@pytest.mark.parametrize("index", INDICES)
def test_the_first_hundred_documents_are_these(index: str) -> None:
    written = b"\n".join(raw_documents(index, 100, until=UNTIL))
    assert hashlib.sha256(written).hexdigest() == GOLDEN[index]


@pytest.mark.parametrize("index", INDICES)
def test_any_row_can_be_made_alone(index: str) -> None:
    together = list(documents(index, 60, until=UNTIL))
    alone = [next(documents(index, 1, until=UNTIL, start=row)) for row in reversed(range(60))]
    assert alone == together[::-1]


@pytest.mark.parametrize("index", INDICES)
def test_another_seed_makes_other_documents(index: str) -> None:
    assert list(documents(index, 5, until=UNTIL)) != list(documents(index, 5, until=UNTIL, seed=1))


@pytest.mark.parametrize("index", INDICES)
def test_the_raw_bytes_are_the_document_on_one_line(index: str) -> None:
    for raw, document in zip(raw_documents(index, 200, until=UNTIL), documents(index, 200, until=UNTIL), strict=True):
        assert json.loads(raw) == document
        assert b"\n" not in raw
        assert b"\r" not in raw


@pytest.mark.parametrize("index", INDICES)
def test_ids_are_unique_and_both_chains_have_rows(index: str) -> None:
    made = list(documents(index, 1000, until=UNTIL))
    assert len({document["id"] for document in made}) == 1000
    counts = {chain: sum(document["chain_id"] == chain for document in made) for chain in (1764, 2001)}
    assert sum(counts.values()) == 1000
    assert counts[1764] > counts[2001] > 150


def _moments(documents: list[dict[str, Any]], field: str) -> list[datetime]:
    return [datetime.fromisoformat(document[field]) for document in documents if document.get(field)]


@pytest.mark.parametrize(
    ("index", "field"),
    [
        ("transactions", "timestamp"),
        ("users", "created_date"),
        ("vouchers", "date_time_redeemed"),
        ("wallet-ledger", "timestamp"),
        ("products", "created_date"),
    ],
)
def test_a_nightly_export_finds_some_rows_and_a_yearly_one_more(index: str, field: str) -> None:
    moments = _moments(list(documents(index, 1000, until=UNTIL)), field)
    assert all(UNTIL - timedelta(days=731) < moment < UNTIL for moment in moments)
    lately = sum(moment >= UNTIL - timedelta(days=1) for moment in moments)
    assert 20 < lately < 300
    assert sum(moment >= UNTIL - timedelta(days=365) for moment in moments) > lately + 100


def _values(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [found for item in value.values() for found in _values(item)]
    if isinstance(value, list):
        return [value] + [found for item in value for found in _values(item)]
    return [value]


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(lambda value: value is None, id="null"),
        pytest.param(lambda value: value == "", id="empty string"),
        pytest.param(lambda value: value == [], id="empty array"),
        pytest.param(lambda value: isinstance(value, str) and value.startswith("="), id="formula"),
        pytest.param(lambda value: isinstance(value, str) and "," in value and '"' in value, id="comma and quote"),
        pytest.param(lambda value: isinstance(value, str) and "\n" in value, id="line break"),
        pytest.param(lambda value: isinstance(value, str) and "\r\n" in value, id="carriage return"),
        pytest.param(lambda value: isinstance(value, str) and not value.isascii(), id="unicode"),
        pytest.param(lambda value: isinstance(value, str) and any(ord(c) > 0xFFFF for c in value), id="astral"),
        pytest.param(lambda value: isinstance(value, int) and value > 2**53, id="big integer"),
        pytest.param(lambda value: isinstance(value, float) and value < 0, id="negative"),
        pytest.param(lambda value: isinstance(value, str) and value != value.strip(), id="outer space"),
    ],
)
def test_odd_values_occur(odd: Any) -> None:
    everything = [
        value for index in INDICES for document in documents(index, 300, until=UNTIL) for value in _values(document)
    ]
    assert any(odd(value) for value in everything)


@pytest.mark.parametrize("index", INDICES)
def test_fields_are_sometimes_missing(index: str) -> None:
    keys = {frozenset(document) for document in documents(index, 300, until=UNTIL)}
    assert len(keys) > 1
    assert frozenset().union(*keys) == INDICES[index].keys()


def _fits(value: Any, field: Field) -> bool:
    if value is None:
        return True
    if field.several or field.kind == "nested":
        return isinstance(value, list) and all(_fits_one(item, field) for item in value)
    return _fits_one(value, field)


def _fits_one(value: Any, field: Field) -> bool:
    if field.fields is not None:
        known = field.fields
        return isinstance(value, dict) and all(key in known and _fits(item, known[key]) for key, item in value.items())
    wanted = {"keyword": str, "text": str, "long": int, "double": float, "boolean": bool, "date": str}[field.kind]
    return type(value) is wanted and (field.kind != "date" or datetime.fromisoformat(value) is not None)


@pytest.mark.parametrize("index", INDICES)
def test_every_value_is_of_the_kind_its_field_says(index: str) -> None:
    for document in documents(index, 300, until=UNTIL):
        for name, value in document.items():
            assert _fits(value, INDICES[index][name]), (name, value)


def test_products_have_the_category_of_the_published_example() -> None:
    named = [
        document for document in documents("products", 500, until=UNTIL) if document.get("category") == "Electronics"
    ]
    assert 30 < len(named) < 120


def test_items_of_a_basket_differ() -> None:
    baskets = [document["line_items"] for document in documents("transactions", 300, until=UNTIL)]
    assert {len(items) for items in baskets} == {0, 1, 2, 3, 4, 5}
    assert any(len({item["category"] for item in items}) > 1 for items in baskets)


def test_an_unknown_index_is_refused() -> None:
    with pytest.raises(KeyError):
        next(documents("receipts", 1, until=UNTIL))
