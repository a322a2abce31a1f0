"""Transactions with their line items. Called by ``documents`` only."""

from __future__ import annotations

from math import fsum
from typing import Any

from tasks_service.sample import words
from tasks_service.sample.draws import Draws
from tasks_service.sample.goods import product_name, sku
from tasks_service.sample.moments import later, past, text
from tasks_service.sample.people import member


def transaction(draws: Draws, row: int, until: int) -> dict[str, Any]:
    """The transaction of a row: none to five line items, paid in one or two ways."""
    number = row + 1
    moment = past(draws, until)
    items = [_line_item(draws, moment) for _ in range(draws.below(6))]
    subtotal = round(fsum(item["sale_price"] * item["quantity"] for item in items), 2)
    shipping = draws.cents(0, 995)
    place = draws.pick(words.PLACES)
    currency, code, symbol = words.CURRENCIES[place[1] == "GB"]
    document: dict[str, Any] = {
        "id": number,
        "chain_id": draws.pick(words.CHAINS),
        "retailer_basket_code": f"B{number:09}",
        "timestamp": text(moment),
        "type": draws.pick(("in_store", "online")),
        "country": place[0],
        "country_code": place[1],
        "currency": {"currency_id": currency, "currency_code": code, "currency_symbol": symbol},
        "quantity": sum(item["quantity"] for item in items),
        "subtotal": subtotal,
        "total_value": round(subtotal + shipping, 2),
        "shipping_charge": shipping,
        "line_items": items,
        "payment_methods": _payments(draws, round(subtotal + shipping, 2)),
        "tax_rates": [0.09, 0.21][: draws.below(3)],
        "basket_vouchers": [f"{draws.below(2**31):010x}" for _ in range(draws.below(2))],
    }
    _add_some(document, draws)
    return document


def _line_item(draws: Draws, moment: int) -> dict[str, Any]:
    product = draws.below(1000) + 1
    original = draws.cents(49, 29_999)
    item: dict[str, Any] = {
        "product_id": product,
        "sku": sku(product),
        "name": product_name(draws),
        "category": draws.pick(words.CATEGORIES),
        "quantity": draws.below(4) + 1,
        "original_price": original,
        "sale_price": original,
        "item_is_promotional": False,
    }
    match draws.below(8):
        case 0:
            item["sale_price"] = round(original * 0.8, 2)
            item["item_is_promotional"] = True
        case 1:
            item["delivered_date"] = text(later(draws, moment, 14))
        case 2:
            item["tags"] = draws.some(words.TAGS, 2)
        case 3:
            item["barcode"] = None
        case _:
            pass
    return item


def _payments(draws: Draws, total: float) -> list[dict[str, Any]]:
    if draws.one_in(5):
        part = round(total / 3, 2)
        return [
            {"payment_method": "gift card", "payment_amount": part},
            {"payment_method": draws.pick(words.PAYMENTS), "payment_amount": round(total - part, 2)},
        ]
    return [{"payment_method": draws.pick(words.PAYMENTS), "payment_amount": total}]


def _add_some(document: dict[str, Any], draws: Draws) -> None:
    """What not every transaction has."""
    if draws.below(3):
        who = member(draws)
        who["first_name"] = draws.pick(words.FIRST_NAMES)
        document["user"] = who
    if draws.one_in(4):
        code, name = draws.pick(words.EMPLOYEES)
        document["employee"] = {"code": code, "name": name}
    match draws.below(18):
        case rare if rare < len(words.NOTES):
            document["notes"] = words.NOTES[rare]
        case 10:
            document["shipping_charge"] = None
        case 11:
            del document["payment_methods"]
        case 12:
            document["country"] = None
        case _:
            pass
