"""Programs of several agents in few words. Not a test module."""

from apxm import Artifact, compile
from apxm.graph.contract import from_json


def node(id, op, /, name=None, regions=None, **attributes):
    made = {"id": id, "name": name or f"n{id}", "op": op, "attributes": attributes}
    return made | ({"regions": regions} if regions else {})


def graph(*nodes, edges=(), name="main", parameters=(), **more):
    return {
        "name": name,
        "nodes": list(nodes),
        "edges": [dict(zip(("from", "to", "dependency"), edge)) for edge in edges],
        "parameters": [{"name": one, "type_name": "json"} for one in parameters],
        **more,
    }


def program(**agents):
    """Agents by name: a list of flows, or a map with flows and metadata. The first flow of the first agent is the entry."""
    rows = [{"name": name, **(said if isinstance(said, dict) else {"flows": said})} for name, said in agents.items()]
    return from_json({"agents": rows})


def dag_of(source, level=1):
    return Artifact.from_bytes(compile(from_json(source) if isinstance(source, dict) else source, level=level).to_bytes())


def call(id, agent, flow="main", **args):
    return node(id, "FLOW_CALL", agent_name=agent, flow_name=flow, args=args)


def use(capability, **arguments):
    return node(1, "INV", capability=capability, params_json=arguments)
