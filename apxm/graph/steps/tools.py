"""Typed methods for the operations of one family. Written by tools/make_steps.py; do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from apxm.graph.steps.base import UNSET, Adding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.graph.builder import After, Input, Ref


class ToolsSteps(Adding):
    """Methods for INV, QMEM, UMEM."""

    __slots__ = ()

    def inv(
        self,
        capability: str,
        *inputs: Input,
        params_json: Any = UNSET,
        args: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        **ports: Any,
    ) -> Ref:
        """Calls a capability."""
        return self.add(
            "INV",
            *inputs,
            capability=capability,
            params_json=params_json,
            args=args,
            timeout_ms=timeout_ms,
            retries=retries,
            fallback=fallback,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def qmem(
        self,
        *inputs: Input,
        key: str | Ref | None = None,
        query: str | Ref | None = None,
        memory_tier: Literal["stm", "ltm", "episodic", "all"] | None = None,
        limit: int | None = None,
        min_score: float | None = None,
        where: Mapping[str, Any] | None = None,
        staging_id: str | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Reads memory."""
        return self.add(
            "QMEM",
            *inputs,
            key=key,
            query=query,
            memory_tier=memory_tier,
            limit=limit,
            min_score=min_score,
            where=where,
            staging_id=staging_id,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def umem(
        self,
        key: str | Ref,
        *inputs: Input,
        value: Any = UNSET,
        memory_tier: Literal["stm", "ltm", "episodic"] | None = None,
        scope: Literal["flow", "agent", "run", "session"] | None = None,
        ttl_ms: int | None = None,
        durable: bool | None = None,
        belief_key: str | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Writes `key` in memory and gives the stored value."""
        return self.add(
            "UMEM",
            *inputs,
            key=key,
            value=value,
            memory_tier=memory_tier,
            scope=scope,
            ttl_ms=ttl_ms,
            durable=durable,
            belief_key=belief_key,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )
