"""Users, their vouchers and their wallets. Called by ``documents`` only."""

from __future__ import annotations

from typing import Any

from tasks_service.sample import words
from tasks_service.sample.draws import Draws
from tasks_service.sample.goods import sku
from tasks_service.sample.moments import DAY, later, past, text

USERS = 5000  # that vouchers, wallets and baskets speak of
BEYOND_FLOATS = 2**53  # numbers above are rounded by whoever reads them as floating point


def member(draws: Draws) -> dict[str, Any]:
    """The short form of a user inside other documents."""
    number = draws.below(USERS) + 1
    return {"id": number, "member_number": f"M{number:07}"}


def user(draws: Draws, row: int, until: int) -> dict[str, Any]:
    """The user of a row."""
    number = row + 1
    country, code, city, postcode, latitude, longitude, prefix, language = draws.pick(words.PLACES)
    first, last = draws.pick(words.FIRST_NAMES), draws.pick(words.LAST_NAMES)
    created = past(draws, until)
    recency, frequency, monetary = draws.below(5) + 1, draws.below(5) + 1, draws.below(5) + 1
    bought = draws.below(60)
    document: dict[str, Any] = {
        "id": number,
        "chain_id": draws.pick(words.CHAINS),
        "user_id": number,
        "username": f"user{number}@example.org",
        "first_name": first,
        "last_name": last,
        "gender": draws.pick(words.GENDERS),
        "birthday": f"{1940 + draws.below(68)}-{draws.below(12) + 1:02}-{draws.below(28) + 1:02}",
        "phone_number": f"{prefix}{draws.below(10_000_000):07}",
        "language": language,
        "country": country,
        "country_code": code,
        "address_streetname": draws.pick(words.STREETS),
        "address_housenumber": f"{draws.below(200) + 1}",
        "address_towncity": city,
        "address_postalcode": postcode,
        "address_latitude": latitude,
        "address_longitude": longitude,
        "member_number": f"M{number:07}",
        "auxiliary_identifier": BEYOND_FLOATS + number,
        "created_date": text(created),
        "last_modified_date": text(min(later(draws, created, 300), until - 1)),
        "mailing_list": {"mailing_list_sub_offered": draws.one_in(2), "mailing_list_subscribed": draws.one_in(3)},
        "opt_in_programme": {"programme_opted_in": True, "join_date": text(created)},
        "registered": draws.below(8) > 0,
        "is_employee": draws.one_in(50),
        "recency": recency,
        "frequency": frequency,
        "monetary": monetary,
        "overall": recency * 100 + frequency * 10 + monetary,
        "average_basket_value": f"{draws.cents(100, 20_000):.2f}",
        "number_of_purchases": bought,
        "points_wallet_total": draws.cents(-500, 100_000),
        "loyalty_status": {
            "campaign_id": 14,
            "name": draws.pick(words.TIERS),
            "points_balance_current": float(draws.below(3000)),
            "next_review_date": text(until + draws.below(365) * DAY),
        },
        "signup_channel": draws.pick(words.SIGNUP_CHANNELS),
        "interests": draws.some(words.CATEGORIES, 4),
    }
    _make_rare(document, draws)
    return document


def _make_rare(document: dict[str, Any], draws: Draws) -> None:
    match draws.below(20):
        case 0:
            del document["opt_in_programme"]
        case 1:
            document["loyalty_status"] = None
        case 2:
            document["country"] = None
        case 3:
            del document["birthday"], document["phone_number"]
        case 4:
            document["address_latitude"] = document["address_longitude"] = None
        case 5 | 6 | 7:
            pass
        case _:
            store = draws.below(len(words.STORES))
            document["home_store"] = {"home_store_id": store + 1, "home_store_name": words.STORES[store]}


def voucher(draws: Draws, row: int, until: int) -> dict[str, Any]:
    """The voucher of a row: generated, claimed or redeemed; half of them have not expired yet."""
    number = row + 1
    created = past(draws, until)
    expiry = created + (30 + draws.below(1000)) * DAY
    amount = draws.cents(100, 5_000)
    campaign, kind, title = draws.pick(words.CAMPAIGNS)
    status = draws.pick(("generated", "claimed", "redeemed"))
    document: dict[str, Any] = {
        "id": number,
        "chain_id": draws.pick(words.CHAINS),
        "voucher_key": f"{draws.below(2**31):016x}{number:016x}",
        "voucher_type": draws.pick(words.VOUCHER_TYPES),
        "status": status,
        "created_date": text(created),
        "date_time_creation": text(created),
        "date_time_expiry": text(expiry),
        "date_time_redeemed": None,
        "campaign": {"id": campaign, "campaign_type": kind, "title": title},
        "amount": amount,
        "amount_redeemed": 0.0,
        "currency_code": "EUR",
        "description": draws.pick(words.DESCRIPTIONS),
        "locking": {"locked": False, "date_time_locked_until": None},
        "product_skus": [sku(draws.below(1000) + 1) for _ in range(draws.below(3))],
        "redeemable_channels": draws.some(words.CHANNELS, 3),
        "user": member(draws),
    }
    if status == "redeemed":
        # Half of them on the last days, so that a nightly export of redemptions finds some.
        redeemed = until - 1000 * (1 + draws.below(3 * 86400)) if draws.one_in(2) else later(draws, created, 60)
        document["date_time_redeemed"] = text(max(created, min(redeemed, until - 1)))
        document["amount_redeemed"] = amount
    if draws.one_in(10):
        document["notes"] = draws.pick(words.NOTES)
    if draws.one_in(15):
        document["locking"] = {"locked": True, "date_time_locked_until": text(until + DAY)}
    return document


def wallet_entry(draws: Draws, row: int, until: int) -> dict[str, Any]:
    """The wallet entry of a row: a credit or a debit."""
    number = row + 1
    moment = past(draws, until)
    amount = draws.cents(-5_000, 20_000)
    manual = draws.one_in(8)
    document: dict[str, Any] = {
        "id": number,
        "chain_id": draws.pick(words.CHAINS),
        "timestamp": text(moment),
        "timestamp_microsecond": moment * 1000 + draws.below(1000),
        "amount": amount,
        "balance": draws.cents(0, 500_000),
        "kind": "manual" if manual else "campaignContribution",
        "earn_or_spend": "spend" if amount < 0 else "earn",
        "type": draws.pick(("points", "monetary")),
        "currency_symbol": draws.pick(("€", "pts", "")),
        "user": member(draws),
    }
    if manual:
        document["mutator_id"] = BEYOND_FLOATS * 2 + number
        document["mutator_name"] = draws.pick(words.EMPLOYEES)[1]
    else:
        campaign, _, title = draws.pick(words.CAMPAIGNS)
        document["contributing_campaign_id"] = campaign
        document["contributing_campaign_title"] = title
        document["receipt_id"] = draws.below(1_000_000)
        document["retailer_basket_code"] = f"B{draws.below(1_000_000):09}"
    return document
