"""The Python way to write a graph: every operation is a method, what it gives is a Ref, a region is a `with` block.

A Ref stands for a value that exists only when the graph runs. It may be an input (`g.merge(a, b)`), a named input
(`g.ask("... {text}", text=a)`) or part of a text (`g.ask(f"... {a}")`). Inside a region, values and parameters of the graphs
around it may be used as they are: the edge and the region parameter they need are added.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, cast

from apxm.errors import GraphError
from apxm.graph import template
from apxm.graph.region import is_position, own_input, reserved
from apxm.graph.standin import NoSuchName, StandIn, refusal
from apxm.graph.steps import Steps
from apxm.graph.steps.base import UNSET

if TYPE_CHECKING:
    from types import TracebackType

    from apxm.graph.model import Dependency, Graph, Node, Source
    from apxm.graph.operation import Attribute, Operation
    from apxm.graph.template import Placeholder

_CAPTURED = ("text", "filled")  # attribute types that may hold placeholders
_AUTHORING = ("name", "after", "order_after", "on")  # keywords of every step that are no attributes


class Ref(StandIn):
    """The value of a node or parameter of a graph that is being written. In a text it becomes its placeholder."""

    __slots__ = ("graph", "source")

    def __init__(self, graph: Graph, source: Source) -> None:
        self.graph, self.source = graph, source

    @property
    def node(self) -> Node:
        """The node behind it; GraphError for a parameter."""
        if isinstance(self.source, str):
            raise GraphError(f"`{self.source}` is a parameter, not a node", code="graph.unknown_node")
        return next(node for node in reversed(self.graph.nodes) if node.id == self.source)

    @property
    def name(self) -> str:
        """The name of the node or parameter."""
        return self.source if isinstance(self.source, str) else self.node.name

    def on(self, label: str) -> Way:
        """This value on the way of `label`: as an input it makes a labelled edge (`branch.on("true")`, `x.on("error")`)."""
        return Way(self, label)

    def __rshift__(self, later: Ref) -> Ref:
        """`a >> b`: b runs after a (a Control edge). Gives b."""
        from apxm.graph.model import Dependency

        if not isinstance(later, Ref):
            raise GraphError(f"`>>` leads to {later!r}, expected one step; for several use after=[...]", code="graph.shape")
        later.graph._join(self, later.node.id, Dependency.CONTROL)
        return later

    def __str__(self) -> str:
        return f"{{{self.source}}}" if isinstance(self.source, str) else f"{{{{node_{self.source}}}}}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.source!r} of {self.graph.name!r}>"

    def _names(self) -> list[str]:
        own = [name for name in vars(type(self)) if not name.startswith("_")]
        return [*own, "on"] if type(self) is not Ref else ["on", "name", "node"]

    def _called(self) -> str:
        if isinstance(self.source, int):
            return f"step `{self.node.name}`"
        return f"parameter `{self.source}`" if self.source else "this region"


class Way(StandIn):
    """A Ref with the label of the edge that leads away from it."""

    __slots__ = ("label", "ref")

    def __init__(self, ref: Ref, label: str) -> None:
        self.ref, self.label = ref, label

    def _called(self) -> str:
        return f"the way `{self.label}` of {self.ref._called()}"

    def __str__(self) -> str:
        raise refusal(self, "cannot stand in a text", "it as an input, `on=(x, label)` for the gate, and x itself in the text")

    def __repr__(self) -> str:
        return f"<Way {self.label!r} of {self.ref!r}>"


Input: TypeAlias = Ref | Way
After: TypeAlias = Input | Iterable[Input]


class Authoring(Steps):
    """What a Graph can do while it is written. `outer` is (graph, id of the owning node, region name) for a region."""

    __slots__ = ("_homes", "_inside", "_last", "_outer")

    nodes: list[Node]
    name: str
    _homes: dict[int, Graph]
    _inside: Graph | None
    _last: int
    _outer: tuple[Graph, int, str]

    if not TYPE_CHECKING:  # a type checker shall go on refusing what nobody defined

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_") or name in type(self).__slots__:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            raise no_operation(f"graph `{self.name}`", name)

        def __call__(self, *_: object, **named: object) -> NoReturn:
            given = "".join(f", {name}=..." for name in named or [parameter.name for parameter in self._graph().parameters])
            call = "".join(f", {name}=..." for name in named)
            raise GraphError(
                f"flow `{self.name}` is a graph and cannot be called; run it with runtime.execute({self.name}{given}), "
                f'or from another flow of the same agent with step.flow_call("{self.name}"{call})',
                code="graph.shape",
            )

    def __format__(self, spec: str) -> str:
        outer = self._outward()
        if outer is not None and outer[0]._inside is self:
            known = ", ".join(f'body.param("{parameter.name}")' for parameter in self._graph().parameters)
            raise GraphError(
                f"the open region `{self.name}` is no value and cannot stand in a text; "
                f"its parameters can: {known or 'it has none; give the node inputs by name'}",
                code="graph.shape",
            )
        return format(str(self), spec)

    # what belongs to the whole tree of graphs

    def _graph(self) -> Graph:
        return cast("Graph", self)

    def _outward(self) -> tuple[Graph, int, str] | None:
        return getattr(self, "_outer", None)

    def _root(self) -> Authoring:
        outer = self._outward()
        return self if outer is None else outer[0]._root()

    def _place(self, around: Graph, owner: int, region: str) -> None:
        """Say that this graph is a region of the node `owner` of `around`."""
        self._outer = (around, owner, region)

    def _open(self, region: Graph | None) -> None:
        """Write into `region` from now on; None: into this graph again."""
        if region is not None and getattr(self, "_inside", None) is not None:
            raise GraphError(f"another region of `{self.name}` is open; close it first", code="graph.region")
        self._inside = region

    def _innermost(self) -> Graph:
        """The region that is open now, else this graph."""
        inside: Graph | None = getattr(self, "_inside", None)
        return self._graph() if inside is None else inside._innermost()

    def _index(self) -> dict[int, Graph]:
        """The graph of every node id in the tree; only the root has it."""
        if not hasattr(self, "_homes"):
            self._homes = {}
            _register(self._graph(), self._homes, None)
            self._last = max(self._homes, default=0)
        return self._homes

    def _new_id(self, home: Graph) -> int:
        root = self._root()
        homes = root._index()
        root._last += 1
        homes[root._last] = home
        return root._last

    # writing

    def param(self, name: str, type_name: str = "str") -> Ref:
        """A parameter of this graph; declared if it is new."""
        from apxm.graph.model import Parameter

        graph = self._graph()
        if not any(parameter.name == name for parameter in graph.parameters):
            graph.parameters.append(Parameter(name, type_name))
        return Ref(graph, name)

    def add(
        self,
        op: str,
        *inputs: Input,
        name: str | None = None,
        after: After = (),
        order_after: After = (),
        on: tuple[Ref, str] | None = None,
        **attributes: Any,
    ) -> Ref:
        """Add a node; inside a `with` block of a region, to that region.

        `inputs` become Data edges in that order, keywords whose value is a Ref Data edges with that port. `after` are Control
        edges, `order_after` Effect edges, `on` is a Control edge with a label. A keyword of value None is not given, except
        for attributes that hold any value. A trailing underscore is dropped (`while_`, `class_`). GraphError for a keyword
        that is neither an attribute nor a Ref, unless the operation takes arguments by name (INV, FLOW_CALL).
        """
        from apxm.graph.model import Dependency, Node

        row = _row(op)
        graph = self._innermost()
        id = graph._new_id(graph)
        node = Node(id, name or f"{op.lower()}_{id}", op)
        ports: dict[str, Input] = {}
        for key, value in attributes.items():
            _sort(row, node, ports, key.removesuffix("_"), value)
        graph._home_texts(row, node, set(ports))
        graph.nodes.append(node)
        for value in inputs:
            graph._join(value, id)
        for port, value in ports.items():
            graph._join(value, id, port=port)
        for value in _several(after):
            graph._join(value, id, Dependency.CONTROL)
        for value in _several(order_after):
            graph._join(value, id, Dependency.EFFECT)
        if isinstance(on, (Ref, Way)):
            raise GraphError(
                f"`on` is {on._called()} alone; expected `on=(step, label)`, or `after=` to wait", code="graph.shape"
            )
        if on is not None:
            graph._join(Way(*on), id, Dependency.CONTROL)
        return _REFS.get(op, Ref)(graph, id)

    def _join(self, value: Input, target: int, dependency: Dependency | None = None, port: str | None = None) -> None:
        from apxm.graph.model import Dependency, Edge

        if not isinstance(value, (Ref, Way)):
            raise GraphError(
                f"{value!r} is no input of node {target}; expected a value of this graph: what a step gave, or a parameter",
                code="graph.shape",
            )
        ref, label = (value.ref, value.label) if isinstance(value, Way) else (value, None)
        source = self._localize(ref.graph, ref.source, label)
        self._graph().edges.append(Edge(source, target, dependency or Dependency.DATA, port, label))

    # regions: what comes from outside is captured

    def _localize(self, graph: Graph, source: Source, label: str | None = None) -> Source:
        """`source` as this graph knows it: captured as a parameter if it belongs to a graph around."""
        if graph is self:
            return source
        if label is not None:
            raise GraphError(f"the label `{label}` cannot cross into a region; label the edge to its node", code="graph.label")
        outer = self._outward()
        if outer is None:
            raise GraphError(_elsewhere(Ref(graph, source), self._graph()), code="graph.unknown_node")
        around, owner, region = outer
        return around._capture(owner, region, around._localize(graph, source), Ref(graph, source).name)

    def _capture(self, owner: int, region: str, source: Source, wanted: str) -> str:
        """The parameter of a region of node `owner` that is bound to `source`; edge and parameter are added if needed."""
        from apxm.graph.model import Edge, Parameter

        graph = self._graph()
        node = Ref(graph, owner).node
        inner = node.regions[region]
        kind = next((p.type_name for p in graph.parameters if p.name == source), "json")
        mine = [edge for edge in graph.edges if edge.target == owner and edge.dependency.value == "Data"]
        own = own_input(node.op, [edge.port for edge in mine])
        name = next((e.port for i, e in enumerate(mine) if e.source == source and not is_position(e.port) and i != own), None)
        if name is None:
            taken = {edge.port for edge in mine} | set(_given(node.op))
            taken |= {parameter.name for body in node.regions.values() for parameter in body.parameters}
            name = _free(wanted if wanted.isidentifier() else "value", taken)
            graph.edges.append(Edge(source, owner, port=name))
        if all(parameter.name != name for parameter in inner.parameters):
            inner.parameters.append(Parameter(name, kind))
        return name

    def _home_texts(self, row: Operation, node: Node, ports: set[str]) -> None:
        """Replace placeholders that mean something around this region by parameters that are bound to it."""
        from apxm.graph.ops import attribute_of

        for name, value in node.attributes.items():
            attribute = attribute_of(row, name)
            if attribute is not None and attribute.type in _CAPTURED:
                homed = self._homed(value, ports)
                if self._outward() is not None:  # at the top nothing is around; there it only finds what cannot be used
                    node.attributes[name] = homed
            elif isinstance(value, str):
                self._refuse_filling(node, name, value)

    def _refuse_filling(self, node: Node, name: str, text: str) -> None:
        """GraphError where an f-string put a step into an attribute that nothing fills in: a run would see the braces."""
        found = template.parse(text).node_ids
        homes = self._root()._index() if found else {}
        for id in found:
            if id in homes:
                raise GraphError(
                    f"{node.op} takes `{name}` as it stands, so step `{Ref(homes[id], id).name}` cannot be filled into it; "
                    f'use an operation that fills in its text, such as inv(..., text=f"...") with a function of your own',
                    code="graph.template",
                )

    def _homed(self, value: Any, ports: set[str]) -> Any:
        if isinstance(value, str):
            parts = template.parse(value).segments
            return "".join(part if isinstance(part, str) else self._homed_placeholder(part, ports) for part in parts)
        if isinstance(value, dict):
            return {key: self._homed(item, ports) for key, item in value.items()}
        return [self._homed(item, ports) for item in value] if isinstance(value, list) else value

    def _homed_placeholder(self, part: Placeholder, ports: set[str]) -> str:
        key = part.key
        if isinstance(key, int):
            home = self._root()._index().get(key) if part.kind == "node" else None
            return str(part) if home is None or home is self else f"{{{self._localize(home, key)}}}"
        outer = self._outward()
        here = self._graph()
        if key in ports or outer is None or any(parameter.name == key for parameter in here.parameters):
            return str(part)
        if key in reserved(outer[0]._index_op(outer[1]), outer[2]):
            self.param(key, "json")
            return str(part)
        around: Graph | None = outer[0]
        while around is not None:
            if any(parameter.name == key for parameter in around.parameters):
                return f"{{{self._localize(around, key)}}}"
            further = around._outward()
            around = further[0] if further else None
        return str(part)

    def _index_op(self, id: int) -> str:
        return Ref(self._graph(), id).node.op


def no_operation(whose: str, name: str) -> NoSuchName:
    """The error for `step.aks`."""
    from apxm.graph.rules.view import nearest

    near = nearest(name.lower(), [known for known in dir(Steps) if not known.startswith("_")])
    hint = f"did you mean `{near}`?" if near else "`apxm ops list` shows every operation"
    return NoSuchName(f"{whose} has no operation `{name}`; {hint}", code="graph.unknown_op")


def _elsewhere(value: Ref, here: Graph) -> str:
    """Why `value` cannot be used in `here`, and what can."""
    home = value.graph._outward()
    if home is None:
        return f"{value._called()} belongs to another graph, `{value.graph.name}`, and cannot be used in `{here.name}`"
    around, owner, region = home
    holder = Ref(around, owner).node
    return (
        f"{value._called()} is inside of region `{region}` of {holder.op} `{holder.name}` and cannot be used outside of it; "
        f"use what `{holder.name}` itself gives, or write this step into the `with` block"
    )


def _register(graph: Graph, homes: dict[int, Graph], outer: tuple[Graph, int, str] | None) -> None:
    if outer is not None:
        graph._place(*outer)
    for node in graph.nodes:
        homes.setdefault(node.id, graph)
        for name, region in node.regions.items():
            _register(region, homes, (graph, node.id, name))


def _row(op: str) -> Operation:
    from apxm.graph.ops import OPERATIONS
    from apxm.graph.rules.view import nearest

    row = OPERATIONS.get(op)
    if row is None:
        near = nearest(op.upper(), OPERATIONS)
        raise GraphError(f"there is no operation `{op}`" + (f"; close: `{near}`" if near else ""), code="graph.unknown_op")
    return row


def _sort(row: Operation, node: Node, ports: dict[str, Input], key: str, value: Any) -> None:
    """Put one keyword where it belongs: among the attributes or among the ports."""
    from apxm.graph.ops import attribute_of, spellings
    from apxm.graph.rules.view import nearest

    attribute = attribute_of(row, key)
    if value is UNSET or (value is None and (attribute is None or attribute.type not in ("json", "filled"))):
        return
    if attribute is not None:
        if isinstance(value, (Ref, Way)) and attribute.type not in (*_CAPTURED, "node"):
            ports[key] = value
        else:
            node.attributes[key if attribute.name.endswith("*") else attribute.name] = _plain(value, attribute)
    elif isinstance(value, (Ref, Way)):
        ports[key] = value
    elif row.name == "INV":
        node.attributes[f"arg_{key}"] = _plain(value, None)
    elif row.name == "FLOW_CALL" and isinstance(node.attributes.setdefault("args", {}), dict):
        node.attributes["args"][key] = _plain(value, None)
    else:
        near = nearest(key, (*spellings(row), *_AUTHORING))
        close = f"; close: `{near}`" if near else ""
        raise GraphError(f"{row.name} has no attribute `{key}`{close}", code="graph.unknown_attribute")


def _plain(value: Any, attribute: Attribute | None) -> Any:
    """A value as an attribute holds it: Refs become their placeholders, tuples lists."""
    if isinstance(value, Ref):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item, attribute) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, attribute) for item in value]
    return value


def _several(value: After) -> Iterable[Input]:
    return (value,) if isinstance(value, (Ref, Way)) else value


def _given(op: str) -> tuple[str, ...]:
    """Every name that a region of `op` may not use for something else."""
    return ("pass", "count", *(name for region in ("body", "reduce", "catch") for name in reserved(op, region)))


def _free(wanted: str, taken: set[str | None]) -> str:
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name


class Region:
    """A region as a `with` block: steps written inside it belong to it."""

    __slots__ = ("_first", "_owner", "name")

    def __init__(self, owner: Ref, name: str, first: str | None = None) -> None:
        self._owner, self.name, self._first = owner, name, first

    @property
    def graph(self) -> Graph:
        """The graph of the region, made when it is first asked for; named inputs of the node are its parameters."""
        from apxm.graph.model import Graph, Parameter

        node = self._owner.node
        if self.name not in node.regions:
            around = self._owner.graph
            graph = node.regions[self.name] = Graph(self.name)
            graph._place(around, node.id, self.name)
            if self._first is not None:
                graph.param(self._first, "json")
            kinds = {parameter.name: parameter.type_name for parameter in around.parameters}
            mine = [e for e in around.edges if e.target == node.id and e.dependency.value == "Data"]
            own = own_input(node.op, [edge.port for edge in mine])
            for i, edge in enumerate(mine):
                if edge.port is not None and not is_position(edge.port) and i != own and edge.port not in _given(node.op):
                    graph.parameters.append(Parameter(edge.port, kinds.get(str(edge.source), "json")))
        return node.regions[self.name]

    if not TYPE_CHECKING:

        def __call__(self, *_: object) -> NoReturn:
            raise GraphError(
                f"the region `{self.name}` of `{self._owner.name}` is opened without brackets: `with ...{self.name}:`",
                code="graph.region",
            )

    def __enter__(self) -> Ref:
        graph = self.graph
        self._owner.graph._open(graph)
        return Ref(graph, self._first or "")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._owner.graph._open(None)


class MapRef(Ref):
    """A MAP: `with g.map(items) as item:` writes its body, `with it.reduce as results:` what joins the results."""

    __slots__ = ()

    def __enter__(self) -> Ref:
        return Region(self, "body", "item").__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.graph._open(None)

    @property
    def index(self) -> Ref:
        """The position of the item in the list, inside of the body."""
        return Region(self, "body", "item").graph.param("index", "int")

    @property
    def reduce(self) -> Region:
        """The region that gets the list of results."""
        return Region(self, "reduce", "items")


class LoopRef(Ref):
    """A LOOP: `with g.loop(text=draft, carry=["text"], max_iterations=3) as body:` writes its body, a Graph."""

    __slots__ = ()

    def __enter__(self) -> Graph:
        return Region(self, "body").__enter__().graph

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.graph._open(None)

    @property
    def iteration(self) -> Ref:
        """The number of the iteration, from 0, inside of the body."""
        return Region(self, "body").graph.param("iteration", "int")


class SwitchRef(Ref):
    """A SWITCH: `with s.case("a") as value:` writes the region of a case; `s.on("a")` labels an edge instead."""

    __slots__ = ()

    def case(self, label: str) -> Region:
        """The region of a case."""
        labels = self.node.attributes.get("case_labels")
        if labels is not None and label not in labels:
            labels.append(label)
        return Region(self, label, "input")

    def default(self) -> Region:
        """The region for everything that is no case."""
        return Region(self, "default", "input")


class TryRef(Ref):
    """A TRY_CATCH: `with t.try_:`, `with t.catch as error:`, `with t.finally_:`."""

    __slots__ = ()

    @property
    def try_(self) -> Region:
        """What is tried."""
        return Region(self, "try")

    @property
    def catch(self) -> Region:
        """What runs when it failed."""
        return Region(self, "catch", "error")

    @property
    def finally_(self) -> Region:
        """What always runs last."""
        return Region(self, "finally")


_REFS: dict[str, type[Ref]] = {"MAP": MapRef, "LOOP": LoopRef, "SWITCH": SwitchRef, "TRY_CATCH": TryRef}
