"""Loading settings: what wins, what is refused, and in which words."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr

from tasks_service import config_example
from tasks_service.config import DatabaseSettings, ElasticsearchSettings, Settings, default_indices, every_setting
from tasks_service.config_loading import load_settings
from tasks_service.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds the config.toml of whoever runs it."""
    monkeypatch.chdir(tmp_path)


def written(text: str, name: str = "config.toml") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path | None = None, environ: Mapping[str, str] | None = None) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, environ or {})
    return caught.value


def test_nothing_configured_is_the_defaults() -> None:
    assert load_settings(None, {"PATH": "/bin"}) == Settings()


def test_the_file_is_the_named_one_else_that_of_the_variable_else_the_one_in_place() -> None:
    written("[web]\nport = 1")
    second = written("[web]\nport = 2", "second.toml")
    third = written("[web]\nport = 3", "third.toml")
    environ = {"TASKS_CONFIG": str(second)}
    assert load_settings(None, {}).web.port == 1
    assert load_settings(None, environ).web.port == 2
    assert load_settings(third, environ).web.port == 3


def test_a_variable_overrides_the_file_which_overrides_the_default() -> None:
    path = written('[web]\nport = 1\nthreads = 3\n[service]\nlog_level = "debug"')
    settings = load_settings(path, {"TASKS_WEB__PORT": "9000", "TASKS_ELASTICSEARCH__REFRESH": "false"})
    assert (settings.web.port, settings.web.threads, settings.web.workers) == (9000, 3, 1)
    assert settings.service.log_level == "debug"
    assert settings.elasticsearch.refresh is False


@pytest.mark.parametrize("text", ['["http://a:1", "http://b:2"]', "http://a:1, http://b:2"])
def test_a_list_in_a_variable_is_json_or_separated_by_commas(text: str) -> None:
    assert load_settings(None, {"TASKS_ELASTICSEARCH__URLS": text}).elasticsearch.urls == ["http://a:1", "http://b:2"]


def test_an_empty_variable_means_not_set_where_a_setting_may_be_unset() -> None:
    assert load_settings(written('[gcs]\nbucket = "b"'), {"TASKS_GCS__BUCKET": ""}).gcs.bucket is None


def test_a_secret_may_come_from_a_file_without_its_line_break() -> None:
    path = written("s3cret\n", "key")
    settings = load_settings(None, {"TASKS_ELASTICSEARCH__API_KEY_FILE": str(path)})
    assert settings.elasticsearch.api_key == SecretStr("s3cret")


def test_every_secret_may_come_from_a_file() -> None:
    secrets = [setting for setting in every_setting() if setting.secret]
    assert {setting.key for setting in secrets} >= {"service.secret_key", "database.url", "elasticsearch.password"}
    values = {"database.url": "sqlite:///elsewhere.db", "metrics.token": "x" * 32}
    for setting in secrets:
        value = values.get(setting.key, "x")
        path = written(value, "secret")
        settings = read_alone(setting.path, {f"{setting.variable}_FILE": str(path)})
        assert settings == value, setting.key


def test_a_scrapers_token_cannot_be_guessed() -> None:
    with pytest.raises(ConfigurationError, match=r"TASKS_METRICS__TOKEN: metrics\.token must have 32 characters"):
        load_settings(None, {"TASKS_METRICS__TOKEN": "x" * 31})


def read_alone(path: tuple[str, ...], environ: Mapping[str, str]) -> str:
    """The value that reached the setting; a half of a pair is refused later, after it was read."""
    if path[0] == "elasticsearch" and path[1] == "password":
        environ = {**environ, "TASKS_ELASTICSEARCH__USERNAME": "u"}
    section = getattr(load_settings(None, environ), path[0])
    return getattr(section, path[1]).get_secret_value()


# -- indices ------------------------------------------------------------------------------------------------------


def test_without_indices_there_are_six() -> None:
    assert list(load_settings(None, {}).indices) == [
        "transactions",
        "users",
        "vouchers",
        "wallet-ledger",
        "products",
        "product-variants",
    ]


def test_indices_of_the_file_replace_the_six() -> None:
    path = written('[indices.returns]\nfile_prefix = "Return"\nsource = "returns-2026"')
    assert list(load_settings(path, {}).indices) == ["returns"]


def test_a_variable_changes_one_of_the_six_and_leaves_the_others() -> None:
    indices = load_settings(None, {"TASKS_INDICES__WALLET_LEDGER__SOURCE": "ledger"}).indices
    assert indices["wallet-ledger"].source == "ledger"
    assert indices["wallet-ledger"].file_prefix == "Wallet"
    assert indices.keys() == default_indices().keys()


def test_variables_alone_describe_a_new_index() -> None:
    environ = {
        "TASKS_INDICES__RETURN_LINES__SOURCE": "returns",
        "TASKS_INDICES__RETURN_LINES__FILE_PREFIX": "Return",
        "TASKS_INDICES__RETURN_LINES__TYPES": '{"note": "text"}',
    }
    index = load_settings(None, environ).indices["return-lines"]
    assert (index.source, index.types) == ("returns", {"note": "text"})


def test_one_variable_may_hold_all_indices_as_json() -> None:
    path = written('[indices.returns]\nfile_prefix = "Return"\nsource = "returns"')
    text = '{"goods": {"file_prefix": "Good", "source": "goods"}}'
    environ = {"TASKS_INDICES": text, "TASKS_INDICES__GOODS__CHAIN_FIELD": "chain"}
    indices = load_settings(path, environ).indices
    assert list(indices) == ["goods"]
    assert indices["goods"].chain_field == "chain"
    wrong = refused(path, {"TASKS_INDICES": text.replace("file_prefix", "file_prefiks")})
    assert wrong.faults[0].pointer == "TASKS_INDICES"
    assert "did you mean file_prefix?" in wrong.detail
    assert "TASKS_INDICES: must be a JSON object" in refused(path, {"TASKS_INDICES": "[1]"}).detail


# -- faults -------------------------------------------------------------------------------------------------------

MISSPELT_KEYS = [
    ("[web]\nprot = 1", "[web] has no setting 'prot'; did you mean port?"),
    ("[wbe]\nport = 1", "no section or setting 'wbe'; did you mean [web]?"),
    ("port = 1", "no section or setting 'port'; did you mean port in [web]?"),
    ("web = 1", "web is a section: write [web]"),
    ("[indices.products]\nsorce = 'x'", "[indices.products] has no setting 'sorce'; did you mean source?"),
    ("[indices]\nproducts = 'x'", "indices.products is a section: write [indices.products]"),
    ("[local]\nxyz = 1", "[local] has no setting 'xyz'; there are directory."),
]


@pytest.mark.parametrize(("text", "said"), MISSPELT_KEYS)
def test_a_misspelt_key_is_named_with_its_file_and_the_nearest_right_one(text: str, said: str) -> None:
    error = refused(written(text))
    assert error.faults[0].pointer == "config.toml"
    assert said in error.faults[0].detail


MISSPELT_VARIABLES = [
    ("TASKS_WEB__PROT", "TASKS_WEB__PORT"),
    ("TASKS_WEB_PORT", "TASKS_WEB__PORT"),
    ("TASKS_web__port", "TASKS_WEB__PORT"),
    ("TASKS_CONFG", "TASKS_CONFIG"),
    ("TASKS_INDICES__PRODUCTS__COLUMS", "TASKS_INDICES__PRODUCTS__COLUMNS"),
    ("TASKS_ELASTICSEARCH__APIKEY", "TASKS_ELASTICSEARCH__API_KEY"),
    ("TASKS_ELASTICSEARCH__APIKEY_FILE", "TASKS_ELASTICSEARCH__API_KEY_FILE"),
    ("TASKS_DATABASE__URI", "TASKS_DATABASE__URL"),
]


@pytest.mark.parametrize(("name", "right"), MISSPELT_VARIABLES)
def test_a_misspelt_variable_is_named_with_the_nearest_right_one(name: str, right: str) -> None:
    error = refused(environ={name: "hunter2"})
    assert [(fault.pointer, fault.code) for fault in error.faults] == [(name, "unknown_variable")]
    assert f"did you mean {right}?" in error.detail
    assert "hunter2" not in error.detail


def test_a_variable_like_no_other_is_told_where_all_are() -> None:
    assert "tasks-service config example" in refused(environ={"TASKS_QQQQQQ": "1"}).detail


INVALID = [
    ("TASKS_WEB__PORT", "eighty", "web.port must be a whole number from 0 to 65535."),
    ("TASKS_WEB__PORT", "70000", "web.port must be a whole number from 0 to 65535."),
    ("TASKS_SERVICE__LOG_LEVEL", "loud", "service.log_level must be one of debug, info, warning, error."),
    ("TASKS_ELASTICSEARCH__REFRESH", "perhaps", "elasticsearch.refresh must be true or false."),
    ("TASKS_WORKER__LEASE_SECONDS", "0", "worker.lease_seconds must be a number above 0."),
    ("TASKS_GCS__CHUNK_BYTES", "300000", "gcs.chunk_bytes must be a whole number from 262144 in steps of 262144."),
    ("TASKS_ELASTICSEARCH__URLS", "[", "elasticsearch.urls must be a list of texts, written as JSON."),
    ("TASKS_STORAGE__PREFIX", "/x", "storage.prefix must be text that matches"),
    (
        "TASKS_DATABASE__URL",
        "mysql://u:hunter2@h/d",
        "database.url must start with sqlite:/// or postgresql+psycopg://",
    ),
    ("TASKS_SERVICE__PUBLIC_URL", "example.com", "service.public_url must be like https://exports.example.com"),
    ("TASKS_INDICES__PRODUCTS__TYPES", '{"a": "number"}', "indices.products.types must be a table from column to"),
]


@pytest.mark.parametrize(("name", "value", "said"), INVALID)
def test_an_invalid_value_is_named_with_what_would_be_right_and_is_not_shown(name: str, value: str, said: str) -> None:
    error = refused(environ={name: value})
    assert [fault.pointer for fault in error.faults] == [name]
    assert said in error.detail
    assert "hunter2" not in error.detail


def test_an_invalid_value_of_the_file_is_named_with_the_file() -> None:
    error = refused(written('[elasticsearch]\nurls = ["http://a", 3]'))
    assert [fault.pointer for fault in error.faults] == ["config.toml"]
    assert "elasticsearch.urls must be a list of texts." in error.detail


def test_every_fault_is_told_at_once() -> None:
    path = written('[web]\nprot = 1\nport = "x"\n[indices.products]\nfile_prefix = "P"\n[storge]\nkind = "gcs"')
    environ = {
        "TASKS_WEB__TREADS": "1",
        "TASKS_WORKER__PROCESSES": "0",
        "TASKS_ELASTICSEARCH__API_KEY_FILE": "/nowhere/key",
    }
    error = refused(path, environ)
    assert {(fault.pointer, fault.code) for fault in error.faults} == {
        ("config.toml", "unknown_setting"),
        ("config.toml", "invalid_setting"),
        ("TASKS_WEB__TREADS", "unknown_variable"),
        ("TASKS_WORKER__PROCESSES", "invalid_setting"),
        ("TASKS_ELASTICSEARCH__API_KEY_FILE", "unreadable"),
    }
    assert len(error.faults) == 7
    assert error.detail.startswith("The configuration has 7 faults:\n")
    assert error.detail.count("\n") == 7


def test_a_missing_key_of_a_new_index_is_named_and_may_be_a_misspelt_index() -> None:
    error = refused(environ={"TASKS_INDICES__PRODUCTSS__SOURCE": "p"})
    assert "indices.productss.file_prefix must be set" in error.detail
    assert "did you mean the index products?" in error.detail


def test_an_index_that_cannot_be_named_so_is_told_how_names_are() -> None:
    error = refused(written('[indices.My_Index]\nfile_prefix = "P"\nsource = "p"'))
    assert "'My_Index' cannot name an index: lower-case letters, digits and hyphens" in error.detail


CLASHES = [
    ("[storage]\nkind = 'gcs'", "gcs.bucket must be set where storage.kind is gcs."),
    (
        "[executor]\nkind = 'procrastinate'",
        "executor.kind = procrastinate needs PostgreSQL: set database.url to postgresql+psycopg://",
    ),
    ("[worker]\nheartbeat_seconds = 50", "heartbeat_seconds must be at most half of lease_seconds."),
    ("[elasticsearch]\nusername = 'u'", "elasticsearch.username and elasticsearch.password must be set together."),
    ("[indices]", "at least one index must be configured"),
]


@pytest.mark.parametrize(("text", "said"), CLASHES)
def test_settings_that_clash_are_told(text: str, said: str) -> None:
    assert said in refused(written(text)).detail


UNREADABLE = [
    ("[web\nport = 1", "not valid TOML"),
    ("a = 'hunter2\nb = 1", "not valid TOML"),
]


@pytest.mark.parametrize(("text", "said"), UNREADABLE)
def test_a_file_that_is_not_toml_is_told_where(text: str, said: str) -> None:
    error = refused(written(text))
    assert said in error.detail
    assert "(at " in error.detail
    assert "hunter2" not in error.detail


def test_a_file_that_is_not_there_is_told_with_who_named_it() -> None:
    assert refused(Path("none.toml")).detail.startswith("--config: cannot read the file none.toml")
    assert refused(environ={"TASKS_CONFIG": "none.toml"}).faults[0].pointer == "TASKS_CONFIG"
    Path("bytes.toml").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in refused(Path("bytes.toml")).detail


def test_a_secret_given_twice_or_empty_is_refused() -> None:
    path = written("x", "key")
    both = {"TASKS_SERVICE__SECRET_KEY": "y", "TASKS_SERVICE__SECRET_KEY_FILE": str(path)}
    assert "TASKS_SERVICE__SECRET_KEY is set as well" in refused(environ=both).detail
    empty = written("\n", "empty")
    assert "is empty" in refused(environ={"TASKS_SERVICE__SECRET_KEY_FILE": str(empty)}).detail


# -- written out --------------------------------------------------------------------------------------------------


def test_the_example_holds_every_setting_with_a_line_on_it_and_loads_as_the_defaults() -> None:
    text = config_example.example()
    assert load_settings(written(text), {}) == Settings()
    lines = text.splitlines()
    for setting in every_setting():
        place = next(n for n, line in enumerate(lines) if line == f"[{setting.path[0]}]")
        section = lines[place:]
        end = section.index("") if "" in section else len(section)
        names = [line.removeprefix("# ").split(" ")[0] for line in section[:end]]
        assert setting.path[-1] in names, setting.key
        assert setting.field.description, setting.key
        assert section[names.index(setting.path[-1]) - 1].startswith("# "), setting.key


def test_the_repository_holds_the_example_as_it_is_made() -> None:
    assert (ROOT / "config.example.toml").read_text(encoding="utf-8") == config_example.example(), "run `make docs`"


def test_shown_settings_hold_no_secret() -> None:
    url = "postgresql+psycopg://user:hunter2@db.example/tasks?password=hunter2"
    settings = Settings(
        database=DatabaseSettings(url=SecretStr(url)),
        elasticsearch=ElasticsearchSettings.model_validate({"urls": ["http://u:hunter2@es"], "api_key": "hunter2"}),
    )
    text = config_example.show(settings)
    assert "hunter2" not in text
    shown = tomllib.loads(text)
    assert shown["database"]["url"] == "postgresql+psycopg://***@db.example/tasks"
    assert shown["elasticsearch"]["api_key"] == "***"
    assert shown["web"]["port"] == 8080
    assert set(shown["indices"]) == set(default_indices())


def test_a_chain_runs_ten_and_queues_a_thousand_unless_told_otherwise() -> None:
    limits = Settings().limits
    assert (limits.running_per_chain, limits.queued_per_chain) == (10, 1000)
