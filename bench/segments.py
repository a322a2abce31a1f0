"""`make bench`: what segments cost: to compile one, and to answer one beside a query written by hand.

    python -m bench.segments [--rows ROWS] [--rounds ROUNDS]

A segment of fifty rules is read, parsed, checked and compiled; the median of many goes is shown. Then typical segments
and the queries that an expert would write for the same rows take turns at one Elasticsearch; the median ratio of what
the server says it `took`, and of what the client waited, should not be over 1.1.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from segments import Catalog, all_of, compile_segment, equals, to_elasticsearch
from tasks_service.sample import load_elasticsearch, mapping

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
CHAIN = 1764
UTC_ZONE = ZoneInfo("UTC")
Query = dict[str, Any]
ROW = "{name:<46}{rows:>10,}{ours:>10.2f}{theirs:>10.2f}{took:>8.2f}{wall:>8.2f}"


@dataclass(frozen=True)
class Typical:
    """A segment of the transactions, and the filters an expert writes for it."""

    name: str
    rules: list[dict[str, Any]]
    by_hand: list[Query]


def rule(name: str, kind: str, operator: str, value: object = ..., **members: object) -> dict[str, Any]:
    given = {} if value is ... else {"value": value}
    nested = {"nested": True, "nesting_path": "line_items"} if name.startswith("line_items.") else {}
    return {"field_name": name, "field_type": kind, "operator": operator, **given, **members, **nested}


def nested(*filters: Query) -> Query:
    return {"nested": {"path": "line_items", "query": {"bool": {"filter": list(filters)}}}}


CODES = [f"B{number:09}" for number in random.Random(1).sample(range(1, 10**6), 1000)]
DAY = {"gte": "2026-03-29T00:00:00.000Z", "lt": "2026-03-30T00:00:00.000Z", "format": "strict_date_optional_time"}
TYPICAL = [
    Typical("a term", [rule("type", "keyword", "is", "online")], [{"term": {"type": "online"}}]),
    Typical(
        "a range of numbers",
        [rule("total_value", "number", "is_between_number", min=50, max=100)],
        [{"range": {"total_value": {"gte": 50, "lte": 100}}}],
    ),
    Typical(
        "a substring, case folded",
        [rule("retailer_basket_code", "keyword", "contains", "b00012")],
        [{"wildcard": {"retailer_basket_code": {"value": "*b00012*", "case_insensitive": True}}}],
    ),
    Typical(
        "a prefix, case folded",
        [rule("retailer_basket_code", "keyword", "starts_with", "b00012")],
        [{"prefix": {"retailer_basket_code": {"value": "b00012", "case_insensitive": True}}}],
    ),
    Typical(
        "one of 1,000 values",
        [rule("retailer_basket_code", "keyword", "is_any_of", CODES)],
        [{"terms": {"retailer_basket_code": CODES}}],
    ),
    Typical("a day", [rule("timestamp", "date", "is_date", "2026-03-29")], [{"range": {"timestamp": DAY}}]),
    Typical(
        "one nested document",
        [
            rule("line_items.category", "keyword", "is", "Electronics"),
            rule("line_items.quantity", "number", "is_greater_than", 2),
        ],
        [nested({"term": {"line_items.category": "Electronics"}}, {"range": {"line_items.quantity": {"gt": 2}}})],
    ),
    Typical(
        "negations",
        [
            rule("type", "keyword", "is_not", "online"),
            rule("line_items.category", "keyword", "is_not", "Electronics"),
            rule("employee.code", "keyword", "is_not_set"),
        ],
        [
            {
                "bool": {
                    "must_not": [
                        {"term": {"type": "online"}},
                        nested({"term": {"line_items.category": "Electronics"}}),
                        {"exists": {"field": "employee.code"}},
                    ]
                }
            }
        ],
    ),
    Typical(
        "a mixture",
        [
            rule("type", "keyword", "is", "online"),
            rule("timestamp", "date", "is_after_date", start_date="2026-01-31"),
            {
                "join": "any",
                "rules": [
                    rule("country_code", "keyword", "is_any_of", ["NL", "BE"]),
                    rule("total_value", "number", "is_greater_or_equal", 250),
                ],
            },
            rule("line_items.quantity", "number", "is", 4),
        ],
        [
            {"term": {"type": "online"}},
            {"range": {"timestamp": {"gte": "2026-02-01T00:00:00.000Z", "format": "strict_date_optional_time"}}},
            {
                "bool": {
                    "should": [
                        {"terms": {"country_code": ["NL", "BE"]}},
                        {"range": {"total_value": {"gte": 250}}},
                    ]
                }
            },
            nested({"term": {"line_items.quantity": 4}}),
        ],
    ),
]


def fifty() -> dict[str, Any]:
    """A segment of fifty rules of every kind, in groups."""
    rules = [one for typical in TYPICAL if typical.name != "one of 1,000 values" for one in typical.rules]
    rules += [rule("country_code", "keyword", "is_any_of", ["NL", "BE", "DE"]), rule("user.id", "number", "is_set")]
    rules += [rule("timestamp", "date", "relative_less_than", time_factor="days", time_amount=30)]
    flat = [one for one in rules if "join" not in one]
    flat = (flat * 5)[:50]
    groups = [{"join": "any", "rules": flat[at : at + 10]} for at in range(10, 50, 10)]
    return segment([*flat[:10], *groups])


def segment(rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"entity": "people", "index": "transactions", "join": "all", "chain_id": CHAIN, "rules": rules}


def median(timed: Callable[[], object], goes: int) -> float:
    """Milliseconds of this process, whatever else the machine does."""
    seconds: list[float] = []
    for _ in range(goes):
        begun = time.process_time()
        timed()
        seconds.append(time.process_time() - begun)
    return statistics.median(seconds) * 1000


def compiling(goes: int) -> None:
    catalog = Catalog.from_mapping(mapping("transactions")["properties"])
    raw = fifty()

    def whole() -> object:
        return to_elasticsearch(compile_segment(raw, catalog, now=UNTIL, zone=UTC_ZONE))

    tree = compile_segment(raw, catalog, now=UNTIL, zone=UTC_ZONE)
    print(f"{'50 rules: read, parse, check, compile':<46}{median(whole, goes):>10.3f} ms")
    print(f"{'  of it to_elasticsearch':<46}{median(lambda: to_elasticsearch(tree), goes):>10.3f} ms")


class Client:
    """Asks one Elasticsearch."""

    def __init__(self, url: str, index: str) -> None:
        self._url = url
        self._index = index

    def catalog(self) -> Catalog:
        with urllib.request.urlopen(f"{self._url}/{self._index}/_mapping", timeout=60) as answer:  # noqa: S310
            return Catalog.from_mapping(json.loads(answer.read())[self._index]["mappings"]["properties"])

    def count(self, query: Query) -> tuple[int, int, float]:
        """Rows, what the server took and what the client waited, in milliseconds."""
        body = json.dumps({"size": 0, "track_total_hits": True, "query": query}).encode()
        path = f"{self._url}/{self._index}/_search?request_cache=false"
        request = urllib.request.Request(path, data=body, headers={"content-type": "application/json"})  # noqa: S310
        begun = time.perf_counter()
        with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
            found = json.loads(answer.read())
        return found["hits"]["total"]["value"], found["took"], (time.perf_counter() - begun) * 1000


def answering(rows: int, rounds: int) -> None:
    from tests.servers import keeper

    with keeper.leading():
        keeper.begin("tests.servers.elasticsearch:SERVER_8")
        url = str(keeper.attach("tests.servers.elasticsearch:SERVER_8")["url"])
        load_elasticsearch(url, {"transactions": rows}, until=UNTIL, prefix="bench-")
        client = Client(url, "bench-transactions")
        catalog = client.catalog()
        print(f"\n{'':<46}{'rows':>10}{'ours ms':>10}{'hand ms':>10}{'took':>8}{'wall':>8}")
        for typical in TYPICAL:
            tree = compile_segment(segment(typical.rules), catalog, now=UNTIL, zone=UTC_ZONE)
            ours = to_elasticsearch(all_of(equals(catalog, "chain_id", CHAIN), tree))
            _compare(client, typical, ours, rounds)


def _compare(client: Client, typical: Typical, ours: Query, rounds: int) -> None:
    by_hand: Query = {"bool": {"filter": [{"term": {"chain_id": {"value": CHAIN}}}, *typical.by_hand]}}
    asked = [ours, by_hand]
    for query in asked * 3:
        client.count(query)
    took: list[list[float]] = [[], []]
    wall: list[list[float]] = [[], []]
    counts: list[set[int]] = [set(), set()]
    for at in range(rounds):
        for which in (0, 1) if at % 2 else (1, 0):
            count, one_took, one_wall = client.count(asked[which])
            counts[which].add(count)
            took[which].append(one_took)
            wall[which].append(one_wall)
    assert counts[0] == counts[1], (typical.name, counts)
    print(
        ROW.format(
            name=typical.name + (" (the same query)" if ours == by_hand else ""),
            rows=counts[0].pop(),
            ours=statistics.median(wall[0]),
            theirs=statistics.median(wall[1]),
            took=_ratio(took, least=1),
            wall=_ratio(wall, least=0),
        ),
        flush=True,
    )


def _ratio(pair: list[list[float]], *, least: float) -> float:
    """The median of the ratios within each round: neighbours in time bear the same load of the machine."""
    return statistics.median(max(ours, least) / max(hand, least) for ours, hand in zip(*pair, strict=True))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--goes", type=int, default=500)
    chosen = parser.parse_args(arguments)
    compiling(chosen.goes)
    if chosen.rows:
        answering(chosen.rows, chosen.rounds)


if __name__ == "__main__":
    main()
