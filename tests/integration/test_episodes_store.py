"""Episodes on disk: several processes, kills at every step, disks that are full or may not be written, what a run feels of it."""

import json
import logging
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from apxm import MemoryConfig, RunOptions, Runtime, RuntimeConfig, ScriptedModel
from apxm.errors import ApxmError, StorageError
from apxm.graph.contract import from_json
from apxm.memory.episodic import tables
from apxm.memory.episodic.store import StoredEpisodes

PLACE = "((), 3, 'get', 'INV', 'main', 'a')"


def python(code, *given, timeout=120):
    """Run a program in a process of its own; gives what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, given)], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def opened(folder, **config):
    return StoredEpisodes(lambda: Path(folder), **config)


# ---- processes -------------------------------------------------------------------------------------------------------
APPEND = f"""
import sys
from pathlib import Path
from apxm.memory.episodic.store import StoredEpisodes
kept = StoredEpisodes(lambda: Path(sys.argv[1]), entries_max=1_000_000)
for number in range(int(sys.argv[3])):
    kept.add(sys.argv[2], {PLACE}, "capability", str(number), 1.0)
    if number % 100 == 0:
        kept.flush()
kept.close()
assert kept.stats().dropped == 0
"""


def test_processes_append_at_the_same_time_and_nothing_is_lost_or_numbered_twice(tmp_path, long_run):
    each, names = (20_000 if long_run else 1_000), ["one", "two", "three"]
    running = [subprocess.Popen([sys.executable, "-c", APPEND, str(tmp_path), name, str(each)]) for name in names]
    assert [one.wait(300) for one in running] == [0, 0, 0]
    kept = opened(tmp_path, entries_max=1_000_000)
    assert sorted(one.number for one in kept) == list(range(1, 3 * each + 1))
    for name in names:
        assert [int(one.target) for one in kept.find(run=name)] == list(reversed(range(each)))
    kept.close()


KILLED = f"""
import os, random, signal, sys
from pathlib import Path
from apxm.fault import at_faults
from apxm.memory.episodic.store import StoredEpisodes
import msgpack, logging
folder, rounds, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
total = 0
for turn in range(rounds):
    site, nth = chance.choice(["episodes.before_commit", "episodes.after_commit"]), chance.randrange(1, 6)
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        seen = 0
        def hook(here):
            global seen
            seen += here == site
            if seen == nth:
                os.kill(os.getpid(), signal.SIGKILL)
        with at_faults(hook):
            kept = StoredEpisodes(lambda: folder, entries_max=1_000_000)
            for number in range(100_000):
                kept.add(f"r{{turn}}", {PLACE}, "capability", str(number), 1.0)
                if number % 50 == 49:
                    kept.flush()
                    os.write(writes, b"%d " % (number + 1))
        os._exit(1)
    os.close(writes)
    said = os.fdopen(reads, "rb").read().split()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), status
    acknowledged = int(said[-1]) if said else 0
    kept = StoredEpisodes(lambda: folder, entries_max=1_000_000)
    found = [int(one.target) for one in reversed(kept.find(run=f"r{{turn}}"))]
    assert found == list(range(len(found))), (turn, site, nth)
    assert len(found) >= acknowledged, (turn, site, nth, len(found), acknowledged)
    assert acknowledged or nth == 1
    total += len(found)
    assert [one.number for one in kept] == list(range(total, 0, -1))
    kept.close()
print(total)
"""


def test_killed_at_every_step_the_file_is_whole_and_has_what_was_acknowledged(tmp_path, seed, long_run):
    total = int(python(KILLED, tmp_path, 100 if long_run else 12, seed, timeout=600))
    assert total > 0
    with sqlite3.connect(tmp_path / tables.FILE) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    file.close()


ENDS = f"""
import os, sys
from pathlib import Path
from apxm.errors import StorageError
from apxm.memory.episodic.store import StoredEpisodes
kept = StoredEpisodes(lambda: Path(sys.argv[1]))
kept.add("r", {PLACE}, "capability", "before", 1.0)
kept.flush()
child = os.fork()
if not child:
    kept.add("r", {PLACE}, "capability", "of the child", 1.0)
    try:
        kept.record("r", {PLACE}, "k", 1)
    except StorageError as error:
        os._exit(0 if kept._waiting.dropped == 2 else 2)
    os._exit(1)
assert os.waitpid(child, 0)[1] == 0
for number in range(100):
    kept.add("r", {PLACE}, "capability", str(number), 1.0)
"""


def test_a_process_that_ends_without_closing_loses_nothing_and_one_that_is_forked_writes_nothing(tmp_path):
    python(ENDS, tmp_path)
    kept = opened(tmp_path)
    assert [one.target for one in reversed(list(kept))] == ["before", *map(str, range(100))]
    kept.close()


# ---- disks -----------------------------------------------------------------------------------------------------------
FULL = f"""
import logging, resource, signal, sys
from pathlib import Path
from apxm.errors import StorageError
from apxm.memory.episodic.store import StoredEpisodes
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
kept = StoredEpisodes(lambda: Path(sys.argv[1]), entries_max=1_000_000)
kept.record("r", {PLACE}, "first", "kept")
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))  # files grow no further, as on a full disk
acknowledged = 0
try:
    while True:
        kept.record("r", {PLACE}, "more", "x" * 1_000)
        acknowledged += 1
except StorageError as error:
    assert "episodes.db cannot be used" in str(error), error
for number in range(1_000):
    kept.add("r", {PLACE}, "capability", "in the dark", 1.0)  # a run goes on
assert kept.pending and kept.stats().failure
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))  # somebody made room
kept.flush()
found = kept.find()
assert len([one for one in found if one.target == "in the dark"]) == 1_000
assert acknowledged <= len([one for one in found if one.target == "more"]) <= acknowledged + 1
assert kept.last("first", "a").value == "kept" and acknowledged > 10
assert kept.stats().dropped == 0 and kept.stats().failure is None
kept.close()
"""


def test_a_full_disk_fails_records_and_no_run_and_what_waits_is_written_when_there_is_room(tmp_path):
    python(FULL, tmp_path)


READ_ONLY = f"""
import logging, msgpack, os, sqlite3, sys
from pathlib import Path
from apxm.errors import StorageError
from apxm.memory.episodic import redaction, store
if os.geteuid() == 0:
    os.setuid(65534)  # root may write everywhere
kept = store.StoredEpisodes(lambda: Path(sys.argv[1]))
assert [one.value for one in kept] == ["there"]
assert kept.last("k", "a").value == "there"
kept.add("r", {PLACE}, "capability", "lost", 1.0)
for use in (kept.flush, lambda: kept.record("r", {PLACE}, "k", 1)):
    try:
        use()
    except StorageError as error:
        print(error)
    else:
        raise AssertionError("it was written")
kept.close()
assert kept.stats().dropped == 2
"""


def test_a_folder_that_may_not_be_written_can_be_read():
    with tempfile.TemporaryDirectory() as folder:
        first = opened(folder)
        first.record("r", eval(PLACE), "k", "there")
        first.close()
        for path in (Path(folder), Path(folder) / tables.FILE):
            path.chmod(0o555)
        try:
            said = python(READ_ONLY, folder).splitlines()
        finally:
            Path(folder).chmod(0o755)
    assert len(said) == 2
    assert all("episodes.db cannot be used" in line for line in said)


# ---- runs ------------------------------------------------------------------------------------------------------------
LEARNED = {"insights": ["i"], "patterns": [], "recommendations": ["r"], "summary": "s"}


def runtime(folder, **memory):
    config = MemoryConfig(**{"folder": str(folder / "memory"), "episodic": "sqlite"} | memory)
    made = Runtime(RuntimeConfig(memory_config=config, state_dir=str(folder)), model=ScriptedModel(rules=[(".", LEARNED)]))
    tries = []

    @made.capability(effect="guarded", run="inline")
    def send(text: str) -> str:
        return f"sent {text}"

    @made.capability(effect="pure")
    def double(number: int) -> int:
        return 2 * number

    @made.capability(effect="pure")
    def half(number: int) -> float:
        return 1 / number

    @made.capability(effect="read")
    async def flaky(text: str) -> str:
        from apxm.errors import TransientError

        tries.append(text)
        if len(tries) == 1:
            raise TransientError("not yet")
        return text

    return made


def graph(*nodes, edges=()):
    made = [{"id": at, "name": name, "op": op, "attributes": given} for at, (name, op, given) in enumerate(nodes, 1)]
    lines = [dict(zip(("from", "to", "port"), edge)) for edge in edges]
    return from_json(json.dumps({"name": "main", "nodes": made, "edges": lines}))


def inv(name, capability, **given):
    return (name, "INV", {"capability": capability, **given})


SEND = graph(inv("a", "send", arg_text="x"))


def test_a_later_process_reflects_on_what_an_earlier_one_did(tmp_path):
    with runtime(tmp_path) as made:
        made.execute(SEND, run=RunOptions(run_id="r-1"))
    with runtime(tmp_path) as made:
        made.execute(graph(("back", "REFLECT", {})))
        text = made.models.resolve(None)[1].calls[-1].text
        assert "Earlier episodes of this agent" in text
        assert "`a` INV capability:send: done in" in text
        made.execute(graph(("back", "REFLECT", {"trace_id": "r-1"})))
        assert "`a` INV capability:send: done in" in made.models.resolve(None)[1].calls[-1].text
    with runtime(tmp_path) as made:
        assert [one.kind for one in made.memory.episodes] == ["reflection", "model"] * 2 + ["capability"]


def test_what_a_program_puts_on_record_is_there_for_the_next_process(tmp_path):
    with runtime(tmp_path) as made:
        made.execute(
            graph(("say", "ASK", {"prompt": "Say."}), ("keep", "UMEM", {"key": "k", "memory_tier": "episodic"}), edges=[(1, 2)])
        )
    with runtime(tmp_path) as made:
        read = made.execute(graph(("read", "QMEM", {"memory_tier": "episodic", "key": "k"})))
        assert (json.loads(read.value), read.labels("read")) == (LEARNED, {"memory:episodic", "llm:scripted"})


def test_a_store_that_fails_fails_no_run_but_what_asks_for_certainty(tmp_path, caplog):
    (tmp_path / "memory").mkdir(mode=0o700)
    (tmp_path / "memory" / tables.FILE).write_bytes(b"no database" * 1_000)
    with runtime(tmp_path, episode_scope="all") as made, caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert made.execute(SEND).value == "sent x"
        with pytest.raises(ApxmError, match="damaged or no file of apxm") as refused:
            made.execute(graph(("keep", "UMEM", {"key": "k", "value": 1, "memory_tier": "episodic"})))
        assert refused.value.code == "storage"
        with pytest.raises(ApxmError, match="damaged or no file of apxm"):
            made.execute(graph(inv("a", "send", arg_text="x"), ("f", "FENCE", {}), edges=[(1, 2)]))
        with pytest.raises(StorageError):
            made.memory.episodes.find()
    assert len([one for one in caplog.records if "not written for now" in one.message]) == 1


# ---- every firing ----------------------------------------------------------------------------------------------------
BODY = {
    "nodes": [{"id": 1, "name": "twice", "op": "INV", "attributes": {"capability": "double"}}],
    "edges": [{"from": "item", "to": 1, "port": "number"}],
    "parameters": [{"name": "item", "type_name": "int"}],
}
LOOPED = {
    "name": "main",
    "nodes": [
        {"id": 1, "name": "list", "op": "CONST_STR", "attributes": {"value": [1, 2, 3]}},
        {"id": 2, "name": "each", "op": "MAP", "regions": {"body": BODY}},
        {"id": 3, "name": "sum", "op": "MERGE", "attributes": {"mode": "array"}},
        {"id": 4, "name": "tell", "op": "INV", "attributes": {"capability": "flaky", "arg_text": "x"}},
    ],
    "edges": [{"from": 1, "to": 2}, {"from": 2, "to": 3}, {"from": 3, "to": 4, "dependency": "Effect"}],
}


@pytest.mark.parametrize("where", ["memory", "sqlite"])
@pytest.mark.parametrize("trace", [False, True])
def test_every_firing_of_a_node_is_an_episode(tmp_path, where, trace):
    with runtime(tmp_path, episodic=where, episode_scope="all") as made:
        result = made.execute(from_json(json.dumps(LOOPED)), run=RunOptions(run_id="r", trace=trace))
        fired = made.memory.episodes.find(run="r", kind="firing")
        assert sorted((one.name, one.path, one.op, one.outcome) for one in fired) == [
            ("each", (), "MAP", "done"),
            ("list", (), "CONST_STR", "done"),
            ("sum", (), "MERGE", "done"),
            ("tell", (), "INV", "done"),
            *(("twice", ((2, item),), "INV", "done") for item in range(3)),
        ]
        tell = next(one for one in fired if one.name == "tell")
        assert (tell.attempt, tell.flow, tell.agent, tell.node, tell.content) == (1, "main", "default", 4, None)
        each = next(one for one in fired if one.name == "each")
        assert 0 <= next(one for one in fired if one.name == "twice").duration_ms <= each.duration_ms
        assert [one.target for one in made.memory.episodes.find(kind="capability")] == ["flaky", "flaky"]
        assert result.stats.executed == 7


def test_a_node_that_fails_says_so_and_one_that_never_began_says_nothing(tmp_path):
    nodes = [("zero", "CONST_STR", {"value": 0}), inv("bad", "half"), inv("after", "double")]
    with runtime(tmp_path, episode_scope="all", episode_content="text") as made:
        with pytest.raises(ApxmError):
            made.execute(graph(*nodes, edges=[(1, 2, "number"), (2, 3, "number")]))
        fired = {one.name: one for one in made.memory.episodes.find(kind="firing")}
        assert sorted(fired) == ["bad", "zero"]
        assert (fired["bad"].outcome, fired["bad"].code) == ("failed", "capability")
        assert "division by zero" in fired["bad"].content["error"]
        assert (fired["zero"].content, fired["zero"].labels) == ({"value": "0"}, ())


@pytest.mark.parametrize(("policy", "seen"), [("off", None), ("digest", "blake2b:"), ("text", "[2, 4, 6]")])
def test_values_are_kept_by_policy(tmp_path, policy, seen):
    with runtime(tmp_path, episode_scope="all", episode_content=policy) as made:
        made.execute(from_json(json.dumps(LOOPED)))
        (one,) = made.memory.episodes.find(target="each")
        assert (one.content is None) if seen is None else one.content["value"].startswith(seen)


def test_reflect_shows_firings_to_who_asks_for_them_alone(tmp_path):
    with runtime(tmp_path, episode_scope="all") as made:
        made.execute(SEND, run=RunOptions(run_id="r-1"))
        for trace, seen in ((None, False), ("r-1", False), ("firing", True), ("firing:a", True)):
            made.execute(graph(("back", "REFLECT", {} if trace is None else {"trace_id": trace})))
            assert ("INV firing:a" in made.models.resolve(None)[1].calls[-1].text) == seen, trace


def test_secrets_of_the_settings_are_in_no_episode(tmp_path, monkeypatch):
    from apxm.settings.secret import Secret

    monkeypatch.setenv("A_KEY_OF_OURS", "correct horse battery")
    assert Secret("env", "A_KEY_OF_OURS").resolve("test", {"A_KEY_OF_OURS": "correct horse battery"})
    with runtime(tmp_path, episode_content="text") as made:
        made.execute(graph(inv("a", "send", arg_text="it is correct horse battery, password=hunter2")))
        (one,) = made.memory.episodes
        assert one.content["result"] == "sent it is [redacted], password=[redacted]"
    data = b"".join(file.read_bytes() for file in (tmp_path / "memory").iterdir())
    assert b"hunter2" not in data
    assert b"battery" not in data
