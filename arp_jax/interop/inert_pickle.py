"""A pickle as data: it is read opcode by opcode, and nothing that it names is imported or called.

In: a stream at the start of a pickle, a table of builders for the few names that we understand, and
a function for persistent ids. Out: the object, in which everything else that the pickle would have
built (configuration objects, schedulers, functions, or an attack) is a ``Record`` that only
remembers its parts. Python's own unpickler is not used, so there is no list of forbidden names to
get wrong: a callable can only come from our table.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Builder = Callable[..., Any]


@dataclass(frozen=True)
class Global:
    """A name in a pickle (class or function), not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def described(value: Any) -> str:
    """A value from a file for an error message: never long, whatever the file nests into it."""
    if isinstance(value, Global):
        return str(value)[:100]
    if isinstance(value, str | int | float | bytes | type(None)):
        return repr(value)[:100] if not isinstance(value, int) or abs(value) < 2**64 else "a number"
    return f"a {type(value).__name__}"


@dataclass(eq=False, repr=False)
class Record:
    """What a call in the pickle would have made: the callable and all that was put into it.

    Attributes:
        of: what would have been called: a ``Global``, or another inert object.
        args: its arguments.
        state: what BUILD would have set, None without.
        items: what APPEND(S) or SETITEM(S) would have added; pairs for the latter.
    """

    of: Any
    args: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)


class Stateful:
    """A builder's result that understands BUILD."""

    def set_state(self, state: Any) -> None:
        """Takes what the pickle would have given to ``__setstate__``; must check it."""
        raise NotImplementedError


class _Mark:
    """Where the items of a container begin on the stack."""


_MARK = _Mark()
_PUSHES = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
    # The members of a set need not be hashable here, where they may be inert: a list.
    "EMPTY_SET": list,
}
_SIZED_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_SIMPLE_KEYS = (str, int, float, bool, bytes, type(None), Global, Record)


class InertReader:
    """Reads one pickle; see the top of this file."""

    def __init__(
        self, builders: Mapping[str, Builder], persistent: Callable[[Any], Any] | None = None
    ) -> None:
        """
        Args:
            builders: "module.name" -> function of the call's arguments; everything that a pickle
                can make besides containers, numbers and strings. Called with values from the file:
                must check them.
            persistent: persistent id -> object; None refuses them.
        """
        self._builders = builders
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def load(self, stream: Any) -> Any:
        """The object; the stream (a binary file, BytesIO or mmap) is left behind the pickle's end.

        Raises:
            ValueError, IndexError, KeyError, TypeError: the bytes are no well-formed pickle.
        """
        self._stack, self._memo = [], {}
        for opcode, arg, _ in pickletools.genops(stream):
            name = opcode.name
            if name in _PUSHES:
                self._stack.append(arg)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name]())
            elif name != "STOP":
                self._step(name, arg)
        if len(self._stack) != 1:
            raise ValueError(f"the pickle leaves {len(self._stack)} objects instead of one")
        return self._pop()

    def _step(self, name: str, arg: Any) -> None:
        """One opcode that looks at the stack or the memo."""
        stack = self._stack
        if name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[arg] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[arg])
        elif name in _SIZED_TUPLES:
            size = _SIZED_TUPLES[name]
            stack.append(tuple([self._pop() for _ in range(size)][::-1]))
        elif name == "TUPLE":
            stack.append(tuple(self._pop_mark()))
        elif name in ("LIST", "FROZENSET"):
            stack.append(self._pop_mark())
        elif name == "DICT":
            stack.append(_as_dict(self._pop_mark()))
        elif name in ("GLOBAL", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
            stack.append(self._global(name, arg))
        elif name in ("PERSID", "BINPERSID"):
            stack.append(self._persistent_object(arg if name == "PERSID" else self._pop()))
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self._pop_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name not in ("PROTO", "FRAME"):
            self._call_or_fill(name, arg)

    def _call_or_fill(self, name: str, arg: Any) -> None:
        """Opcodes that would run code in Python's unpickler, and those that fill containers."""
        if name in ("APPEND", "APPENDS", "ADDITEMS"):
            items = [self._pop()] if name == "APPEND" else self._pop_mark()
            _append(self._stack[-1], items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [self._pop(), self._pop()][::-1] if name == "SETITEM" else self._pop_mark()
            _set_items(self._stack[-1], items)
        elif name == "BUILD":
            self._build(self._pop())
        elif name in ("REDUCE", "NEWOBJ"):
            args, function = self._pop(), self._pop()
            self._stack.append(self.call(function, args))
        elif name == "NEWOBJ_EX":
            keywords, args, function = self._pop(), self._pop(), self._pop()
            self._stack.append(Record(function, (args, keywords)))
        elif name == "OBJ":
            function, *arguments = self._pop_mark()
            self._stack.append(self.call(function, tuple(arguments)))
        elif name == "INST":
            self._stack.append(self.call(self._global("GLOBAL", arg), tuple(self._pop_mark())))
        else:
            raise ValueError(f"the pickle uses {name}, which files of tensors never do")

    def call(self, function: Any, args: Any) -> Any:
        """Our builder's result where the table has one, an inert ``Record`` otherwise."""
        args = args if isinstance(args, tuple) else (args,)
        builder = self._builders.get(str(function)) if isinstance(function, Global) else None
        return Record(function, args) if builder is None else builder(*args)

    def _build(self, state: Any) -> None:
        target = self._stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif isinstance(target, Stateful):
            target.set_state(state)
        # Attributes of a dict or a tensor (state_dict()._metadata) say nothing about its content.

    def _global(self, opcode: str, arg: Any) -> Global:
        if opcode == "STACK_GLOBAL":
            name, module = self._pop(), self._pop()
            if not (isinstance(name, str) and isinstance(module, str)):
                raise ValueError("the pickle names a global by something that is no string")
            return Global(module, name)
        if opcode == "GLOBAL":
            module, _, name = arg.partition(" ")
            return Global(module, name)
        return Global("copyreg extension", str(arg))

    def _persistent_object(self, identifier: Any) -> Any:
        if self._persistent is None:
            raise ValueError("the pickle refers to objects outside itself")
        return self._persistent(identifier)

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("the pickle's stack is out of order")
        return value

    def _pop_mark(self) -> list[Any]:
        """Everything above the last mark, which is removed too."""
        items: list[Any] = []
        while (value := self._stack.pop()) is not _MARK:
            items.append(value)
        return items[::-1]


def _append(target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, Record):
        target.items.extend(items)
    else:
        raise ValueError(f"the pickle appends to a {type(target).__name__}")


def _set_items(target: Any, items: list[Any]) -> None:
    if isinstance(target, dict):
        target.update(_as_dict(items))
    elif isinstance(target, Record):
        target.items.extend(zip(items[::2], items[1::2], strict=True))
    else:
        raise ValueError(f"the pickle sets items of a {type(target).__name__}")


def _as_dict(items: list[Any]) -> dict[Any, Any]:
    """key, value, key, value, ... -> dict."""
    return {_key(k): v for k, v in zip(items[::2], items[1::2], strict=True)}


def _key(key: Any) -> Any:
    """A key that hashes without running through structures that the file may have made deep."""
    if isinstance(key, _SIMPLE_KEYS):
        return key
    if isinstance(key, tuple) and all(isinstance(part, _SIMPLE_KEYS) for part in key):
        return key
    return Record("key", (key,))
