"""From the arguments of a call to those of a method: each converted to its annotation, or refused with its path."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Never, NoReturn, Union, get_args, get_origin
from uuid import UUID

import msgspec

from durable_shards.errors import DefinitionError, InvalidArguments
from durable_shards.fields import Scope, mentions_object
from durable_storage.values import name_of

Convert = Callable[[Any], Any]

_LEAVES = frozenset((bool, int, float, str, bytes, NoneType, datetime, date, time, timedelta, UUID, Decimal))
_NO_DEFAULT = inspect.Parameter.empty
_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY
_ANY_POSITIONAL = inspect.Parameter.VAR_POSITIONAL
_ANY_KEYWORD = inspect.Parameter.VAR_KEYWORD


def leaf_kinds(hint: Any) -> frozenset[type]:
    """The exact types of values that fit an annotation as they are."""
    if get_origin(hint) in (Union, UnionType):
        return frozenset().union(*map(leaf_kinds, get_args(hint)))
    if hint in _LEAVES or (isinstance(hint, type) and issubclass(hint, Enum)):
        return frozenset((hint,))
    return frozenset()


def converter(hint: Any) -> Convert | None:
    """A function that makes plain values what the annotation says; None where anything goes.

    msgspec compiles the type of a Struct once, but a bare type at each call: hence the Struct of one field. The
    function raises msgspec.ValidationError. Raises TypeError when values of this type cannot arrive over a wire.
    """
    if hint in (Any, object, _NO_DEFAULT, NoReturn, Never):
        return None
    if mentions_object(hint):
        raise TypeError(f"{name_of(hint)}: objects do not travel; pass the id (str)")
    foreign = _foreign(msgspec.inspect.type_info(hint), set())
    if foreign is not None:
        raise TypeError(f"{name_of(foreign)} cannot travel; use plain types, a dataclass or a msgspec.Struct")
    msgspec.msgpack.Decoder(hint)  # refuses unions whose members could not be told apart
    holder = msgspec.defstruct("It", [("it", hint)], array_like=True)
    convert = msgspec.convert

    def to_hint(value: Any) -> Any:
        return convert((value,), holder, str_keys=True).it  # type: ignore[attr-defined]

    return to_hint


def _foreign(info: Any, seen: set[int]) -> Any:
    """The first class in a type that msgspec knows nothing about."""
    if isinstance(info, msgspec.inspect.CustomType):
        return info.cls
    if id(info) in seen:
        return None
    seen.add(id(info))
    parts: Sequence[Any] = ()
    if isinstance(info, (list, tuple)):
        parts = info
    elif isinstance(info, (msgspec.inspect.Type, msgspec.inspect.Field)):
        parts = msgspec.structs.astuple(info)
    return next((found for part in parts if (found := _foreign(part, seen)) is not None), None)


class Parameter:
    """One parameter of a handler."""

    __slots__ = ("convert", "default", "kind", "kinds", "name", "text")

    def __init__(self, declared: inspect.Parameter, hint: Any) -> None:
        self.name = declared.name
        self.kind = declared.kind
        self.default = declared.default
        self.kinds: frozenset[type] | None = None
        """Exact types that need no conversion; None where anything goes."""
        self.convert = converter(hint)
        if self.convert is not None:
            self.kinds = leaf_kinds(hint)
        star = "*" if self.kind is _ANY_POSITIONAL else "**" if self.kind is _ANY_KEYWORD else ""
        shown = "" if hint is _NO_DEFAULT else f": {name_of(hint)}"
        equals = " = " if shown else "="
        self.text = f"{star}{self.name}{shown}"
        if self.default is not _NO_DEFAULT:
            self.text += f"{equals}{self.default!r}"

    def accept(self, value: Any, step: str = "") -> Any:
        """The value as the annotation says. Raises InvalidArguments with the path."""
        if self.kinds is None or type(value) in self.kinds:
            return value
        assert self.convert is not None
        try:
            return self.convert(value)
        except Exception as error:  # user code runs here: enums, __post_init__ of dataclasses
            said, _, where = (str(error) or type(error).__name__).replace("`", "").partition(" - at ")
            path = where.rpartition("$[0]")[2]
            said = said[:1].lower() + said[1:]
            raise InvalidArguments(f"argument {self.name}{step}{path}: {said}") from None


class ResultDecoder:
    """Makes of a result that arrived as plain values what the return annotation says.

    A result that does not fit its annotation is returned as it came: its turn is committed, and an error could
    tell the caller nothing better.
    """

    __slots__ = ("_convert", "kinds")

    def __init__(self, convert: Callable[[Any], Any] | None, kinds: frozenset[type]) -> None:
        self._convert = convert
        self.kinds = kinds
        """Exact types of values that are what they shall be: whoever is in a hurry looks here before it calls."""

    def __call__(self, value: Any) -> Any:
        if self._convert is None or type(value) in self.kinds:
            return value
        try:
            return self._convert(value)
        except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError):
            return value


class Signature:
    """The parameters of a handler after `self`, compiled."""

    def __init__(self, where: str, name: str, parameters: list[Parameter], returns: Any) -> None:
        self._where = where
        self._plain = [each for each in parameters if each.kind < _ANY_POSITIONAL]
        self._keyword_only = [each for each in parameters if each.kind is _KEYWORD_ONLY]
        self._rest = next((each for each in parameters if each.kind is _ANY_POSITIONAL), None)
        self._others = next((each for each in parameters if each.kind is _ANY_KEYWORD), None)
        self._kinds = [each.kinds for each in self._plain]
        defaults = [each.default for each in self._plain]
        self._tails = [
            None if _NO_DEFAULT in defaults[given:] else tuple(defaults[given:]) for given in range(len(defaults) + 1)
        ]
        """By the number of arguments given: the defaults of the others, or None when one has none."""
        self.simple = not (self._keyword_only or self._rest or self._others)
        """Whether bound arguments are positional throughout; else they are a tuple and a dict."""
        if not self.simple:
            self._tails = []
        self.decode_result = ResultDecoder(converter(returns), leaf_kinds(returns))
        self.parameters = parameters
        shown = "" if returns is _NO_DEFAULT else f" -> {name_of(returns)}"
        self.text = f"{name}({self._listed()}){shown}"

    def _listed(self) -> str:
        texts = [each.text for each in self.parameters]
        if self._keyword_only and self._rest is None:
            texts.insert(len(self._plain), "*")
        last = sum(each.kind is _POSITIONAL_ONLY for each in self._plain)
        if last:
            texts.insert(last, "/")
        return ", ".join(texts)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> tuple[Any, ...]:
        """What to call the method with after `self`. Raises InvalidArguments: the path, the problem, the signature."""
        given = len(args)
        if not kwargs and given < len(self._tails):
            tail = self._tails[given]
            for value, kinds in zip(args, self._kinds):  # noqa: B905 - defaults stand for the rest
                if kinds is not None and type(value) not in kinds:
                    break
            else:
                if tail is not None:
                    return (*args, *tail) if tail else tuple(args)
        try:
            return self._bind(args, kwargs or {})
        except InvalidArguments as error:
            raise InvalidArguments(f"{self._where}: {error.message}; its signature is {self.text}") from None

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        extra = args[len(self._plain) :]
        if extra and self._rest is None:
            count = "no positional arguments" if not self._plain else f"at most {len(self._plain)} positional"
            raise InvalidArguments(f"it takes {count}, not {len(args)}")
        left = dict(kwargs)
        bound = [
            self._take(each, args[index : index + 1], left, by_name=each.kind is not _POSITIONAL_ONLY)
            for index, each in enumerate(self._plain)
        ]
        by_name = {each.name: self._take(each, (), left) for each in self._keyword_only}
        if left and self._others is None:
            names = ", ".join(map(repr, left))
            raise InvalidArguments(f"it has no argument named {names}")
        if self.simple:
            return tuple(bound)
        if self._rest is not None:
            bound += [self._rest.accept(value, f"[{index}]") for index, value in enumerate(extra)]
        if self._others is not None:
            by_name |= {str(name): self._others.accept(value, f"[{name!r}]") for name, value in left.items()}
        return tuple(bound), by_name

    @staticmethod
    def _take(parameter: Parameter, given: Sequence[Any], left: dict[str, Any], *, by_name: bool = True) -> Any:
        """The value of one parameter: by position, by name, or its default."""
        name = parameter.name
        if by_name and name in left:
            if given:
                raise InvalidArguments(f"argument {name} is given twice, by position and by name")
            return parameter.accept(left.pop(name))
        if given:
            return parameter.accept(given[0])
        if parameter.default is _NO_DEFAULT:
            raise InvalidArguments(f"argument {name} is missing")
        return parameter.default


def read_signature(owner: type, name: str, function: Callable[..., Any], scope: Scope) -> Signature:
    """Compile the signature of a method. Raises DefinitionError, saying what to write instead."""
    where = f"{owner.__name__}.{name}"
    declared = inspect.signature(function)
    first, *rest = [*declared.parameters.values(), None]
    if first is None or first.name != "self" or first.kind is _KEYWORD_ONLY:
        names = ", ".join(("self", *(each for each in declared.parameters if each != "self")))
        raise DefinitionError(f"{where}: a handler's first parameter is self; write def {name}({names})")
    parameters: list[Parameter] = []
    for each in rest:
        if each is not None:
            hint = _hint(owner, f"{where}, argument {each.name}", each.annotation, function, scope)
            _check_default(f"{where}, argument {each.name}", each.default)
            parameters.append(_compiled(f"{where}, argument {each.name}", Parameter, each, hint))
    try:
        returns = _hint(owner, where, declared.return_annotation, function, scope)
    except DefinitionError:
        returns = Any  # often imported for type checkers only; results then stay as they arrive
    signature: Signature = _compiled(f"{where}, what it returns", Signature, where, name, parameters, returns)
    return signature


def _compiled(where: str, make: Callable[..., Any], *parts: Any) -> Any:
    try:
        return make(*parts)
    except (TypeError, NameError, AttributeError) as error:
        raise DefinitionError(f"{where}: {str(error).replace('`', '')}") from None


def _hint(owner: type, where: str, annotation: Any, function: Callable[..., Any], scope: Scope) -> Any:
    if annotation is _NO_DEFAULT:
        return annotation
    known = getattr(inspect.unwrap(function), "__globals__", None)
    try:
        return scope.resolve(owner, annotation, known)
    except (NameError, TypeError, SyntaxError, AttributeError) as error:
        advice = "define or import it above the class, outside of `if TYPE_CHECKING`"
        raise DefinitionError(f"{where}: the annotation {annotation!r} cannot be read: {error}; {advice}") from None


def _check_default(where: str, default: Any) -> None:
    if isinstance(default, (list, dict, set, bytearray)):
        advice = "take None as the default and make a fresh one inside"
        raise DefinitionError(f"{where}: all calls would share the mutable default {default!r}; {advice}")
