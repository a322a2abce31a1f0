from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from tasks_service.api.tags import idempotency_key
from tasks_service.database import tasks
from tests.unit.api.conftest import CHAIN, OTHER_CHAIN, Api, World, pointers, segment, standing, task_body

CRON = {"cron": "0 2 * * *", "timezone": "Europe/Amsterdam"}


def test_a_task_for_later_waits(partner: Api) -> None:
    answer = partner.post("/tasks", task_body())
    assert answer.status_code == 201
    task = answer.get_json()
    assert answer.headers["Location"] == f"/tasks/{task['id']}"
    assert answer.headers["ETag"] == f'"{task["version"]}.1"'
    assert task["chain"] == CHAIN
    assert task["state"]["code"] == "READY"
    assert task["state"]["next_run_date"] == "2999-05-26T12:00:00Z"
    assert task["next_run_dates"] == ["2999-05-26T12:00:00Z"]
    assert task["target"] == task_body()["target"]
    assert task["trigger"]["once"] == "2999-05-26T12:00:00Z"
    assert task["created_by"]["type"] == "client"
    assert (task["debug"], task["paused"], task["result"], task["version"]) == (None, None, None, 1)
    assert [entry["event"] for entry in task["logs"]] == ["task.created"]
    assert partner.get(f"/tasks/{task['id']}/runs").get_json()["results"] == []


def test_a_task_that_is_due_has_its_run_at_once(partner: Api) -> None:
    task = partner.create(trigger={"once": "2020-01-01T00:00:00Z"})
    [run] = partner.get(f"/tasks/{task['id']}/runs").get_json()["results"]
    assert (run["kind"], run["state"], run["occurrence"]) == ("schedule", "queued", task["state"]["created_date"])
    assert task["state"]["next_run_date"] is None
    assert task["next_run_dates"] == []
    assert partner.claim().run_id == run["id"]


def test_a_moment_without_offset_is_read_in_the_zone(partner: Api) -> None:
    task = partner.create(trigger={"once": "2999-01-01T12:00:00", "timezone": "Europe/Amsterdam"})
    assert task["trigger"]["once"] == "2999-01-01T11:00:00Z"


def test_a_cron_tells_its_next_five_runs_and_its_defaults(partner: Api) -> None:
    task = partner.create(trigger=CRON)
    assert len(task["next_run_dates"]) == 5
    assert task["next_run_dates"][0] == task["state"]["next_run_date"]
    assert (task["trigger"]["misfire"], task["trigger"]["overlap"]) == ("run_once", "skip")


def test_relative_rules_make_every_window_count(partner: Api) -> None:
    rule = {"field_name": "created", "field_type": "date", "operator": "relative_less_than"}
    rule |= {"time_factor": "day", "time_amount": 1}
    trigger = partner.create(trigger=CRON | {"segment": segment(rules=[rule])})["trigger"]
    assert (trigger["misfire"], trigger["overlap"]) == ("run_all", "buffer_all")


def test_format_is_another_name_of_export_format(partner: Api) -> None:
    target = partner.create(target={"action": "export", "export_index": "products", "format": "jsonl"})["target"]
    assert target == {"action": "export", "export_index": "products", "export_format": "jsonl"}


def test_csv_is_the_default_and_desc_and_debug_are_optional(partner: Api) -> None:
    body = task_body(target={"action": "export", "export_index": "products"}, debug="x")
    del body["desc"]
    task = partner.post("/tasks", body).get_json()
    assert task["target"]["export_format"] == "csv"
    assert (task["desc"], task["debug"]) == (None, None)


def test_options_of_a_target_are_kept(partner: Api) -> None:
    target = task_body()["target"] | {
        "columns": ["id", {"field": "name", "header": "Name"}],
        "compression": "gzip",
        "options": {"delimiter": ";", "bom": True, "formula_guard": "escape"},
        "on_empty": "skip",
        "limit": 10,
        "retention_days": 7,
    }
    assert partner.create(target=target)["target"] == target
    del target["columns"]
    assert partner.create(target=target | {"dry_data": True})["target"] == target | {"dry_data": True}


BAD: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"chain": None}, {"/chain": "wrong_type"}),
    ({"chain": "1764"}, {"/chain": "wrong_type"}),
    ({"chain": 1764.0}, {"/chain": "wrong_type"}),
    ({"chain": True}, {"/chain": "wrong_type"}),
    ({"desc": 1}, {"/desc": "wrong_type"}),
    ({"desc": "x" * 1001}, {"/desc": "too_long"}),
    ({"target": None}, {"/target": "wrong_type"}),
    ({"target": []}, {"/target": "wrong_type"}),
    ({"target": {}}, {"/target/action": "missing", "/target/export_index": "missing"}),
    ({"target": {"action": "import", "export_index": "products"}}, {"/target/action": "not_allowed"}),
    ({"target": {"action": "export", "export_index": "produts"}}, {"/target/export_index": "unknown_index"}),
    ({"target": {"action": "export", "export_index": "users"}}, {"/target/export_index": "index_not_there"}),
    ({"trigger": None}, {"/trigger": "wrong_type"}),
    ({"trigger": {}}, {"/trigger": "missing"}),
    ({"trigger": {"once": "2999-01-01T00:00:00Z", "cron": "0 2 * * *"}}, {"/trigger": "clash"}),
    ({"trigger": {"once": "tomorrow"}}, {"/trigger/once": "invalid_date"}),
    ({"trigger": {"once": 5}}, {"/trigger/once": "wrong_type"}),
    ({"trigger": {"cron": "61 * * * *"}}, {"/trigger/cron": "invalid_cron"}),
    ({"trigger": {"cron": "0 0 30 2 *"}}, {"/trigger/cron": "invalid_cron"}),
    ({"trigger": {"cron": "* * * * * *"}}, {"/trigger/cron": "invalid_cron"}),
    ({"trigger": {"cron": "0 2 * * *", "timezone": "Mars/Base"}}, {"/trigger/timezone": "unknown_zone"}),
    ({"trigger": {"once": "2999-01-01T00:00:00Z", "jitter": 1}}, {"/trigger/jitter": "not_with_once"}),
    ({"trigger": {"cron": "0 2 * * *", "repeat": "daily"}}, {"/trigger/repeat": "unknown_member"}),
    ({"trigger": {"cron": "0 2 * * *", "segment_id": "x"}}, {"/trigger/segment_id": "wrong_type"}),
    ({"trigger": {"cron": "0 2 * * *", "segment": []}}, {"/trigger/segment": "wrong_type"}),
    ({"trigger": CRON | {"segment": segment(chain_id=OTHER_CHAIN)}}, {"/trigger/segment/chain_id": "foreign_chain"}),
    ({"trigger": CRON | {"segment": segment(index="users")}}, {"/trigger/segment/index": "other_index"}),
]


@pytest.mark.parametrize(("changes", "expected"), BAD, ids=lambda one: json.dumps(one)[:60])
def test_what_is_wrong_is_named_by_its_own_pointer(
    partner: Api, changes: dict[str, Any], expected: dict[str, str]
) -> None:
    assert pointers(partner.post("/tasks", task_body(**changes))) == expected
    assert partner.get("/tasks").get_json()["results"] == []


TARGETS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"export_format": "cvs"}, {"/target/export_format": "unknown_format"}),
    ({"format": "json"}, {"/target": "clash"}),
    ({"export_format": None}, {"/target/export_format": "wrong_type"}),
    ({"compression": "zip"}, {"/target/compression": "unknown_compression"}),
    ({"options": {"delimiter": ",,"}}, {"/target/options/delimiter": "invalid_option"}),
    ({"options": {"delimeter": ","}}, {"/target/options/delimeter": "unknown_option"}),
    ({"options": {"nested": "explode"}}, {"/target/options/nested": "no_nested_list"}),
    ({"options": {"nested": "explode", "explode": ["a", "b"]}}, {"/target/options/explode": "invalid_option"}),
    (
        {"options": {"nested": "explode"}, "columns": ["nam"]},
        {"/target/options/nested": "no_nested_list", "/target/columns/0": "unknown_field"},
    ),
    ({"export_format": "xlsx", "compression": "gzip"}, {"/target": "clash"}),
    ({"export_format": "xlsx", "split": {"bytes": 1000}}, {"/target/split/bytes": "not_with_format"}),
    ({"export_format": "xlsx", "options": {"dates": "iso"}}, {"/target/options/dates": "invalid_option"}),
    ({"options": {"null": 0}}, {"/target/options/null": "invalid_option"}),
    ({"options": {"null": "n,a"}}, {"/target/options/null": "clash"}),
    ({"options": {"timezone": "Mars/Base"}}, {"/target/options/timezone": "unknown_zone"}),
    ({"export_format": "parquet", "options": {"timezone": "UTC"}}, {"/target/options/timezone": "unknown_option"}),
    ({"export_format": "parquet", "options": {"null": "-"}}, {"/target/options/null": "unknown_option"}),
    ({"export_format": "parquet", "compression": "zstd"}, {"/target": "clash"}),
    ({"export_format": "parquet", "split": {"bytes": 1000}}, {"/target/split/bytes": "not_with_format"}),
    ({"export_format": "parquet", "options": {"typed": "no"}}, {"/target/options/typed": "invalid_option"}),
    ({"columns": ["id", {"template": "{nam}", "header": "x"}]}, {"/target/columns/1/template": "unknown_field"}),
    ({"columns": ["nam", "id"]}, {"/target/columns/0": "unknown_field"}),
    ({"columns": []}, {"/target/columns": "empty"}),
    (
        {"sort": ["nam", {"field": "id", "order": "up"}, 3]},
        {
            "/target/sort/0": "unknown_field",
            "/target/sort/1/order": "unknown_order",
            "/target/sort/2": "wrong_type",
        },
    ),
    ({"sort": []}, {"/target/sort": "empty"}),
    ({"sort": ["id"] * 11}, {"/target/sort": "too_many"}),
    ({"sort": "id"}, {"/target/sort": "wrong_type"}),
    (
        {"sort": ["id", {"field": "id", "order": "desc"}, {"by": "id"}]},
        {
            "/target/sort/1/field": "duplicate",
            "/target/sort/2/by": "unknown_member",
            "/target/sort/2/field": "required",
        },
    ),
    ({"columns": "id"}, {"/target/columns": "wrong_type"}),
    ({"columns": [{"header": "x"}]}, {"/target/columns/0/field": "required"}),
    ({"columns": ["id"], "export_format": "json"}, {"/target": "clash"}),
    ({"on_empty": "nothing"}, {"/target/on_empty": "not_allowed"}),
    ({"limit": 0}, {"/target/limit": "out_of_range"}),
    ({"split": {"rows": 0}}, {"/target/split/rows": "out_of_range"}),
    ({"split": {"rows": "many"}}, {"/target/split/rows": "wrong_type"}),
    ({"split": {"rows": 5, "bytes": 5}}, {"/target/split": "clash"}),
    ({"split": {}}, {"/target/split": "missing"}),
    ({"split": {"files": 3}}, {"/target/split/files": "unknown_member"}),
    ({"split": 3}, {"/target/split": "wrong_type"}),
    ({"archive": "tar"}, {"/target/archive": "not_allowed"}),
    ({"retention_days": 100_000}, {"/target/retention_days": "out_of_range"}),
    ({"dry_data": True, "columns": ["id"]}, {"/target": "clash"}),
    ({"dry_data": "yes"}, {"/target/dry_data": "wrong_type"}),
    ({"limt": 1}, {"/target/limt": "unknown_member"}),
]


@pytest.mark.parametrize(("changes", "expected"), TARGETS, ids=lambda one: json.dumps(one)[:60])
def test_what_is_wrong_with_a_target_is_named(partner: Api, changes: dict[str, Any], expected: dict[str, str]) -> None:
    body = task_body(target=task_body()["target"] | changes)
    assert pointers(partner.post("/tasks", body)) == expected


def test_missing_members_are_named_by_their_own_pointers(partner: Api) -> None:
    assert pointers(partner.post("/tasks", {})) == {"/chain": "missing", "/target": "missing", "/trigger": "missing"}


def test_all_faults_come_at_once(partner: Api) -> None:
    body = {
        "chain": CHAIN,
        "dsec": "x",
        "target": {"action": "exprt", "export_index": "products", "export_format": "cvs", "columns": ["nam"]},
        "trigger": {
            "cron": "61 * * * *",
            "timezone": "Mars/Base",
            "overlap": "never",
            "segment": segment(
                rules=[
                    {"field_name": "catgory", "field_type": "keyword", "operator": "is", "value": "x"},
                    {"field_name": "price", "field_type": "number", "operator": "iss", "value": 1},
                ]
            ),
        },
    }
    assert set(pointers(partner.post("/tasks", body))) == {
        "/dsec",
        "/target/action",
        "/target/export_format",
        "/trigger/cron",
        "/trigger/timezone",
        "/trigger/overlap",
        "/trigger/segment/rules/0/field_name",
        "/trigger/segment/rules/1/operator",
    }


def test_an_unknown_index_is_told_the_known_ones(partner: Api) -> None:
    answer = partner.post("/tasks", task_body(target={"action": "export", "export_index": "produts"}))
    [fault] = answer.get_json()["errors"]
    assert "Did you mean `products`?" in fault["detail"]
    assert "wallet-ledger" in fault["detail"]


def test_a_foreign_chain_is_forbidden_whatever_else_is_wrong(partner: Api) -> None:
    for body in (task_body(chain=OTHER_CHAIN), {"chain": OTHER_CHAIN}):
        answer = partner.post("/tasks", body)
        assert answer.status_code == 403, answer.text


@pytest.mark.parametrize("chain", [-1, 2**63, 10**40])
def test_a_chain_that_cannot_be_is_out_of_range(operator: Api, chain: int) -> None:
    assert pointers(operator.post("/tasks", task_body(chain=chain))) == {"/chain": "out_of_range"}


def test_an_operator_creates_for_any_chain(operator: Api) -> None:
    task = operator.create(chain=OTHER_CHAIN)
    assert (task["chain"], task["created_by"]["type"]) == (OTHER_CHAIN, "operator")


@pytest.mark.parametrize("key", ["8e03978e-40d5-43e8-bc93-6894a57f9324", '"a \\"quoted\\" key"'])
def test_the_same_request_makes_one_task(partner: Api, key: str) -> None:
    first = partner.post("/tasks", task_body(), Idempotency_Key=key)
    again = partner.post("/tasks", dict(reversed(task_body().items())), Idempotency_Key=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.get_json() == first.get_json()
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(partner.get("/tasks").get_json()["results"]) == 1


def test_a_key_with_another_body_is_refused(partner: Api) -> None:
    partner.post("/tasks", task_body(), Idempotency_Key="k")
    answer = partner.post("/tasks", task_body(desc="other"), Idempotency_Key="k")
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["parameter"] == "Idempotency-Key"


def test_a_key_is_the_clients_own(world: World, partner: Api) -> None:
    partner.post("/tasks", task_body(), Idempotency_Key="k")
    assert world.caller().post("/tasks", task_body(desc="other"), Idempotency_Key="k").status_code == 201


def test_a_refused_request_uses_up_no_key(partner: Api) -> None:
    assert partner.post("/tasks", task_body(nonsense=1), Idempotency_Key="k").status_code == 422
    assert partner.post("/tasks", task_body(), Idempotency_Key="k").status_code == 201


def test_the_same_request_from_many_threads_makes_one_task(world: World, partner: Api) -> None:
    answers: list[int] = []
    start = threading.Barrier(4)

    def create() -> None:
        caller = Api(world.app.test_client(), partner.token, world.services, world.contract)
        start.wait(timeout=30)
        answers.append(caller.post("/tasks", task_body(), Idempotency_Key="k").get_json()["id"])

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert answers == [answers[0]] * 4


def test_whoever_loses_the_race_for_a_key_answers_what_the_winner_did(
    partner: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = partner.post("/tasks", task_body(), Idempotency_Key="k").get_json()
    recall, calls = tasks.recall_answer, []

    def late(*arguments: Any) -> Any:
        calls.append(arguments)
        return None if len(calls) == 1 else recall(*arguments)

    monkeypatch.setattr(tasks, "recall_answer", late)
    assert partner.post("/tasks", task_body(), Idempotency_Key="k").get_json() == first
    assert len(partner.get("/tasks").get_json()["results"]) == 1


@pytest.mark.parametrize(
    ("header", "key"), [("abc", "abc"), ('"abc"', "abc"), ('"a\\\\b"', "a\\b"), (" x ", "x"), (None, None)]
)
def test_an_idempotency_key_is_read_bare_or_quoted(header: str | None, key: str | None) -> None:
    assert idempotency_key(header) == key


@pytest.mark.parametrize("header", ["", "   ", '""', '"a', 'a"b c', "x" * 256, "ü", '"a\\x"'])
def test_a_key_that_is_none_is_refused(partner: Api, header: str) -> None:
    answer = partner.post("/tasks", task_body(), Idempotency_Key=header)
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["parameter"] == "Idempotency-Key"


def test_a_chain_with_too_much_queued_waits(tmp_path: Any, migrated: Any, contract: Any) -> None:
    with standing(tmp_path, migrated, contract, limits={"queued_per_chain": 1}) as world:
        partner, stranger = world.caller(), world.caller(OTHER_CHAIN)
        now = {"once": "2020-01-01T00:00:00Z"}
        first = partner.create(trigger=now)
        answer = partner.post("/tasks", task_body(trigger=now))
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 0
        assert len(partner.get("/tasks").get_json()["results"]) == 1
        assert partner.post("/tasks", task_body()).status_code == 201, "a task for later queues nothing"
        assert stranger.post("/tasks", task_body(chain=OTHER_CHAIN, trigger=now)).status_code == 201
        later = partner.create(trigger={"cron": "0 2 * * *"})
        assert partner.post(f"/tasks/{later['id']}/execute", Prefer="wait=0").status_code == 429
        assert partner.task(first["id"])["state"]["code"] == "READY"
