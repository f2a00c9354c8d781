"""Typed methods for the operations of one family. Written by tools/make_steps.py; do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from apxm.graph.steps.base import UNSET, Adding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.graph.builder import After, Input, Ref, TryRef


class ErrorsSteps(Adding):
    """Methods for TRY_CATCH, ERR, EXC."""

    __slots__ = ()

    def try_(
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
    ) -> TryRef:
        """Runs its region `try` and gives its value."""
        return cast(
            "TryRef",
            self.add(
                "TRY_CATCH",
                *inputs,
                fallback=fallback,
                timeout_ms=timeout_ms,
                retries=retries,
                name=name,
                after=after,
                order_after=order_after,
                on=on,
                **ports,
            ),
        )

    def err(
        self,
        message: str | Ref | None = None,
        *inputs: Input,
        code: str | None = None,
        class_: Literal["invalid", "denied", "budget", "deadline", "transient", "fatal", "unknown"] | None = None,
        recovery_template: str | Ref | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Fails on purpose with `class`, `code` and `message`."""
        return self.add(
            "ERR",
            *inputs,
            message=message,
            code=code,
            class_=class_,
            recovery_template=recovery_template,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def exc(
        self,
        code: str | None = None,
        *inputs: Input,
        message: str | Ref | None = None,
        sandbox_config: Mapping[str, Any] | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Runs Python `code` in the sandbox."""
        return self.add(
            "EXC",
            *inputs,
            code=code,
            message=message,
            sandbox_config=sandbox_config,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )
