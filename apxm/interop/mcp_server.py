"""Flows as tools of an MCP server: what each says of itself, and how a call becomes a run. Opens no socket."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from apxm.artifact.lift import lift
from apxm.compiler.compile import compile
from apxm.config import RunOptions
from apxm.errors import ApxmError, InvalidError
from apxm.graph.bounds import bounds
from apxm.interop.mcp_tools import BOUNDS, EFFECT, RESULT_MAX, hints_of
from apxm.observability.events import NodeEnded
from apxm.values import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel.server import Server
    from mcp.types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams, Tool

    from apxm.artifact.format import Artifact
    from apxm.dag import ExecutionDag
    from apxm.graph.amounts import Bound
    from apxm.graph.model import Graph, Parameter, Program
    from apxm.graph.operation import Effect
    from apxm.observability.events import Event
    from apxm.runtime import Runtime

NAME_MAX = 128
_ODD = re.compile(r"[^A-Za-z0-9_.-]")  # what clients do not take in the name of a tool
PROGRESS_S = 0.1  # between two notices about one call
_SCHEMAS: Mapping[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "json": {},
}


@dataclass(frozen=True, slots=True)
class FlowTool:
    """One flow under the name that clients see. `limits` is its bound certificate in words and numbers."""

    name: str
    dag: ExecutionDag
    effect: Effect
    limits: Mapping[str, Any]

    def described(self) -> Tool:
        """As `tools/list` says it."""
        from mcp.types import Tool

        return Tool(
            name=self.name,
            description=str(self.dag.metadata.get("description") or f"The flow `{self.dag.name}` of agent `{self.dag.agent}`."),
            input_schema=schema_of(self.dag.parameters),
            annotations=hints_of(self.effect),
            _meta={EFFECT: self.effect.value, BOUNDS: dict(self.limits)},
        )


def flow_tools(runtime: Runtime, programs: Iterable[Artifact | Graph | Program], run: RunOptions) -> list[FlowTool]:
    """A tool for every flow: `flow`, or `agent.flow` where several have that name; `_` for what clients do not take in a name.

    Each flow is bound now, so that what it lacks or may not do is known before anybody calls: BindError, DeniedError.
    """
    system = runtime.capability_system()
    known: dict[str, str | None] = {name: system.get(name).effect.value for name in system.list_capability_names()}
    found: list[tuple[ExecutionDag, dict[str, Any]]] = []
    for program in programs:
        artifact: Any = program if hasattr(program, "into_dag") else compile(program)
        graphs = lift(artifact)
        for key, dag in artifact.flows().items():
            quantities = bounds(graphs, key, known).quantities()
            found.append((dag, {name: _bound(bound) for name, bound in quantities.items()}))
    counts: dict[str, int] = {}
    for dag, _ in found:
        counts[dag.name] = counts.get(dag.name, 0) + 1
    tools: dict[str, FlowTool] = {}
    for dag, limits in found:
        name = _ODD.sub("_", dag.name if counts[dag.name] == 1 else f"{dag.agent}.{dag.name}")[:NAME_MAX]
        if name in tools:
            raise InvalidError(f"two programs have a flow `{name}`", hint="serve them apart, or rename one")
        tools[name] = FlowTool(name, dag, runtime.prepare(dag, run=run), limits)
    return list(tools.values())


def make_server(
    runtime: Runtime, programs: Iterable[Artifact | Graph | Program], *, run: RunOptions | None = None, name: str = "apxm"
) -> Server[Any]:
    """A server of the SDK whose tools are the flows of these programs; each call is a run of its own under `run`."""
    from mcp.server.lowlevel.server import Server

    from apxm import __version__

    options = run or RunOptions()
    flows = _Flows(runtime, flow_tools(runtime, programs, options), options)
    return Server(name, version=__version__, on_list_tools=flows.listed, on_call_tool=flows.call)


def schema_of(parameters: Sequence[Parameter]) -> dict[str, Any]:
    """The closed JSON Schema of the parameters of a flow."""
    return {
        "type": "object",
        "properties": {parameter.name: dict(_SCHEMAS.get(parameter.type_name, {})) for parameter in parameters},
        "required": [parameter.name for parameter in parameters],
        "additionalProperties": False,
    }


class _Flows:
    """Answers what clients ask about the flows. Calls may come at the same time; each is cancelled with its request."""

    def __init__(self, runtime: Runtime, tools: Sequence[FlowTool], run: RunOptions) -> None:
        self._runtime, self._run = runtime, run
        self._tools = {tool.name: tool for tool in tools}

    async def listed(self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListToolsResult:
        from mcp.types import ListToolsResult

        return ListToolsResult(tools=[tool.described() for tool in self._tools.values()])

    async def call(self, context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        from mcp.shared.exceptions import MCPError
        from mcp.types import INVALID_PARAMS

        tool = self._tools.get(params.name)
        if tool is None:
            known = ", ".join(self._tools)
            raise MCPError(code=INVALID_PARAMS, message=f"there is no tool {params.name!r:.80}; there are: {known}")
        options = replace(self._run, run_id=f"mcp-{secrets.token_hex(6)}")
        try:
            value = await self._watched(context, tool, params.arguments or {}, options)
        except ApxmError as error:
            return _failed(error)
        return _given(value, context.protocol_version)

    async def _watched(
        self, context: ServerRequestContext[Any], tool: FlowTool, arguments: dict[str, Any], options: RunOptions
    ) -> Any:
        """Run, and tell how far it is if the client wants to know."""
        wanted = context.meta is not None and context.meta.get("progress_token") is not None
        if not wanted:
            return await self._finished(tool, arguments, options)
        count = _Count(str(options.run_id))
        subscription = self._runtime.subscribe(count)
        telling = asyncio.create_task(count.tell(context))
        try:
            return await self._finished(tool, arguments, options)
        finally:
            telling.cancel()
            subscription.close()

    async def _finished(self, tool: FlowTool, arguments: dict[str, Any], options: RunOptions) -> Any:
        """The value of a run. Its task stands outside of the request, so that the run has ended when this is cancelled."""
        import anyio

        task = asyncio.create_task(self._runtime.execute_async(tool.dag, arguments, run=options))
        try:
            return (await asyncio.shield(task)).value
        except asyncio.CancelledError:
            task.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task])
            raise


class _Count:
    """Counts the nodes of one run that have ended, on the thread of its events, and tells a client now and then."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self.ended = 0

    def __call__(self, run_id: str, event: Event) -> None:
        if run_id == self._run_id and isinstance(event, NodeEnded):
            self.ended += 1

    async def tell(self, context: ServerRequestContext[Any]) -> None:
        told = -1
        while True:
            if self.ended > told:
                told = self.ended
                await context.session.report_progress(told, message=f"{told} nodes have ended")
            await asyncio.sleep(PROGRESS_S)


def _given(value: Any, protocol: str) -> CallToolResult:
    """A value as text, and structured where the protocol can say it."""
    from mcp.types import CallToolResult, TextContent
    from mcp_types.version import MODERN_PROTOCOL_VERSIONS

    said = plain(value)
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    if len(text) > RESULT_MAX:
        return _failed(InvalidError(f"the result has {len(text)} characters, at most {RESULT_MAX} are sent"))
    structured = said if isinstance(said, dict) or (protocol in MODERN_PROTOCOL_VERSIONS and not isinstance(said, str)) else None
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=structured)


def _failed(error: ApxmError) -> CallToolResult:
    from mcp.types import CallToolResult, TextContent

    return CallToolResult(content=[TextContent(type="text", text=str(error))], structured_content=error.to_map(), is_error=True)


def _bound(bound: Bound) -> dict[str, Any]:
    return {"at_most": bound.limit, "text": str(bound)}
