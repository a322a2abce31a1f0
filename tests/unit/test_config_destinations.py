"""Destinations in the configuration: whose they are, and what is said of one that cannot be."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tasks_service import config_example
from tasks_service.config_loading import load_settings
from tasks_service.errors import ConfigurationError

GCS = {"kind": '"gcs"', "bucket": '"acme-exports"', "chains": "[1764]"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds the config.toml of whoever runs it."""
    monkeypatch.chdir(tmp_path)


def written(members: dict[str, str]) -> Path:
    path = Path("config.toml")
    path.write_text("[destinations.acme]\n" + "".join(f"{name} = {value}\n" for name, value in members.items()))
    return path


def faults(members: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(written(members), {})
    return [fault.detail for fault in caught.value.faults]


def test_there_are_none_by_default() -> None:
    assert load_settings(None, {}).destinations == {}


def test_one_is_read_from_the_file_and_changed_by_variables() -> None:
    variables = {"TASKS_DESTINATIONS__ACME__PREFIX": "/from/us/", "TASKS_DESTINATIONS__ACME__CHAINS": "7"}
    [(name, found)] = load_settings(written(GCS), variables).destinations.items()
    assert (name, found.kind, found.bucket, found.prefix, found.chains) == (
        "acme",
        "gcs",
        "acme-exports",
        "from/us",
        [7],
    )


def test_one_may_come_from_variables_alone() -> None:
    values = {"KIND": "gcs", "BUCKET": "data-lake", "CHAINS": "1764,1765", "PREFIX": "exports/{chain}"}
    variables = {f"TASKS_DESTINATIONS__DATA_LAKE__{name}": value for name, value in values.items()}
    assert load_settings(None, variables).destinations["data-lake"].chains == [1764, 1765]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": '"ftp"'}, "destinations.acme.kind must be one of"),
        ({"bucket": '"UPPER"'}, "destinations.acme.bucket must be text that matches"),
        ({"chains": "[]"}, "destinations.acme.chains must be a list of whole numbers, at least one"),
        ({"chains": "1764"}, "destinations.acme.chains must be a list of whole numbers, at least one"),
        ({"chains": "[1, 2]"}, "prefix must hold {chain} where several chains may name the destination"),
        ({"prefix": '"../up"'}, "prefix must be like exports/{chain}"),
        ({"prefix": '"a//b"'}, "prefix must be like exports/{chain}"),
        ({"prefix": '"{task}"'}, "prefix must be like exports/{chain}"),
        ({"bukket": '"x"'}, "[destinations.acme] has no setting 'bukket'; did you mean bucket?"),
    ],
)
def test_what_cannot_be_is_said_with_what_would_be_right(changes: dict[str, str], said: str) -> None:
    [detail] = faults(GCS | changes)
    assert said in detail


S3 = GCS | {"kind": '"s3"'}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (S3 | {"credentials_file": '"x.json"'}, "credentials_file must be left out where kind is s3"),
        (GCS | {"region": '"x"', "profile": '"y"'}, "profile, region must be left out where kind is gcs"),
        (S3 | {"access_key_id": '"x"'}, "access_key_id and secret_access_key must be set together"),
        (
            S3 | {"access_key_id": '"x"', "secret_access_key": '"hunter2"', "profile": '"y"'},
            "profile must be left out where access_key_id is set",
        ),
    ],
)
def test_what_is_of_the_other_kind_or_half_is_refused_without_its_value(members: dict[str, str], said: str) -> None:
    [detail] = faults(members)
    assert said in detail
    assert "hunter2" not in detail


def test_a_secret_may_come_from_a_file_and_is_never_shown() -> None:
    Path("secret").write_text("hunter2\n")
    variables = {"TASKS_DESTINATIONS__ACME__SECRET_ACCESS_KEY_FILE": "secret"}
    settings = load_settings(written(S3 | {"access_key_id": '"x"'}), variables)
    secret = settings.destinations["acme"].secret_access_key
    assert secret is not None
    assert secret.get_secret_value() == "hunter2"
    assert "hunter2" not in config_example.show(settings)


def test_a_secret_of_one_that_variables_alone_describe_may_come_from_a_file_too() -> None:
    Path("secret").write_text("hunter2\n")
    values = {"KIND": "s3", "BUCKET": "acme-exports", "CHAINS": "1", "ACCESS_KEY_ID": "x"}
    variables = {f"TASKS_DESTINATIONS__ACME__{name}": value for name, value in values.items()}
    settings = load_settings(None, variables | {"TASKS_DESTINATIONS__ACME__SECRET_ACCESS_KEY_FILE": "secret"})
    assert settings.destinations["acme"].secret_access_key is not None


@pytest.mark.parametrize("missing", list(GCS))
def test_what_is_missing_is_named(missing: str) -> None:
    [detail] = faults({name: value for name, value in GCS.items() if name != missing})
    assert detail.startswith(f"destinations.acme.{missing} must be set: ")


def test_a_name_is_lower_case_letters_digits_and_hyphens() -> None:
    path = Path("config.toml")
    path.write_text('[destinations."Acme Inc"]\nkind = "gcs"\nbucket = "acme"\nchains = [1]\n')
    with pytest.raises(ConfigurationError, match="'Acme Inc' cannot name a destination: lower-case letters"):
        load_settings(path, {})


def test_shown_settings_hold_destinations() -> None:
    shown: dict[str, Any] = tomllib.loads(config_example.show(load_settings(written(GCS), {})))
    assert shown["destinations"]["acme"]["bucket"] == "acme-exports"


def test_the_example_without_its_comment_signs_is_one() -> None:
    lines = config_example.example().splitlines()
    start = lines.index("# [destinations.acme]")
    settings = [line.removeprefix("# ") for line in lines[start:] if " = " in line or "[" in line[:3]]
    path = Path("config.toml")
    path.write_text("\n".join(settings))
    assert load_settings(path, {}).destinations.keys() == {"acme"}
