"""Typed methods for the operations of one family. Written by tools/make_steps.py; do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from apxm.graph.steps.base import UNSET, Adding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apxm.graph.builder import After, Input, LoopRef, MapRef, Ref, SwitchRef


class ControlSteps(Adding):
    """Methods for BRANCH_ON_VALUE, SWITCH, GUARD, LOOP, LOOP_START, LOOP_END, MAP, JUMP, RETURN, YIELD."""

    __slots__ = ()

    def branch_on_value(
        self,
        *inputs: Input,
        value: Any = UNSET,
        condition: str | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Takes one of two ways."""
        return self.add(
            "BRANCH_ON_VALUE",
            *inputs,
            value=value,
            condition=condition,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def switch(
        self,
        *inputs: Input,
        case_labels: Sequence[str] | None = None,
        match: Literal["exact", "casefold", "contains", "regex"] | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> SwitchRef:
        """Takes the way of the first case that matches."""
        return cast(
            "SwitchRef",
            self.add(
                "SWITCH",
                *inputs,
                case_labels=case_labels,
                match=match,
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

    def guard(
        self,
        *inputs: Input,
        condition: str,
        error_message: str | Ref | None = None,
        on_fail: Literal["halt", "skip"] | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Lets its first input pass if `condition` holds for it."""
        return self.add(
            "GUARD",
            *inputs,
            condition=condition,
            error_message=error_message,
            on_fail=on_fail,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def loop(
        self,
        *inputs: Input,
        max_iterations: int,
        while_: str | None = None,
        until: str | None = None,
        carry: Sequence[str] | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> LoopRef:
        """Runs its region `body` again and again, each iteration a child frame, one after the other."""
        return cast(
            "LoopRef",
            self.add(
                "LOOP",
                *inputs,
                max_iterations=max_iterations,
                while_=while_,
                until=until,
                carry=carry,
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

    def loop_start(
        self,
        *inputs: Input,
        loop: str | None = None,
        max_iterations: int | None = None,
        while_: str | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Opens a loop written as two nodes of one graph."""
        return self.add(
            "LOOP_START",
            *inputs,
            loop=loop,
            max_iterations=max_iterations,
            while_=while_,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def loop_end(
        self,
        *inputs: Input,
        loop: str | None = None,
        until: str | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Closes the loop that the LOOP_START of the same `loop` opens."""
        return self.add(
            "LOOP_END",
            *inputs,
            loop=loop,
            until=until,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def map(
        self,
        *inputs: Input,
        window: int | None = None,
        on_item_error: Literal["fail", "skip", "null"] | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> MapRef:
        """Runs its region `body` once per item of a list, at most `window` frames at a time."""
        return cast(
            "MapRef",
            self.add(
                "MAP",
                *inputs,
                window=window,
                on_item_error=on_item_error,
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

    def jump(
        self,
        *inputs: Input,
        label: str,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Goes on at the node named `label` (or with that id), which must come later."""
        return self.add(
            "JUMP",
            *inputs,
            label=label,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def return_(
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
        """Gives its input as the value of the enclosing flow, from any depth of regions, through every `finally`."""
        return self.add(
            "RETURN",
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

    def yield_(
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
        """Gives its input as the value of the region it stands in."""
        return self.add(
            "YIELD",
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
