"""What the six indices hold: one description of every field.

The Elasticsearch mappings, the index templates and the typed columns of the sample's Parquet files are all made from
it, so that they cannot disagree. Field names follow the public documentation of the retail platform's export indices
where it names them. No documents here, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["keyword", "text", "long", "double", "boolean", "date", "object", "nested"]

LONGEST_KEYWORD = 8191
"""Characters of a string that Elasticsearch can always keep as one term: 32,766 bytes, at most four a character."""

COLUMN_TYPES = {
    "keyword": "VARCHAR",
    "text": "VARCHAR",
    "long": "BIGINT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "TIMESTAMP",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a document.

    Attributes:
        kind: ``text`` has a ``keyword`` sub-field; ``nested`` is an array of objects that keep their pairing.
        several: whether documents hold an array of values.
        fields: of an object or of nested documents, by name.
    """

    kind: Kind
    several: bool = False
    fields: Mapping[str, Field] | None = None

    def mapping(self) -> dict[str, Any]:
        """The field in an Elasticsearch mapping under which every operator is exact.

        Codes and names are keywords without a limit: a value of more than 32,766 bytes is no code, and Elasticsearch
        refuses its document. Prose may be that long: it is taken, and values over the limit are counted by the service.
        """
        if self.fields is not None:
            properties = {name: field.mapping() for name, field in self.fields.items()}
            return {"type": self.kind, "properties": properties}
        if self.kind == "text":
            keyword = {"type": "keyword", "ignore_above": LONGEST_KEYWORD}
            return {"type": "text", "fields": {"keyword": keyword}}
        return {"type": self.kind}

    def structure(self) -> object:
        """The field in the JSON structure by which DuckDB reads documents into typed columns."""
        if self.fields is None:
            of: object = COLUMN_TYPES[self.kind]
        else:
            of = {name: field.structure() for name, field in self.fields.items()}
        return [of] if self.several or self.kind == "nested" else of


KEYWORD = Field("keyword")
TEXT = Field("text")
LONG = Field("long")
DOUBLE = Field("double")
BOOLEAN = Field("boolean")
DATE = Field("date")
KEYWORDS = Field("keyword", several=True)


def _object(**fields: Field) -> Field:
    return Field("object", fields=fields)


def _nested(**fields: Field) -> Field:
    return Field("nested", fields=fields)


PRODUCTS: Mapping[str, Field] = {
    "id": LONG,
    "chain_id": LONG,
    "owner_code": KEYWORD,
    "name": TEXT,
    "description": TEXT,
    "brand": KEYWORD,
    "category": KEYWORD,
    "category_path": KEYWORDS,
    "season": KEYWORD,
    "manufacturer": KEYWORD,
    "price": DOUBLE,
    "cost_price": DOUBLE,
    "stock": LONG,
    "is_promotional": BOOLEAN,
    "private_label": BOOLEAN,
    "unit": KEYWORD,
    "web_url": KEYWORD,
    "image_url": KEYWORD,
    "tags": KEYWORDS,
    "created_date": DATE,
    "last_modified_date": DATE,
}

PRODUCT_VARIANTS: Mapping[str, Field] = {
    "id": LONG,
    "chain_id": LONG,
    "product_id": LONG,
    "product_owner_code": KEYWORD,
    "owner_code": KEYWORD,
    "name": TEXT,
    "size": KEYWORD,
    "colour": KEYWORD,
    "price": DOUBLE,
    "cost_price": DOUBLE,
    "is_promotional": BOOLEAN,
    "condition": KEYWORD,
    "web_url": KEYWORD,
    "barcodes": _nested(id=LONG, barcode=KEYWORD, created_date=DATE, deleted=BOOLEAN),
    "created_date": DATE,
    "last_modified_date": DATE,
}

USERS: Mapping[str, Field] = {
    "id": LONG,
    "chain_id": LONG,
    "user_id": LONG,
    "username": KEYWORD,
    "first_name": TEXT,
    "last_name": TEXT,
    "gender": KEYWORD,
    "birthday": DATE,
    "phone_number": KEYWORD,
    "language": KEYWORD,
    "country": KEYWORD,
    "country_code": KEYWORD,
    "address_streetname": TEXT,
    "address_housenumber": KEYWORD,
    "address_towncity": KEYWORD,
    "address_postalcode": KEYWORD,
    "address_latitude": DOUBLE,
    "address_longitude": DOUBLE,
    "member_number": KEYWORD,
    "auxiliary_identifier": LONG,
    "created_date": DATE,
    "last_modified_date": DATE,
    "mailing_list": _object(mailing_list_sub_offered=BOOLEAN, mailing_list_subscribed=BOOLEAN),
    "opt_in_programme": _object(programme_opted_in=BOOLEAN, join_date=DATE),
    "registered": BOOLEAN,
    "is_employee": BOOLEAN,
    "recency": LONG,
    "frequency": LONG,
    "monetary": LONG,
    "overall": LONG,
    "average_basket_value": KEYWORD,
    "number_of_purchases": LONG,
    "points_wallet_total": DOUBLE,
    "loyalty_status": _object(campaign_id=LONG, name=KEYWORD, points_balance_current=DOUBLE, next_review_date=DATE),
    "home_store": _object(home_store_id=LONG, home_store_name=KEYWORD),
    "signup_channel": KEYWORD,
    "interests": KEYWORDS,
}

VOUCHERS: Mapping[str, Field] = {
    "id": LONG,
    "chain_id": LONG,
    "voucher_key": KEYWORD,
    "voucher_type": KEYWORD,
    "status": KEYWORD,
    "created_date": DATE,
    "date_time_creation": DATE,
    "date_time_expiry": DATE,
    "date_time_redeemed": DATE,
    "campaign": _object(id=LONG, campaign_type=KEYWORD, title=TEXT),
    "amount": DOUBLE,
    "amount_redeemed": DOUBLE,
    "currency_code": KEYWORD,
    "description": TEXT,
    "notes": TEXT,
    "locking": _object(locked=BOOLEAN, date_time_locked_until=DATE),
    "product_skus": KEYWORDS,
    "redeemable_channels": KEYWORDS,
    "user": _object(id=LONG, member_number=KEYWORD),
}

WALLET_LEDGER: Mapping[str, Field] = {
    "id": LONG,
    "chain_id": LONG,
    "timestamp": DATE,
    "timestamp_microsecond": LONG,
    "amount": DOUBLE,
    "balance": DOUBLE,
    "kind": KEYWORD,
    "earn_or_spend": KEYWORD,
    "type": KEYWORD,
    "currency_symbol": KEYWORD,
    "contributing_campaign_id": LONG,
    "contributing_campaign_title": TEXT,
    "receipt_id": LONG,
    "retailer_basket_code": KEYWORD,
    "mutator_id": LONG,
    "mutator_name": KEYWORD,
    "user": _object(id=LONG, member_number=KEYWORD),
}

TRANSACTIONS: Mapping[str, Field] = {
    "id": LONG,
    "chain_id": LONG,
    "retailer_basket_code": KEYWORD,
    "timestamp": DATE,
    "type": KEYWORD,
    "country": KEYWORD,
    "country_code": KEYWORD,
    "currency": _object(currency_id=LONG, currency_code=KEYWORD, currency_symbol=KEYWORD),
    "quantity": LONG,
    "subtotal": DOUBLE,
    "total_value": DOUBLE,
    "shipping_charge": DOUBLE,
    "notes": TEXT,
    "employee": _object(code=KEYWORD, name=KEYWORD),
    "user": _object(id=LONG, member_number=KEYWORD, first_name=KEYWORD),
    "line_items": _nested(
        product_id=LONG,
        sku=KEYWORD,
        barcode=KEYWORD,
        name=TEXT,
        category=KEYWORD,
        quantity=LONG,
        original_price=DOUBLE,
        sale_price=DOUBLE,
        item_is_promotional=BOOLEAN,
        tags=KEYWORDS,
        delivered_date=DATE,
    ),
    "payment_methods": _nested(payment_method=KEYWORD, payment_amount=DOUBLE),
    "tax_rates": Field("double", several=True),
    "basket_vouchers": KEYWORDS,
}

INDICES: Mapping[str, Mapping[str, Field]] = {
    "transactions": TRANSACTIONS,
    "users": USERS,
    "vouchers": VOUCHERS,
    "wallet-ledger": WALLET_LEDGER,
    "products": PRODUCTS,
    "product-variants": PRODUCT_VARIANTS,
}
