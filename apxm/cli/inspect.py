"""`apxm inspect`: what is in a program. Runs nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Collection, Iterator

    from apxm.artifact import Artifact
    from apxm.dag import ExecutionDag

FILE = Option("file", "an artifact, a graph as JSON, or a Python file (`file.py:name`)", "FILE")


def inspect(order: Namespace) -> int:
    """Read, show; the exit code."""
    from apxm.cli import report, source
    from apxm.cli.text import as_json, printable

    program = source.load(order.file)
    artifact = program.compiled(source.offered(program, ()))
    report.emit(as_json(artifact_map(artifact)) if order.json else printable("\n".join(artifact_lines(artifact))))
    return Exit.OK


def artifact_map(artifact: Artifact) -> dict[str, Any]:
    """Everything an artifact says about itself, as data."""
    from apxm.artifact.format import VERSION

    data = artifact.to_bytes()
    return {
        "name": artifact.name,
        "format": ".".join(map(str, VERSION)),
        "compiler": artifact.compiler,
        "level": artifact.level,
        "bytes": len(data),
        "digest": artifact.digest,
        "entry": ".".join(artifact.entry),
        "metadata": artifact.metadata,
        "agents": {name: dict(facts) for name, facts in artifact.agents.items()},
        "flows": [
            {**dag_map(dag), "agent": agent, "capabilities": _capabilities(artifact, (agent, name))}
            for (agent, name), dag in artifact.flows().items()
        ],
    }


def _capabilities(artifact: Artifact, flow: tuple[str, str]) -> dict[str, Any]:
    facts = artifact.manifest.get(flow, {})
    return {name: {"effect": fact.effect, "schema": fact.schema} for name, fact in facts.items()}


def dag_map(dag: ExecutionDag) -> dict[str, Any]:
    """A flow or region as data: its nodes in the order of the dag, each with what it takes in."""
    return {
        "name": dag.name,
        "parameters": [{"name": parameter.name, "type": parameter.type_name} for parameter in dag.parameters],
        "exits": [dag.names[slot] for slot in dag.exits],
        "edges": dag.edge_count,
        "nodes": [_node_map(dag, slot) for slot in range(len(dag.parameters), len(dag))],
    }


def _node_map(dag: ExecutionDag, slot: int) -> dict[str, Any]:
    said: dict[str, Any] = {
        "id": dag.ids[slot],
        "name": dag.names[slot],
        "op": op_of(dag, slot),
        "inputs": list(_inputs(dag, slot)),
    }
    if attributes := dag.attributes.get(slot):
        said["attributes"] = dict(attributes)
    if regions := dag.regions.get(slot):
        said["regions"] = {name: dag_map(region) for name, region in regions.items()}
    return said


def op_of(dag: ExecutionDag, slot: int) -> str:
    """The name of the operation at a slot."""
    from apxm.graph.ops import BY_CODE

    row = BY_CODE[dag.ops[slot]]
    return row.name if row is not None else "parameter"


def _inputs(dag: ExecutionDag, slot: int) -> Iterator[dict[str, Any]]:
    from apxm.dag import CONTROL, DATA, EFFECT

    kinds = {DATA: "Data", CONTROL: "Control", EFFECT: "Effect"}
    for edge in dag.in_edges(slot):
        said = {"from": dag.names[edge.source], "dependency": kinds[edge.kind], "port": edge.port, "label": edge.label}
        yield {key: value for key, value in said.items() if value is not None}


def artifact_lines(artifact: Artifact) -> Iterator[str]:
    """The same for a person."""
    from apxm.cli.text import count

    said = artifact_map(artifact)
    size = count(said["bytes"], "byte")
    yield f"{said['name']}: artifact of format {said['format']}, O{said['level']}, {size}, by {said['compiler']}"
    yield f"digest {said['digest']}"
    for flow in said["flows"]:
        full = f"{flow['agent']}.{flow['name']}"
        yield ""
        takes = ", ".join(f"{parameter['name']}: {parameter['type']}" for parameter in flow["parameters"])
        size = f"{count(len(flow['nodes']), 'node')}, {count(flow['edges'], 'edge')}"
        yield f"flow {full}({takes}): {size}" + (" [entry]" if full == said["entry"] else "")
        yield from _node_lines(flow, 1)
        if flow["capabilities"]:
            calls = (name + (f" ({fact['effect']})" if fact["effect"] else "") for name, fact in flow["capabilities"].items())
            yield f"  calls {', '.join(calls)}"


def _node_lines(flow: dict[str, Any], depth: int) -> Iterator[str]:
    from apxm.cli.text import line

    width = max((len(node["name"]) for node in flow["nodes"]), default=0)
    plain = {(node["name"], f"node_{node['id']}") for node in flow["nodes"]}  # a port that only repeats where it comes from
    for node in flow["nodes"]:
        name = f"{'  ' * depth}{line(node['name'], 40):<{min(width, 40)}}  {node['op']:<15}"
        yield f"{name} {_arrows(node['inputs'], plain if 'regions' not in node else ())}".rstrip()
        for region_name, region in node.get("regions", {}).items():
            takes = ", ".join(parameter["name"] for parameter in region["parameters"])
            yield f"{'  ' * (depth + 1)}{region_name}({takes}):"
            yield from _node_lines(region, depth + 2)


def _arrows(inputs: list[dict[str, Any]], plain: Collection[tuple[str, str]]) -> str:
    words = []
    for edge in inputs:
        text = edge["from"] + (f" [{edge['label']}]" if "label" in edge else "")
        text = f"{edge['port']}={text}" if "port" in edge and (edge["from"], edge["port"]) not in plain else text
        words.append(text if edge["dependency"] == "Data" else f"({edge['dependency'].lower()} {text})")
    return "← " + ", ".join(words) if words else ""


COMMANDS = {
    "inspect": Command(
        "inspect",
        "Show what an artifact holds.",
        "Header, digest, flows, nodes and the capabilities they call. A graph is compiled in memory first.",
        (FILE, JSON),
        inspect,
    )
}
