"""Loading: one TOML file and the environment become `Settings`, or one error that names every fault.

What lives here: finding the file, reading variables and secret files, and naming what is misspelt or invalid
and what would be right. pydantic-settings merges the sources and validates. What does not: the settings
themselves (config.py). Called by cli/ at the start of every process. Precedence, highest first: variables
(`TASKS_WEB__PORT`) and the secret files they name (`TASKS_DATABASE__URL_FILE`), the TOML file, defaults. No
fault ever shows a value: it may be a secret.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, Literal, cast, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from tasks_service.config import Setting, Settings, default_indices, every_setting
from tasks_service.config_named import NAMED
from tasks_service.errors import ConfigurationError, Fault

PATH_VARIABLE = "TASKS_CONFIG"
INDICES_VARIABLE = "TASKS_INDICES"
DEFAULT_PATH = Path("config.toml")
_PREFIX = "TASKS_"
_FEW = 20  # names that are worth listing in an error
_THINGS = {"indices": "an index", "destinations": "a destination"}
_WORDS: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}

Keys = tuple[str, ...]
"""The path to a value in nested tables, e.g. ("web", "port")."""

Names = dict[str, tuple[str, ...]]
"""The names an operator gave in each of the named sections, e.g. {"indices": ("products",)}."""


@dataclass
class Reading:
    """What one source says: nested values, where each was found, and what is wrong with it."""

    values: dict[str, Any] = field(default_factory=dict[str, Any])
    origins: dict[Keys, str] = field(default_factory=dict[Keys, str])
    faults: list[Fault] = field(default_factory=list[Fault])

    def put(self, path: Keys, value: object, origin: str) -> None:
        """Set a value."""
        table = self.values
        for key in path[:-1]:
            table = table.setdefault(key, {})
        table[path[-1]] = value
        self.origins[path] = origin

    def fault(self, origin: str, code: str, detail: str) -> None:
        """Record a fault."""
        self.faults.append(Fault(origin, code, detail))


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the configuration.

    Args:
        path: the file named on the command line; None: the one `TASKS_CONFIG` names, else ./config.toml if
            there is one.
        environ: the environment, `os.environ` but in tests.

    Raises:
        ConfigurationError: its `faults` are all there are, each with the file or variable as its pointer.
    """
    file = read_file(*_choose(path, environ))
    if environ.get(INDICES_VARIABLE):
        _replace_indices(file, environ[INDICES_VARIABLE])
    names: Names = {section: tuple(file.values.get(section, ())) for section in NAMED}
    names["indices"] = names["indices"] or tuple(default_indices())
    variables = read_variables(environ, names)
    fallback = Reading()
    if "indices" not in file.values:
        # A variable then changes one of the six, rather than replacing them all by a half-described one.
        fallback.values["indices"] = {name: index.model_dump() for name, index in default_indices().items()}
    faults = [*file.faults, *variables.faults]
    settings = None
    try:
        settings = _merge(variables.values, file.values, fallback.values)
    except ValidationError as error:
        origins = {**file.origins, **variables.origins}
        details = error.errors(include_url=False, include_input=False)
        faults += [_invalid(detail, origins, names) for detail in details]
    if settings is None or faults:
        raise _error(faults)
    return settings


def _choose(path: Path | None, environ: Mapping[str, str]) -> tuple[Path | None, str]:
    """Return the file to read and the name to blame where it cannot be read."""
    if path is not None:
        return path, "--config"
    if environ.get(PATH_VARIABLE):
        return Path(environ[PATH_VARIABLE]), PATH_VARIABLE
    return (DEFAULT_PATH if DEFAULT_PATH.exists() else None), str(DEFAULT_PATH)


def _merge(*sources: dict[str, Any]) -> Settings:
    """Merge nested values, the first source on top, and validate. Raises pydantic's ValidationError."""

    class Loaded(Settings, BaseSettings):
        @classmethod
        def settings_customise_sources(  # its own sources are left out: ours name what is misspelt
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return tuple(InitSettingsSource(settings_cls, values) for values in sources)

    loaded = Loaded()
    return Settings(**{name: getattr(loaded, name) for name in Settings.model_fields})


# -- the file -----------------------------------------------------------------------------------------------


def read_file(path: Path | None, blame: str) -> Reading:
    """Read a TOML file; keys that are no settings become faults and are left out."""
    reading = Reading()
    if path is None:
        return reading
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reading.fault(blame, "unreadable", f"cannot read the file {path}: {error.strerror}.")
    except UnicodeDecodeError:
        reading.fault(str(path), "not_toml", "the file is not UTF-8 text.")
    except tomllib.TOMLDecodeError as error:
        reading.fault(str(path), "not_toml", f"the file is not valid TOML: {error}.")
    else:
        for section, value in document.items():
            _read_section(reading, str(path), section, value)
    return reading


def _read_section(reading: Reading, file: str, section: str, value: object) -> None:
    known = tuple(Settings.model_fields)
    if section not in known:
        homeless = {setting.path[-1]: f"{setting.path[-1]} in [{setting.path[0]}]" for setting in every_setting()}
        names = {name: f"[{name}]" for name in known} if isinstance(value, dict) else homeless
        hint = _did_you_mean(section, names, shown=names.__getitem__)
        reading.fault(file, "unknown_setting", f"there is no section or setting {section!r}; {hint}")
    elif not isinstance(value, dict):
        reading.fault(file, "invalid_setting", f"{section} is a section: write [{section}] and its settings below.")
    elif section in NAMED:
        reading.values[section] = {}
        for name, settings in cast("dict[str, Any]", value).items():
            if isinstance(settings, dict):
                reading.values[section][name] = {}
                _read_table(reading, file, (section, name), cast("dict[str, Any]", settings))
            else:
                detail = f"{section}.{name} is a section: write [{section}.{name}] and its settings below."
                reading.fault(file, "invalid_setting", detail)
    else:
        _read_table(reading, file, (section,), cast("dict[str, Any]", value))


def _read_table(reading: Reading, file: str, path: Keys, table: dict[str, Any]) -> None:
    known = {s.path[-1]: s for s in every_setting({path[0]: path[1:]}) if s.path[:-1] == path}
    reading.origins[path] = file
    for key, value in table.items():
        if key in known:
            reading.put((*path, key), value, file)
        else:
            hint = _did_you_mean(key, known)
            reading.fault(file, "unknown_setting", f"[{'.'.join(path)}] has no setting {key!r}; {hint}")


# -- the environment ----------------------------------------------------------------------------------------


def read_variables(environ: Mapping[str, str], names: Names) -> Reading:
    """Read the variables; the ones that are no settings become faults.

    A variable may describe an index or a destination that no file names: `TASKS_INDICES__RETURN_LINES__SOURCE` is the
    source of `return-lines`, for a variable's name holds no hyphen.
    """
    reading = Reading()
    known = {setting.variable: setting for setting in every_setting(names)}
    files = {f"{variable}_FILE": setting for variable, setting in known.items() if setting.secret}
    for variable in sorted(name for name in environ if name.startswith(_PREFIX)):
        if variable in {PATH_VARIABLE, INDICES_VARIABLE}:
            continue
        setting = known.get(variable) or _of_new_name(variable)
        secret = files.get(variable) or _of_new_name(variable.removesuffix("_FILE"))
        if setting is not None:
            _read_variable(reading, setting, variable, environ[variable])
        elif secret is not None and secret.secret:
            _read_secret(reading, secret, variable, environ)
        else:
            offered = [*known, *files, PATH_VARIABLE, INDICES_VARIABLE]
            reading.fault(variable, "unknown_variable", f"there is no such setting; {_did_you_mean(variable, offered)}")
    return reading


def _replace_indices(file: Reading, text: str) -> None:
    """Take all indices from one variable, a JSON object like the file's [indices], in the place of the file's."""
    file.values.pop("indices", None)
    file.origins = {path: origin for path, origin in file.origins.items() if path[0] != "indices"}
    try:
        indices = json.loads(text)
    except ValueError:
        indices = None
    if isinstance(indices, dict):
        _read_section(file, INDICES_VARIABLE, "indices", cast("object", indices))
    else:
        detail = 'must be a JSON object, e.g. {"products": {"file_prefix": "Product", "source": "products"}}.'
        file.fault(INDICES_VARIABLE, "invalid_setting", detail)


def _of_new_name(variable: str) -> Setting | None:
    match variable.removeprefix(_PREFIX).lower().split("__"):
        case [section, name, key] if name and section in NAMED and key in NAMED[section].model_fields:
            return Setting((section, name.replace("_", "-"), key), NAMED[section].model_fields[key])
        case _:
            return None


def _read_variable(reading: Reading, setting: Setting, variable: str, text: str) -> None:
    annotation = setting.field.annotation
    kind = get_origin(annotation)
    value: object = text
    if not text and type(None) in get_args(annotation):
        value = None  # an empty variable is how many tools write "not set"
    elif kind is dict or (kind is list and text.lstrip().startswith("[")):
        try:
            value = json.loads(text)
        except ValueError:
            reading.fault(variable, "invalid_setting", f"{setting.key} must be {wanted(setting)}, written as JSON.")
            return
    elif kind is list:
        value = [part.strip() for part in text.split(",") if part.strip()]
    reading.put(setting.path, value, variable)


def _read_secret(reading: Reading, setting: Setting, variable: str, environ: Mapping[str, str]) -> None:
    """Read a secret from the file a variable names; the line break at its end is not part of it."""
    if environ.get(setting.variable):
        detail = f"{setting.variable} is set as well; set one of the two."
        reading.fault(variable, "invalid_setting", detail)
        return
    path = Path(environ[variable])
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        reading.fault(variable, "unreadable", f"cannot read the file {path}: {error.strerror}.")
    except UnicodeDecodeError:
        reading.fault(variable, "unreadable", f"the file {path} is not UTF-8 text.")
    else:
        if text:
            reading.put(setting.path, text, variable)
        else:
            reading.fault(variable, "unreadable", f"the file {path} is empty; it should hold {setting.key}.")


# -- faults -------------------------------------------------------------------------------------------------


def _did_you_mean(name: str, known: Iterable[str], shown: Callable[[str], str] = str) -> str:
    names = list(known)
    by_case = {other.lower(): other for other in names}
    # Variables share their first letters, so that they are alike sooner.
    cutoff = 0.75 if name.startswith(_PREFIX) else 0.6
    if near := get_close_matches(name.lower(), by_case, n=1, cutoff=cutoff):
        return f"did you mean {shown(by_case[near[0]])}?"
    if len(names) > _FEW:
        return "`tasks-service config example` prints every setting."
    return f"there are {', '.join(map(shown, names))}."


def _invalid(error: ErrorDetails, origins: Mapping[Keys, str], names: Names) -> Fault:
    """Turn one of pydantic's errors into a fault: where the value came from, and what would be right."""
    path = tuple(str(part) for part in error["loc"])
    origin = next((origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in origins), None)
    known = {setting.path: setting for setting in every_setting({path[0]: path[1:2]} if path else {})}
    setting = next((known[path[:n]] for n in range(len(path), 0, -1) if path[:n] in known), None)
    own_words = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    thing = _THINGS.get(path[0], "") if path else ""
    if thing and path[-1:] == ("[key]",):
        detail = f"{path[1]!r} cannot name {thing}: lower-case letters, digits and hyphens, a letter first."
    elif setting is not None and error["type"] == "missing":
        near = get_close_matches(path[1], [name for name in names[path[0]] if name != path[1]], n=1)
        hint = f"; or did you mean the {thing.split()[-1]} {near[0]}?" if near else "."
        origin = origin or next((name for where, name in origins.items() if where[:2] == path[:2]), None)
        detail = f"{setting.key} must be set: {wanted(setting)}{hint}"
    elif setting is not None and error["type"] != "value_error":
        detail = f"{setting.key} must be {wanted(setting)}."
    else:
        detail = f"{'.'.join(path)}: {own_words}." if path and path[0] not in own_words else f"{own_words}."
    return Fault(origin or "configuration", "invalid_setting", detail)


def _error(faults: list[Fault]) -> ConfigurationError:
    lines = [f"{fault.pointer}: {fault.detail}" for fault in faults]
    if len(lines) == 1:
        return ConfigurationError(lines[0], faults=faults)
    return ConfigurationError("\n".join([f"The configuration has {len(lines)} faults:", *lines]), faults=faults)


def wanted(setting: Setting) -> str:
    """Say in words what a setting takes: `a whole number from 0 to 65535`."""
    kinds = [kind for kind in get_args(setting.field.annotation) or (setting.field.annotation,) if kind is not NoneType]
    origin = get_origin(setting.field.annotation)
    if origin is Literal:
        return f"one of {', '.join(map(str, kinds))}"
    if origin is list:
        return "a list of whole numbers, at least one" if kinds == [int] else "a list of texts"
    if origin is dict:
        return "a table from column to keyword, text or date"
    pattern = next((rule.pattern for rule in setting.field.metadata if getattr(rule, "pattern", None)), None)
    words = _WORDS.get(cast("Any", kinds[0]), "text")
    return words + (f" that matches {pattern}" if pattern else _bounds(setting.field.metadata))


def _bounds(rules: list[Any]) -> str:
    found = {
        name: getattr(rule, name)
        for rule in rules
        for name in ("ge", "gt", "le", "lt", "multiple_of")
        if getattr(rule, name, None) is not None
    }
    texts = {
        "ge": "from {}",
        "gt": "above {}",
        "le": "to {}",
        "lt": "below {}",
        "multiple_of": "in steps of {}",
    }
    if "le" in found and "ge" not in found:
        texts["le"] = "and at most {}"
    return "".join(f" {text.format(found[name])}" for name, text in texts.items() if name in found)
