"""Typed methods for the operations of one family. Written by tools/make_steps.py; do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from apxm.graph.steps.base import UNSET, Adding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apxm.graph.builder import After, Input, Ref


class AgentsSteps(Adding):
    """Methods for UPDATE_GOAL, AGENT, COMMUNICATE, FLOW_CALL, CLAIM, PAUSE, RESUME."""

    __slots__ = ()

    def update_goal(
        self,
        goal_id: str | Ref | None = None,
        *inputs: Input,
        action: Literal["set", "complete", "remove", "clear"] | None = None,
        description: str | Ref | None = None,
        priority: int | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Changes the goals of the agent by id."""
        return self.add(
            "UPDATE_GOAL",
            *inputs,
            goal_id=goal_id,
            action=action,
            description=description,
            priority=priority,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def agent(
        self,
        *inputs: Input,
        memory: Any = UNSET,
        beliefs: Mapping[str, Any] | None = None,
        goals: Sequence[Any] | None = None,
        capabilities: Sequence[str] | None = None,
        context: str | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Declares what the agent of this flow has."""
        return self.add(
            "AGENT",
            *inputs,
            memory=memory,
            beliefs=beliefs,
            goals=goals,
            capabilities=capabilities,
            context=context,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def communicate(
        self,
        recipient: str | Ref | None = None,
        *inputs: Input,
        protocol: Literal["local", "broadcast", "http", "https"] | None = None,
        message: Any = UNSET,
        channel: str | Ref | None = None,
        reply: bool | None = None,
        timeout_ms: int | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Sends a message to another agent and gives the reply."""
        return self.add(
            "COMMUNICATE",
            *inputs,
            recipient=recipient,
            protocol=protocol,
            message=message,
            channel=channel,
            reply=reply,
            timeout_ms=timeout_ms,
            fallback=fallback,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def flow_call(
        self,
        flow_name: str,
        *inputs: Input,
        agent_name: str | None = None,
        args: Any = UNSET,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Any,
    ) -> Ref:
        """Runs a flow as a child frame and gives its value."""
        return self.add(
            "FLOW_CALL",
            *inputs,
            flow_name=flow_name,
            agent_name=agent_name,
            args=args,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def claim(
        self,
        queue: str,
        *inputs: Input,
        lease_ms: int | None = None,
        max_wait_ms: int | None = None,
        server_url: str | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        timeout_ms: int | None = None,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Takes a task from a queue under a lease and gives {task_id, task_data, claim_token}."""
        return self.add(
            "CLAIM",
            *inputs,
            queue=queue,
            lease_ms=lease_ms,
            max_wait_ms=max_wait_ms,
            server_url=server_url,
            fallback=fallback,
            timeout_ms=timeout_ms,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def pause(
        self,
        message: str | Ref,
        *inputs: Input,
        checkpoint_id: str | Ref | None = None,
        timeout_ms: int | None = None,
        default: Any = UNSET,
        answer_schema: Mapping[str, Any] | None = None,
        poll_interval_ms: int | None = None,
        notification_url: str | None = None,
        server_url: str | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Asks a person and waits."""
        return self.add(
            "PAUSE",
            *inputs,
            message=message,
            checkpoint_id=checkpoint_id,
            timeout_ms=timeout_ms,
            default=default,
            answer_schema=answer_schema,
            poll_interval_ms=poll_interval_ms,
            notification_url=notification_url,
            server_url=server_url,
            fallback=fallback,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )

    def resume(
        self,
        checkpoint: str | Ref,
        *inputs: Input,
        timeout_ms: int | None = None,
        poll_max_attempts: int | None = None,
        poll_interval_ms: int | None = None,
        server_url: str | None = None,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        fallback: Any = UNSET,
        retries: int | None = None,
        **ports: Input,
    ) -> Ref:
        """Waits for the answer to a checkpoint and gives it."""
        return self.add(
            "RESUME",
            *inputs,
            checkpoint=checkpoint,
            timeout_ms=timeout_ms,
            poll_max_attempts=poll_max_attempts,
            poll_interval_ms=poll_interval_ms,
            server_url=server_url,
            fallback=fallback,
            retries=retries,
            name=name,
            after=after,
            order_after=order_after,
            on=on,
            **ports,
        )
