"""A partner's day, on both stacks: the guide's curl lines, what the file must hold, links, isolation, bad input."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tasks_service import metrics
from tests import measured
from tests.acceptance import curl
from tests.acceptance.conftest import CHAIN, OTHER, rows_of
from tests.acceptance.service import Api, Service


@pytest.fixture(scope="module")
def api(service: Service) -> Api:
    return service.api(CHAIN)


def export(index: str, **target: Any) -> dict[str, Any]:
    return {
        "chain": CHAIN,
        "desc": "acceptance",
        "target": {"action": "export", "export_index": index, **target},
        "trigger": {"once": "2026-05-26T12:00:00Z"},
    }


def cells(body: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(body.decode(), newline="")))


@pytest.mark.parametrize(
    ("line", "index", "prefix", "keep"),
    [
        (curl.ALL_PRODUCTS, "products", "Product", lambda _: True),
        (curl.ALL_VARIANTS, "product-variants", "ProductVariant", lambda _: True),
        (curl.ELECTRONICS, "products", "Product", lambda d: d.get("category") == "Electronics"),
    ],
    ids=["products", "variants", "electronics"],
)
def test_the_guides_curl_lines(service: Service, api: Api, line: str, index: str, prefix: str, keep: Any) -> None:
    created = curl.paste(line, url=service.url, token=api.token, chain=CHAIN)
    assert created["state"]["code"] in {"READY", "INPROGRESS"}
    assert created["trigger"]["once"] == "2026-05-26T12:00:00Z"
    task_id = created["id"]
    assert api.finished(task_id)["state"]["code"] == "DONE"
    task = curl.paste(curl.STATUS, url=service.url, token=api.token, chain=CHAIN, task_id=task_id)
    assert task["state"]["code"] == "DONE"
    link = curl.paste(curl.DOWNLOAD_URL, url=service.url, token=api.token, chain=CHAIN, task_id=task_id)
    file = api.http.request("GET", link["url"])
    assert file.headers["Content-Disposition"].startswith("attachment")
    assert f"{prefix}_Export-{task_id}.csv" in file.headers["Content-Disposition"]
    assert link["file_name"] == f"{prefix}_Export-{task_id}.csv"
    expected = rows_of(index, CHAIN, keep)
    assert expected
    found = cells(file.data)
    assert sorted(int(row["id"]) for row in found) == sorted(row["id"] for row in expected)
    assert {row["chain_id"] for row in found} == {str(CHAIN)}
    assert link["records_count"] == len(expected) == task["result"]["records_count"]


@pytest.mark.parametrize(
    "index", ["transactions", "users", "vouchers", "wallet-ledger", "products", "product-variants"]
)
def test_jsonl_holds_exactly_the_chains_documents(service: Service, api: Api, index: str) -> None:
    task = api.create(export(index, export_format="jsonl", compression="gzip"))
    assert api.finished(task["id"])["state"]["code"] == "DONE"
    link, file = api.download(task["id"])
    assert link["file_name"].endswith(".jsonl.gz")
    found = [json.loads(line) for line in gzip.decompress(file.body).splitlines()]
    key = json.dumps
    assert sorted(found, key=key) == sorted(rows_of(index, CHAIN), key=key)
    counted = measured.by_installation(service.directory / "state")
    labels = {"index": index, "format": "jsonl"}
    assert counted.of(metrics.EXPORT_ROWS, **labels) >= len(found)
    assert counted.of(metrics.EXPORT_BYTES, **labels) >= len(file.body)
    assert counted.of(metrics.EXPORT_SECONDS, "_count", **labels) >= 1
    assert counted.of(metrics.TICKS, outcome="ok") >= 1


def test_json_is_one_array(api: Api) -> None:
    task = api.create(export("users", export_format="json"))
    api.finished(task["id"])
    _, file = api.download(task["id"])
    assert sorted(d["id"] for d in json.loads(file.body)) == sorted(d["id"] for d in rows_of("users", CHAIN))


def test_a_download_is_verified_against_its_manifest(service: Service, api: Api, tmp_path: Path) -> None:
    task = api.finished(api.create(export("products", columns=["id", "name"], compression="gzip"))["id"])
    for what in ("download_url", "manifest_url"):
        link, answer = api.download(task["id"], what)
        (tmp_path / link["file_name"]).write_bytes(answer.body)
    file = tmp_path / task["result"]["file_name"]
    arguments = ("verify", str(file), f"{file}.manifest.json")
    rows = len(rows_of("products", CHAIN))
    assert f"Whole: {rows} rows, as the manifest says." in service.command(*arguments).stdout
    manifest = json.loads(Path(arguments[2]).read_bytes())
    assert manifest["documents"] == rows == len(gzip.decompress(file.read_bytes()).splitlines()) - 1
    assert [(one["name"], one["field"]) for one in manifest["columns"]] == [("id", "id"), ("name", "name")]
    assert str(CHAIN) in json.dumps(manifest["query"])
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    ended = service.command(*arguments, check=False)
    assert (ended.returncode, "its sha256 is" in ended.stdout) == (1, True)


@pytest.mark.parametrize("archive", [None, "zip"])
def test_a_split_download_is_every_row_once(service: Service, api: Api, tmp_path: Path, archive: str | None) -> None:
    asked = export("products", export_format="jsonl", split={"rows": 700}, **({"archive": archive} if archive else {}))
    task = api.finished(api.create(asked)["id"])
    link = api.request("GET", f"/tasks/{task['id']}/download_url").json
    for one in [link, *(link["files"] or [])]:
        if one["url"] is not None:
            (tmp_path / one["file_name"]).write_bytes(api.http.request("GET", one["url"]).data)
    stem = f"Product_Export-{task['id']}"
    if archive:
        with zipfile.ZipFile(tmp_path / f"{stem}.zip") as zipped:
            files = [zipped.read(name) for name in zipped.namelist()]
    else:
        files = [path.read_bytes() for path in sorted(tmp_path.glob("*.jsonl"))]
    expected = sorted(document["id"] for document in rows_of("products", CHAIN))
    assert [len(file.splitlines()) for file in files[:-1]] == [700] * (len(expected) // 700)
    assert sorted(json.loads(line)["id"] for file in files for line in file.splitlines()) == expected
    assert [one["file_name"] for one in task["result"]["files"]] == [
        f"{stem}-{number:04}.jsonl" for number in range(1, len(files) + 1)
    ]
    _, answer = api.download(task["id"], "manifest_url")
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(answer.body)
    given = str(tmp_path / f"{stem}.zip") if archive else str(tmp_path)
    assert f"Whole: {len(expected)} rows" in service.command("verify", given, str(manifest)).stdout


def test_another_chain_sees_nothing(service: Service, api: Api) -> None:
    stranger = service.api(OTHER)
    task = api.create(export("products"))
    missing = 987654321
    for method, path in [
        ("GET", "/tasks/{}"),
        ("GET", "/tasks/{}/runs"),
        ("GET", "/tasks/{}/download_url"),
        ("POST", "/tasks/{}/execute"),
        ("DELETE", "/tasks/{}"),
        ("POST", "/tasks/{}/pause"),
    ]:
        theirs = stranger.request(method, path.format(task["id"]))
        nothing = stranger.request(method, path.format(missing))
        assert theirs.status == nothing.status == 404, (method, path, theirs.body)
        left, right = theirs.json, nothing.json
        left.pop("instance"), right.pop("instance")
        assert left == right
    assert task["id"] not in [t["id"] for t in stranger.request("GET", "/tasks").json["results"]]
    foreign = stranger.request("POST", "/tasks", export("products"))
    assert foreign.status == 403


def test_every_fault_is_named_at_once_and_nothing_is_stored(api: Api) -> None:
    def stored() -> list[int]:
        return [task["id"] for task in api.request("GET", "/tasks?limit=1").json["results"]]

    before = stored()  # by their ids: the run of a task made by another test may go on meanwhile
    body = {
        "chain": CHAIN,
        "target": {"action": "export", "export_index": "prodcts", "export_format": "cvs"},
        "trigger": {
            "cron": "61 2 * * *",
            "once": "2026-05-26T12:00:00Z",
            "timezone": "Europe/Amsterdm",
            "segment": {
                "entity": "people",
                "index": "products",
                "join": "all",
                "chain_id": CHAIN,
                "rules": [{"field_name": "category", "field_type": "keyword", "operator": "iz", "value": "x"}],
            },
        },
        "colour": "red",
    }
    answer = api.request("POST", "/tasks", body)
    assert answer.status == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    pointers = {fault["pointer"] for fault in answer.json["errors"]}
    assert {
        "/target/export_index",
        "/target/export_format",
        "/trigger",
        "/trigger/cron",
        "/trigger/timezone",
        "/trigger/segment/rules/0/operator",
        "/colour",
    } <= pointers
    assert stored() == before


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{" + b" " * (2 << 20) + b"}", "application/json", 413),
        (b"not json", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"[]", "application/json", 422),
    ],
    ids=["too large", "not json", "not declared", "not an object"],
)
def test_a_body_that_is_none(api: Api, body: bytes, content_type: str, status: int) -> None:
    answer = api.http.request(
        "POST",
        api.url + "/tasks",
        body=body,
        headers={"Authorization": f"Bearer {api.token}", "Content-Type": content_type},
    )
    assert answer.status in {status, 422 if status == 400 else status}
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(answer.data)["status"] == answer.status


def test_links_cannot_be_altered_and_appear_in_no_log(service: Service, api: Api) -> None:
    task = api.create(export("vouchers"))
    api.finished(task["id"])
    link, _ = api.download(task["id"])
    url = link["url"]
    marker = url.split("X-Goog-Signature=")[1] if "X-Goog-Signature=" in url else url.split("/files/")[1].split("/")[0]
    assert len(marker) > 40
    flipped = url.replace(marker, ("0" if marker[0] != "0" else "1") + marker[1:])
    assert api.http.request("GET", flipped).status in {400, 403}
    assert marker not in service.log.read_text()
    assert marker[:40] not in service.log.read_text()
    assert api.token.split(":")[1] not in service.log.read_text()
