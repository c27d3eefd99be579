"""From a configuration to objects: `_target_` names a class or function of this package, nothing else.

Configurations travel in checkpoints, and a checkpoint may come from anybody. So, unlike Hydra's own
`instantiate`, this reaches no name outside `anomaly_gan` and of methods that are installed and registered
(`outside.py`), and checks the kind of every plain value.
"""

import importlib
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union

from anomaly_gan import outside
from anomaly_gan.errors import UserError, nearest

PACKAGE = "anomaly_gan"

METHODS = "methods"
"""The part of the package that installed packages may add to."""


def build(config: Any, path: str, parts: tuple[str, ...], **extra: Any) -> Any:
    """The object that `config` describes.

    Args:
        config: plain containers. A mapping with `_target_` becomes a call of that class or function with the
            mapping's other entries (themselves built) as keyword arguments; all else stays as it is.
        path: where `config` sits in the whole configuration ("data"), for messages.
        parts: the parts of the package whose names may be built ("data"), and no others.
        extra: further keyword arguments of the outermost call.

    Raises:
        UserError: a target outside those parts, an unknown argument, or a value of the wrong kind.
    """
    if isinstance(config, Mapping):
        if "_target_" not in config:
            return {key: build(value, f"{path}.{key}", parts) for key, value in config.items()}
        target = _resolve(config["_target_"], path, parts)
        given = {
            key: build(value, f"{path}.{key}", parts) for key, value in config.items() if key != "_target_"
        }
        _check(target, given | extra, path)
        return target(**given, **extra)
    if isinstance(config, list | tuple):
        return [build(value, f"{path}.{index}", parts) for index, value in enumerate(config)]
    return config


def build_a(kind: type, config: Any, path: str, parts: tuple[str, ...], **extra: Any) -> Any:
    """The same, where only one kind of object is of use.

    Raises:
        UserError: as `build`, or `config` describes something else.
    """
    found = build(config, path, parts, **extra)
    if not isinstance(found, kind):
        said = "null" if config is None else config
        raise UserError(f"{path}={said}: expected a block of settings whose _target_ makes a {kind.__name__}")
    return found


def _resolve(name: Any, path: str, parts: tuple[str, ...]) -> Any:
    module, _, attribute = str(name).rpartition(".")
    allowed = [f"{PACKAGE}.{part}" for part in parts]
    if METHODS in parts:
        allowed += outside.modules()
    if not any(f"{module}.".startswith(f"{part}.") for part in allowed):
        raise UserError(f"{path}._target_={name!r}: only names of {', '.join(allowed)} can be built here")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as missing:
        raise UserError(f"{path}._target_={name!r}: there is no such class or function") from missing
    # What a module merely imports (os, subprocess, torch.load) is not its own.
    if not (inspect.isclass(found) or inspect.isfunction(found)) or found.__module__ != module:
        raise UserError(f"{path}._target_={name!r}: not a class or function of that module")
    return found


def _check(target: Any, arguments: Mapping[str, Any], path: str) -> None:
    parameters = _parameters(target)
    for name, value in arguments.items():
        if name not in parameters:
            raise UserError(f"{path}.{name}: no such setting; {nearest(name, list(parameters))}")
        complaint = _complaint(value, parameters[name].annotation)
        if complaint:
            raise UserError(f"{name}={value}: {complaint}")  # as it is written, wherever it was interpolated
        _check_object(value, parameters[name].annotation, f"{path}.{name}")
    required = (name for name, parameter in parameters.items() if parameter.default is parameter.empty)
    missing = [f"{path}.{name}=..." for name in required if name not in arguments]
    if missing:
        raise UserError(f"{path}: needs {', '.join(missing)}")


def _check_object(value: Any, annotation: Any, path: str) -> None:
    """Refuse null, or a plain value, where `annotation` wants an object, or a mapping to objects."""
    for option in _options(annotation):
        if typing.get_origin(option) is Mapping and isinstance(value, Mapping):
            for key, entry in value.items():
                _check_object(entry, typing.get_args(option)[1], f"{path}.{key}")
            return
    options = [typing.get_origin(option) or option for option in _options(annotation)]
    unknown = (Any, inspect.Parameter.empty)
    if any(option in unknown or not inspect.isclass(option) for option in options):
        return
    if set(options) <= PLAIN.keys() or isinstance(value, tuple(options)):
        return
    plain = [PLAIN[option] for option in options if option in PLAIN and option is not type(None)]
    words = (plain or ["a block of settings"]) + ["null"] * (type(None) in options)
    raise UserError(f"{path}={'null' if value is None else value}: expected {' or '.join(words)}")


def _options(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; of anything else, itself."""
    union = typing.get_origin(annotation) in (Union, types.UnionType)
    return typing.get_args(annotation) if union else (annotation,)


def _parameters(target: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a call; of a class, also those it hands on as **keywords to its bases."""
    classes = target.__mro__ if inspect.isclass(target) else ()
    calls = [vars(cls)["__init__"] for cls in classes if "__init__" in vars(cls)] or [target]
    found: dict[str, inspect.Parameter] = {}
    for call in calls:
        parameters = inspect.signature(call).parameters.values()
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        found = {p.name: p for p in named if p.name != "self"} | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}


def _complaint(value: Any, annotation: Any) -> str | None:
    """What is wrong with `value` for an `annotation` of plain types and literals; None if nothing is."""
    if typing.get_origin(annotation) is Sequence:
        if not isinstance(value, list | tuple):
            return "expected a list, such as [1, 2]"
        (item,) = typing.get_args(annotation)
        return next((complaint for v in value if (complaint := _complaint(v, item))), None)
    options = _options(annotation)
    literals = [option for option in options if typing.get_origin(option) is Literal]
    kinds = [option for option in options if option in PLAIN]
    if len(literals) + len(kinds) < len(options):
        return None  # not plain: an object, a list
    choices = [choice for literal in literals for choice in typing.get_args(literal)]
    # To Python true is a whole number, and a whole number is no float.
    accepted = tuple(kinds) + ((int,) if float in kinds else ())
    fits = isinstance(value, accepted) and (bool in kinds or not isinstance(value, bool))
    if fits or value in choices:
        return None
    if choices:
        return nearest(str(value), [str(choice) for choice in choices])
    return f"expected {' or '.join(PLAIN[kind] for kind in kinds)}"
