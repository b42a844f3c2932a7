"""One client for both kinds of programs: with an event loop, and without.

A method that is decorated with `in_any_program` gives, in a plain program, what it returns. In one
with an event loop, where nothing may block, it is awaited.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

P = ParamSpec("P")
T = TypeVar("T")


class Plain:
    """For type checkers only: whose calls are not awaited."""


if TYPE_CHECKING:

    class Method(Generic[P, T]):
        @overload
        def __get__(self, instance: Plain, owner: Any = None) -> Callable[P, T]: ...
        @overload
        def __get__(
            self, instance: object, owner: Any = None
        ) -> Callable[P, Coroutine[Any, Any, T]]: ...
        def __get__(self, instance: object, owner: Any = None) -> Any: ...


def in_any_program(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> "Method[P, T]":
    @functools.wraps(method)
    def call(self: object, *arguments: P.args, **options: P.kwargs) -> Any:
        made = method(self, *arguments, **options)
        return made if has_loop() else asyncio.run(made)

    return cast("Method[P, T]", call)


def has_loop() -> bool:
    """Whether this is called on an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Stream(Generic[T]):
    """What comes one after the other: for `for` in a plain program, for `async for` in others."""

    def __init__(self, made: AsyncGenerator[T, None]) -> None:
        self._made = made

    def __aiter__(self) -> AsyncIterator[T]:
        return self._made

    def __iter__(self) -> Iterator[T]:
        async def step() -> T:
            return await anext(self._made)

        with asyncio.Runner() as runner:
            while True:
                try:
                    found = runner.run(step())
                except StopAsyncIteration:
                    return
                yield found
