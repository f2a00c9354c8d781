"""A payload with the right digest and a wrong content: every field is checked."""

from __future__ import annotations

import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from apxm.artifact import Artifact
from apxm.artifact.format import EDGES_MAX, NODES_MAX, seal, unseal
from apxm.compiler.compile import compile
from apxm.errors import ArtifactError
from apxm.graph.ops import OPERATIONS
from tests.unit.artifact.programs import RICH, SMALL

if TYPE_CHECKING:
    from collections.abc import Callable


def _tree(program: dict[str, Any] = RICH) -> Any:
    return msgpack.unpackb(unseal(compile(program).to_bytes()))


def _main(tree: Any) -> Any:
    return next(dag for dag in tree["dags"] if dag["name"] == "main" and dag["parameters"])


def _named(tree: Any, name: str) -> Any:
    return next(dag for dag in tree["dags"] if dag["name"] == name)


def _load(tree: Any) -> Artifact:
    return Artifact.from_bytes(seal(msgpack.packb(tree)))


def _ints(data: bytes, code: str = "I") -> list[int]:
    return list(struct.unpack(f"<{len(data) // struct.calcsize(code)}{code}", data))


def _bytes(values: list[int], code: str = "I") -> bytes:
    return struct.pack(f"<{len(values)}{code}", *values)


def _column(name: str, change: Callable[[list[int]], Any], code: str = "I") -> Callable[[Any], None]:
    """Change the integers of one column of the main dag."""

    def mutate(tree: Any) -> None:
        dag = _main(tree)
        values = _ints(dag[name], code)
        changed = change(values)
        dag[name] = _bytes(values if changed is None else changed, code)

    return mutate


def _put(values: list[int], index: int, value: int) -> None:
    values[index] = value


def _set(*path: Any, value: Any) -> Callable[[Any], None]:
    """Set what is at a path below the main dag."""

    def mutate(tree: Any) -> None:
        place = _main(tree)
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return mutate


def _at(name: str, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    def mutate(tree: Any) -> None:
        dag = _main(tree)
        dag[name] = change(dag[name])

    return mutate


def _payload(name: str, value: Any) -> Callable[[Any], None]:
    return lambda tree: tree.__setitem__(name, value)


def _attribute(op: str, name: str, value: Any) -> Callable[[Any], None]:
    """Set an attribute of the only node of `op`; the value `...` takes it away."""

    def mutate(tree: Any) -> None:
        dag = _main(tree)
        slot = dag["ops"].index(OPERATIONS[op].code)
        attributes = dag["attributes"][_ints(dag["attribute_of"])[slot] - 1]
        if value is ...:
            del attributes[name]
        else:
            attributes[name] = value

    return mutate


def _ops(op: str, other: str) -> Callable[[Any], None]:
    return _at("ops", lambda ops: ops.replace(bytes([OPERATIONS[op].code]), bytes([OPERATIONS[other].code])))


WRONG: dict[str, tuple[Callable[[Any], None], str]] = {
    # the payload
    "an unknown field": (_payload("more", 1), "expected a map with the keys"),
    "a missing field": (lambda tree: tree.pop("level"), "expected a map with the keys"),
    "a field of another type": (_payload("name", 3), "`name` is int"),
    "a boolean for an int": (_payload("entry", True), "`entry` is bool"),
    "an unknown level": (_payload("level", 7), "level 7"),
    "no name": (_payload("name", ""), "expected a name"),
    "an entry that is a region": (_payload("entry", 3), "not one of the flows"),
    "an entry that is not there": (_payload("entry", 99), "not one of the flows"),
    "an entry just behind the dags": (lambda tree: _payload("entry", len(tree["dags"]))(tree), "not one of the flows"),
    "agents that are not sorted": (lambda tree: tree["agents"].reverse(), "expected 0"),
    "an agent twice": (lambda tree: tree["agents"].append({"name": "writer", "metadata": {}, "flows": []}), "different names"),
    "a dag in no agent": (lambda tree: tree["agents"].pop(), "every dag"),
    "a dag for two flows": (lambda tree: tree["agents"][1]["flows"].insert(0, tree["agents"][0]["flows"][0]), "expected 1 of"),
    "a flow twice": (lambda tree: _named(tree, "finder").update(name="main"), "flow `writer.main`: .* there twice"),
    "a capability not named": (lambda tree: tree["agents"][1]["flows"][0]["capabilities"].clear(), "capability manifest"),
    "an effect class not known": (
        lambda tree: tree["agents"][1]["flows"][0]["capabilities"]["search"].update(effect="nice"),
        "no known effect class",
    ),
    "a schema that is no map": (
        lambda tree: tree["agents"][1]["flows"][0]["capabilities"]["search"].update(schema=5),
        "a schema that is no map",
    ),
    "capability facts of another shape": (
        lambda tree: tree["agents"][1]["flows"][0]["capabilities"].update(search={"effect": None}),
        "expected a map with effect, schema",
    ),
    # a dag
    "more nodes than a program may have": (_set("ops", value=bytes(NODES_MAX + 1)), "more than 4000000 nodes"),
    "more nodes than the dags before it leave": (
        lambda tree: tree["dags"][-1].update(ops=bytes(NODES_MAX - len(tree["dags"][-2]["ops"]))),
        "more than 4000000 nodes",
    ),
    "an unknown field of a dag": (_set("extra", value=None), "expected a map with the keys"),
    "a dag that is a list": (lambda tree: tree["dags"].__setitem__(0, []), "found list"),
    "no name of a dag": (_set("name", value=""), "no name"),
    "an unknown operation": (_at("ops", lambda ops: ops[:-1] + b"\xfe"), "operation code 254"),
    "a parameter slot among the nodes": (_at("ops", lambda ops: ops[:-1] + b"\x00"), "operation code 0"),
    "fewer parameter slots than parameters": (_at("ops", lambda ops: b"\x01" + ops[1:]), "slots of parameters first"),
    "a slot too few": (_at("ops", lambda ops: ops[:-1]), "column of"),
    "names too few": (_at("names", lambda names: names.rpartition(b"\0")[0]), "names for"),
    "a name that is no UTF-8": (_at("names", lambda names: names[:-1] + b"\xff"), "no UTF-8"),
    "a parameter with another name": (_at("names", lambda names: b"Q" + names[1:]), "those of the parameters"),
    "an empty name": (_at("names", lambda names: names.replace(b"facts", b"")), "without a name"),
    "an id twice": (_column("ids", lambda ids: _put(ids, 4, ids[5]), "q"), "ids must be different"),
    "a negative id": (_column("ids", lambda ids: _put(ids, 4, -5), "q"), "not negative"),
    "a parameter with an id": (_column("ids", lambda ids: _put(ids, 0, 50), "q"), "those of parameters -1"),
    "a negative rank": (_column("ranks", lambda ranks: _put(ranks, 4, -1), "q"), "negative rank"),
    "a column with half a number": (_at("ranks", lambda ranks: ranks[:-3]), "column of"),
    "offsets that fall": (_column("offsets", lambda o: _put(o, -2, 0)), "offsets must grow"),
    "offsets beyond the edges": (_column("offsets", lambda o: _put(o, -1, o[-1] + 1)), "offsets must grow"),
    "offsets from one": (_column("offsets", lambda o: _put(o, 0, 1)), "offsets must grow"),
    "an edge into a parameter": (_column("offsets", lambda o: _put(o, 2, 1)), "offsets must grow"),
    "an edge into the last parameter": (
        _column("offsets", lambda o: [0, 0, 0, *(max(1, end) for end in o[3:])]),
        "offsets must grow",
    ),
    "an edge from a later slot": (_column("sources", lambda s: _put(s, 0, 9)), "does not come later"),
    "an edge from itself": (_column("sources", lambda s: _put(s, 0, 4)), "does not come later"),
    "an edge from far outside": (_column("sources", lambda s: _put(s, 0, 2**32 - 1)), "does not come later"),
    "an unknown kind of edge": (_at("kinds", lambda kinds: kinds[:-1] + b"\x03"), "unknown kind"),
    "Control before Data": (_at("kinds", lambda kinds: b"\x01" + kinds[1:]), "Data, then Control"),
    "an exit that is a parameter": (_set("exits", value=_bytes([0])), "exits must be"),
    "an exit that is not there": (_set("exits", value=_bytes([1000])), "exits must be"),
    "an exit just behind the nodes": (
        lambda tree: _set("exits", value=_bytes([len(_main(tree)["ops"])]))(tree),
        "exits must be",
    ),
    "an exit twice": (_set("exits", value=_bytes([5, 5])), "exits must be"),
    "no exit": (_set("exits", value=b""), "one at least"),
    "exits that end in half a number": (_set("exits", value=_bytes([5])[:-1]), "column of"),
    "two exits with one name": (
        lambda tree: (
            _at("names", lambda n: n.replace(b"brief", b"log"))(tree),
            _set("exits", value=_bytes([6, 8]))(tree),
        ),
        "same name",
    ),
    "a parameter of an unknown type": (_set("parameters", 0, value=["question", "text"]), "unknown type"),
    "a parameter without a type": (_set("parameters", 0, value=["question"]), "expected a list of str, str"),
    "a parameter twice": (_set("parameters", 1, value=["question", "str"]), "there twice"),
    "a port on no edge": (_set("ports", 1, value=_bytes([0, 1, 2, 99, 100])), "ports"),
    "a port just behind the edges": (
        lambda tree: _at("ports", lambda p: [p[0], p[1][:-4] + _bytes([len(_main(tree)["kinds"])]), p[2]])(tree),
        "stay below",
    ),
    "a port twice": (_at("ports", lambda p: [p[0], p[1][:4] + p[1][:4] + p[1][8:], p[2]]), "must grow"),
    "a port text that nothing uses": (_at("ports", lambda p: [[*p[0], "unused"], p[1], p[2]]), "not all that are"),
    "a port text beyond the table": (_at("ports", lambda p: [p[0], p[1], _bytes([9] * (len(p[2]) // 4))]), "not there"),
    "a port text just behind the table": (_at("ports", lambda p: [p[0][:-1], p[1], p[2]]), "not there"),
    "a port text twice": (_at("ports", lambda p: [[*p[0][:-1], p[0][0]], p[1], p[2]]), "distinct texts"),
    "a port that is no text": (_at("ports", lambda p: [[*p[0][:-1], 1], p[1], p[2]]), "distinct texts"),
    "a port that is empty": (_at("ports", lambda p: [[*p[0][:-1], ""], p[1], p[2]]), "distinct texts"),
    "a port on a Control edge": (
        lambda tree: _set("ports", value=[["x"], _bytes([_main(tree)["kinds"].index(1)]), _bytes([0])])(tree),
        "carries no value",
    ),
    "a label on no edge": (_at("labels", lambda p: [p[0], _bytes([98, 99]), p[2]]), "stay below"),
    "an attribute map that nothing uses": (_at("attributes", lambda table: [*table, {"value": 1}]), "not all that are"),
    "an attribute map that is empty": (_set("attributes", 0, value={}), "not empty"),
    "an attribute map that is none": (_set("attributes", 0, value=[1]), "expected maps"),
    "attributes of a parameter": (_column("attribute_of", lambda a: _put(a, 0, 1)), "has attributes"),
    "metadata that is a list": (_set("metadata", value=[]), "`metadata` is list"),
    "a region at a node that has none": (_set("regions", 0, 0, value=3), "does not have"),
    "a region with another name": (_set("regions", 0, 1, value="main"), "does not have"),
    "a region that is missing": (_at("regions", lambda r: r[1:]), "region"),
    "a region out of order": (_at("regions", lambda r: r[::-1]), "not sorted"),
    "a region at no node": (_set("regions", 1, 0, value=500), "stay below"),
    "a region that is its own dag": (_set("regions", 0, 2, value=0), "expected"),
    "a region beyond the dags": (_set("regions", 0, 2, value=70), "expected"),
    # the operation table
    "an attribute it does not have": (_attribute("PRINT", "colour", "red"), "'colour', which it does not have"),
    "an alias": (_attribute("ASK", "prompt", "x"), "'prompt', which it does not have"),
    "a reference to a node": (_attribute("BRANCH_ON_VALUE", "label_true", "4"), "does not have|expected"),
    "an attribute of another type": (_attribute("ASK", "temperature", "hot"), "temperature"),
    "a boolean for a number": (_attribute("LOOP", "max_iterations", True), "is bool"),
    "a number that is too small": (_attribute("MAP", "window", 0), "less than 1"),
    "a choice that is none": (_attribute("MAP", "on_item_error", "hope"), "not one of"),
    "a list with something else": (_attribute("LOOP", "carry", ["text", 3]), "list of names"),
    "an empty name of a flow": (_attribute("FLOW_CALL", "flow_name", ""), "empty name"),
    "a required attribute that is missing": (_attribute("FLOW_CALL", "flow_name", ...), "is missing"),
    "an operation with other attributes": (_ops("PRINT", "QMEM"), "which it does not have"),
    "too many inputs": (_ops("MAP", "LOOP_END"), "which it does not have|regions"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_content_is_refused_and_says_what(name):
    mutate, expected = WRONG[name]
    tree = _tree()
    mutate(tree)
    with pytest.raises(ArtifactError, match=expected):
        _load(tree)


def test_the_tree_that_the_cases_start_from_is_right():
    assert _load(_tree()).digest == compile(RICH).digest


@pytest.mark.parametrize(("dag", "too_many"), [(0, 1), (-1, 0)])
def test_more_edges_than_a_program_may_have_are_refused(dag, too_many):
    tree = _tree()
    tree["dags"][dag]["kinds"] = bytes(EDGES_MAX + too_many)
    with pytest.raises(ArtifactError, match="16000000 edges"):
        Artifact.from_bytes(seal(msgpack.packb(tree)), max_bytes=1 << 26)


def test_a_key_given_twice_is_refused():
    payload = unseal(compile(SMALL).to_bytes())
    twice = payload.replace(b"\x81\xa5value\xa2hi", b"\x82\xa5value\xa2hi\xa5value\xa2ha")
    assert twice != payload
    with pytest.raises(ArtifactError, match="a key given twice"):
        Artifact.from_bytes(seal(twice))


def test_a_number_written_longer_than_needed_is_refused():
    payload = unseal(compile(SMALL).to_bytes())
    longer = payload.replace(b"\xa5level\x01", b"\xa5level\xcc\x01")
    assert longer != payload
    with pytest.raises(ArtifactError, match="longer form"):
        Artifact.from_bytes(seal(longer))


def test_text_that_is_no_utf_8_is_refused():
    payload = unseal(compile(SMALL).to_bytes()).replace(b"\xa2hi", b"\xa2\xff\xfe")
    with pytest.raises(ArtifactError, match="no msgpack of ours"):
        Artifact.from_bytes(seal(payload))


def test_bytes_like_objects_are_taken():
    data = compile(SMALL).to_bytes()
    assert Artifact.from_bytes(bytearray(data)).to_bytes() == data  # type: ignore[arg-type]


def test_nodes_with_the_same_attributes_share_one_map():
    nodes = [{"id": i, "name": f"n{i}", "op": "INV", "attributes": {"capability": "same"}} for i in range(1, 4)]
    dag = Artifact.from_bytes(compile({"name": "g", "nodes": nodes, "edges": []}).to_bytes()).into_dag()
    assert dag.attributes[0] is dag.attributes[1] is dag.attributes[2]


def test_a_loop_without_a_body_and_a_prompt_without_anything_are_refused():
    tree = _tree(SMALL)
    for op, attributes, expected in (
        ("LOOP", {"max_iterations": 1}, "no region `body`"),
        ("ASK", {"temperature": 1.0}, "needs one of"),
        ("GUARD", {"condition": "true"}, "has 0 inputs"),
    ):
        tree["dags"][0]["ops"] = bytes([OPERATIONS[op].code])
        tree["dags"][0]["attributes"] = [attributes]
        with pytest.raises(ArtifactError, match=expected):
            _load(tree)


def test_regions_nested_deeper_than_the_limit_are_refused():
    tree = _tree(SMALL)
    leaf = tree["dags"][0]

    def holder(index: int) -> dict[str, Any]:
        return {
            **leaf,
            "ops": bytes([OPERATIONS["LOOP"].code]),
            "attributes": [{"max_iterations": 1}],
            "regions": [[0, "body", index]],
        }

    for depth, fine in ((31, True), (32, False)):
        tree["dags"] = [*(holder(i + 1) for i in range(depth)), leaf]
        if fine:
            assert _load(tree).into_dag().node_count == 1
        else:
            with pytest.raises(ArtifactError, match="deeper than 32"):
                _load(tree)


def test_a_node_with_more_inputs_than_its_operation_takes_is_refused():
    nodes = [{"id": place, "name": f"c{place}", "op": "CONST_STR", "attributes": {"value": place}} for place in (1, 2)]
    both = [{"from": 1, "to": 3}, {"from": 2, "to": 3}]
    graph = {"name": "g", "nodes": [*nodes, {"id": 3, "name": "end", "op": "WAIT_ALL"}], "edges": both}
    tree = msgpack.unpackb(unseal(compile(graph, level=0).to_bytes()))
    tree["dags"][0]["ops"] = tree["dags"][0]["ops"][:2] + bytes([OPERATIONS["RETURN"].code])
    with pytest.raises(ArtifactError, match="RETURN `end` has 2 inputs"):
        _load(tree)


def test_a_dag_without_nodes_is_refused():
    tree = _tree(SMALL)
    nothing = dict.fromkeys(("ops", "ids", "names", "sources", "kinds", "exits", "ranks", "attribute_of"), b"")
    tree["dags"][0] |= nothing | {"offsets": _bytes([0]), "attributes": []}
    with pytest.raises(ArtifactError, match="it has no nodes"):
        _load(tree)


def test_a_node_without_attributes_that_needs_one_is_refused():
    tree = _tree(SMALL)
    tree["dags"][0] |= {"ops": bytes([OPERATIONS["INV"].code]), "attributes": [], "attribute_of": _bytes([0])}
    with pytest.raises(ArtifactError, match="INV `hello`: attribute `capability` is missing"):
        _load(tree)


_LITTLE_MEMORY = """
import resource, sys
import msgpack
from apxm.artifact import Artifact
from apxm.artifact.format import seal, unseal
from apxm.errors import ArtifactError
tree = msgpack.unpackb(unseal(bytes.fromhex(sys.argv[1])))
tree["metadata"] = {"many": [0] * 1_500_000}
data = seal(msgpack.packb(tree))
Artifact.from_bytes(bytes.fromhex(sys.argv[1]))
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 4_000_000, resource.RLIM_INFINITY))
try:
    Artifact.from_bytes(data)
except ArtifactError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by /proc and RLIMIT_AS")
def test_an_artifact_that_needs_more_memory_than_there_is_is_refused():
    command = [sys.executable, "-c", _LITTLE_MEMORY, compile(SMALL).to_bytes().hex()]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout == "the artifact needs more memory than there is\n"


def test_an_error_does_not_repeat_megabytes_of_what_it_found():
    with pytest.raises(ArtifactError, match="expected a map with the keys") as refused:
        _load({"x" * 1_000_000: 1})
    assert len(str(refused.value)) < 1_000
    tree = _tree(SMALL)
    tree["dags"][0]["parameters"] = [["x" * 1_000_000, "none"]]
    with pytest.raises(ArtifactError, match="xxx …") as refused:
        _load(tree)
    assert len(str(refused.value)) < 1_000
