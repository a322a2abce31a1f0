"""The partner guide's curl lines against the application in-process, with the worker that really exports."""

from __future__ import annotations

import csv
import io
import json
import shlex
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tasks_service.runner import Worker
from tests.acceptance import curl
from tests.unit.api.conftest import CHAIN, PRODUCTS, Api, World


@pytest.fixture
def partner(world: World) -> Api:
    documents = world.services.settings.files.directory
    (documents / "product-variants").mkdir()
    (documents / "product-variants" / "some.jsonl").write_text(
        "".join(json.dumps({"chain_id": one["chain_id"], "id": one["id"], "size": "M"}) + "\n" for one in PRODUCTS)
    )
    return world.caller()


def paste(caller: Api, line: str, task_id: int | None = None) -> TestResponse:
    """Send what curl would send: its flags are read as a shell and curl read them."""
    filled = (
        line.replace("https://{Services API hostname}", "http://exports.test")
        .replace("ACCESS_TOKEN_ID:ACCESS_TOKEN_SECRET", caller.token)
        .replace("YOUR_CHAIN_ID", str(CHAIN))
        .replace("{TASK_ID}", str(task_id))
    )
    words = iter(shlex.split(filled.replace("\\\n", " ")))
    assert next(words) == "curl"
    method, url, headers, data = "GET", "", {}, None
    for word in words:
        match word:
            case "-X":
                method = next(words)
            case "-H":
                name, _, value = next(words).partition(": ")
                headers[name] = value
            case "-d":
                data = next(words)
            case _:
                url = word
    answer = caller.client.open(url, method=method, headers=headers, data=data)
    caller.contract.check(answer)
    return answer


@pytest.mark.parametrize(
    ("line", "prefix", "ids"),
    [
        (curl.ALL_PRODUCTS, "Product", ["1", "2", "3"]),
        (curl.ALL_VARIANTS, "ProductVariant", ["1", "2", "3"]),
        (curl.ELECTRONICS, "Product", ["1", "3"]),
    ],
    ids=["products", "variants", "electronics"],
)
def test_a_partners_day(world: World, partner: Api, line: str, prefix: str, ids: list[str]) -> None:
    created = paste(partner, line)
    assert created.status_code == 201, created.text
    task_id = created.get_json()["id"]
    early = paste(partner, curl.DOWNLOAD_URL, task_id)
    assert (early.status_code, early.get_json()["state"]["code"]) == (409, "READY")
    assert Worker(world.services).work_once()
    task: dict[str, Any] = paste(partner, curl.STATUS, task_id).get_json()
    assert (task["id"], task["state"]["code"], task["chain"]) == (task_id, "DONE", CHAIN), task["logs"]
    link = paste(partner, curl.DOWNLOAD_URL, task_id).get_json()
    assert link["file_name"] == f"{prefix}_Export-{task_id}.csv"
    assert link["records_count"] == task["result"]["records_count"] == len(ids)
    with partner.client.get(link["url"]) as file:
        assert file.status_code == 200
        assert f'filename="{link["file_name"]}"' in file.headers["Content-Disposition"]
        rows = list(csv.DictReader(io.StringIO(file.get_data(as_text=True), newline="")))
    assert sorted(row["id"] for row in rows) == ids
    assert {row["chain_id"] for row in rows} == {str(CHAIN)}


def test_execute_runs_and_answers_the_final_state(world: World, partner: Api) -> None:
    task_id = partner.create()["id"]
    world.waits.append(lambda: Worker(world.services).work_once() and None)
    answer = partner.post(f"/tasks/{task_id}/execute")
    assert (answer.status_code, answer.get_json()["code"]) == (200, "DONE")
    run = partner.get(f"/tasks/{task_id}/runs").get_json()["results"][0]
    assert run["query"]["parameters"] == [CHAIN]
    assert run["progress"]["rows"] == run["progress"]["total"] == 3


def test_a_cron_tasks_files_carry_their_occurrence(world: World, partner: Api) -> None:
    task_id = partner.create(trigger={"cron": "0 2 * * *"})["id"]
    world.waits.append(lambda: Worker(world.services).work_once() and None)
    assert partner.post(f"/tasks/{task_id}/execute").get_json()["code"] == "DONE"
    run = partner.get(f"/tasks/{task_id}/runs").get_json()["results"][0]
    stamp = run["occurrence"].replace("-", "").replace(":", "")
    assert run["artifact"]["file_name"] == f"Product_Export-{task_id}-{stamp}.csv"
