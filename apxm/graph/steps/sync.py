"""Typed methods for the operations of one family. Written by tools/make_steps.py; do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from apxm.graph.steps.base import UNSET, Adding

if TYPE_CHECKING:
    from apxm.graph.builder import After, Input, Ref


class SyncSteps(Adding):
    """Methods for CONST_STR, PRINT, MERGE, WAIT_ALL, FENCE."""

    __slots__ = ()

    def const_str(
        self,
        value: Any,
        *inputs: Input,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """A constant."""
        return self.add(
            "CONST_STR",
            *inputs,
            value=value,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def print(
        self,
        message: str | Ref | None = None,
        *inputs: Input,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Shows a text to whoever watches the run."""
        return self.add(
            "PRINT",
            *inputs,
            message=message,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def merge(
        self,
        *inputs: Input,
        mode: Literal["array", "concat", "sum", "any", "race", "first_success"] | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Joins branches."""
        return self.add(
            "MERGE",
            *inputs,
            mode=mode,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def wait_all(
        self,
        *inputs: Input,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Waits until every Data input has arrived and gives the list of the live ones in port order."""
        return self.add(
            "WAIT_ALL",
            *inputs,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def fence(
        self,
        *inputs: Input,
        ordering: str | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """A memory barrier."""
        return self.add(
            "FENCE",
            *inputs,
            ordering=ordering,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )
