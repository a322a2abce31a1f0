"""Products and their variants. Called by ``documents`` only."""

from __future__ import annotations

from typing import Any

from tasks_service.sample import words
from tasks_service.sample.draws import Draws
from tasks_service.sample.moments import later, past, text

VARIANTS = 4  # of each product


def sku(product: int) -> str:
    """The code of a product, unique in the data set."""
    return f"SKU-{product:08}"


def product_name(draws: Draws) -> str:
    """A name of some goods."""
    return f"{draws.pick(words.MANNERS)} {draws.pick(words.GOODS)}"


def product(draws: Draws, row: int, until: int) -> dict[str, Any]:
    """The product of a row."""
    below = draws.below
    category = draws.pick(words.CATEGORIES)
    price = draws.cents(49, 49_999)
    created = past(draws, until)
    number = row + 1
    document: dict[str, Any] = {
        "id": number,
        "chain_id": draws.pick(words.CHAINS),
        "owner_code": sku(number),
        "name": product_name(draws),
        "description": draws.pick(words.DESCRIPTIONS),
        "brand": draws.pick(words.BRANDS),
        "category": category,
        "category_path": words.PATHS[category],
        "season": draws.pick(words.SEASONS),
        "price": price,
        "cost_price": round(price * 0.6, 2),
        "stock": below(500) - 3,
        "is_promotional": below(5) == 0,
        "private_label": below(7) == 0,
        "unit": draws.pick(words.UNITS),
        "web_url": f"https://shop.example.org/p/{number}?ref=a&b=c",
        "tags": draws.some(words.TAGS, 3),
        "created_date": text(created),
        "last_modified_date": text(min(later(draws, created, 30), until - 1)),
    }
    match below(24):
        case 0 | 1 | 2 | 3:
            document["manufacturer"] = draws.pick(words.MANUFACTURERS)
        case 4:
            document["description"] = None
        case 5:
            del document["category"]
        case 6:
            document["price"] = None
        case _:
            document["image_url"] = f"https://img.example.org/{number}.jpg"
    return document


def variant(draws: Draws, row: int, until: int) -> dict[str, Any]:
    """The variant of a row: each product has four, in rows that follow one another."""
    number = row + 1
    of = row // VARIANTS + 1
    created = past(draws, until)
    price = draws.cents(49, 49_999)
    size, colour = draws.pick(words.SIZES), draws.pick(words.COLOURS)
    barcodes = [
        {
            "id": number * 10 + place,
            "barcode": f"{8_700_000_000_000 + number * 10 + place}",
            "created_date": text(created),
            "deleted": draws.one_in(6),
        }
        for place in range(draws.below(4))
    ]
    document: dict[str, Any] = {
        "id": number,
        "chain_id": draws.pick(words.CHAINS),
        "product_id": of,
        "product_owner_code": sku(of),
        "owner_code": f"{sku(of)}-{row % VARIANTS}",
        "name": f"{product_name(draws)}, {colour}",
        "size": size,
        "colour": colour,
        "price": price,
        "cost_price": round(price * 0.55, 2),
        "is_promotional": draws.one_in(5),
        "condition": "used" if draws.one_in(9) else "new",
        "barcodes": barcodes,
        "created_date": text(created),
        "last_modified_date": text(created),
    }
    match draws.below(16):
        case 0:
            document["colour"] = None
        case 1:
            del document["barcodes"]
        case 2:
            document["web_url"] = ""
        case _:
            pass
    return document
