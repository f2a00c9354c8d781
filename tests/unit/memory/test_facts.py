import threading

import pytest

from apxm.config import MemoryConfig
from apxm.errors import InvalidError
from apxm.memory.facts import DAY_S, LOCKS, Facts, fact_id
from apxm.memory.ltm.system import LongTermMemory


class Clock:
    now = 1_000_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ltm(tmp_path, clock):
    made = LongTermMemory(lambda: tmp_path, MemoryConfig(batch_ms=0), clock=clock)
    yield made
    made.close()


@pytest.fixture
def facts(ltm, clock):
    return Facts(ltm, clock=clock)


def texts(found):
    return [fact.text for fact in found]


def test_a_fact_is_read_back_as_it_was_told(facts, clock):
    told = facts.store(
        "  Oslo is in Norway. ", tags=["geo", "north", "geo"], source="atlas", session="s1", labels=["web"], metadata={"page": 7}
    )
    assert facts.get(told.id) == told
    assert (told.text, told.tags, told.source, told.session) == ("Oslo is in Norway.", ("geo", "north"), "atlas", "s1")
    assert (told.metadata, told.labels, told.namespace) == ({"page": 7}, ("web",), "default")
    assert told.created_at == told.updated_at == clock.now
    assert told.score is None


def test_the_id_comes_from_namespace_and_text_and_is_the_same_everywhere(facts):
    assert fact_id("default", "Oslo is in Norway.") == "ff4c6740b4a7ab49ded1ff03a3caf41a"
    assert facts.store("Oslo is in Norway.").id == fact_id("default", "Oslo is in Norway.")
    assert facts.store("Oslo is in Norway.", namespace="other").id == fact_id("other", "Oslo is in Norway.")
    assert facts.store("Oslo.", id="mine").id == "mine"
    assert facts.get("nothing") is None


def test_what_is_told_twice_is_one_fact_told_again(facts, clock):
    first = facts.store("Oslo is in Norway.", tags=["geo"], source="atlas", labels=["web"], metadata={"page": 7})
    clock.now += 10
    again = facts.store(
        "Oslo is in Norway.\n", tags=["north"], source="radio", session="s2", labels=["mail"], metadata={"hour": 9}
    )
    assert facts.count() == 1
    assert again == facts.get(first.id)
    assert (again.tags, again.source, again.session) == (("geo", "north"), "radio", "s2")
    assert (again.labels, again.metadata) == (("web", "mail"), {"page": 7, "hour": 9})
    assert (again.created_at, again.updated_at) == (first.created_at, clock.now)


def test_an_update_changes_what_is_given_and_is_found_by_what_it_says_now(facts, clock):
    told = facts.store("Oslo is in Norway.", tags=["geo"], source="atlas", session="s1", labels=["web"], metadata={"page": 7})
    clock.now += 10
    changed = facts.update(told.id, text="Bergen has a harbour.", labels=["mail"])
    assert changed == facts.get(told.id)
    assert (changed.tags, changed.source, changed.session, changed.metadata) == (("geo",), "atlas", "s1", {"page": 7})
    assert (changed.labels, changed.created_at, changed.updated_at) == (("web", "mail"), told.created_at, clock.now)
    assert texts(facts.search("harbour of Bergen")) == ["Bergen has a harbour."]
    assert facts.search("harbour of Bergen")[0].score > 0.5
    assert not [fact for fact in facts.search("Oslo Norway") if fact.score > 0.3]
    plain = facts.update(told.id, tags=[], source="", session="", metadata={})
    assert (plain.tags, plain.source, plain.session, plain.metadata) == ((), None, None, {})
    assert plain.text == "Bergen has a harbour."
    with pytest.raises(InvalidError, match="there is no fact `nothing` in the namespace `default`"):
        facts.update("nothing", text="x")


def test_a_fact_whose_text_was_changed_is_not_lost_when_the_old_text_is_told_again(facts):
    told = facts.store("Oslo is in Norway.")
    facts.update(told.id, text="Bergen is in Norway.")
    again = facts.store("Oslo is in Norway.")
    assert again.id != told.id
    assert sorted(texts(facts.list())) == ["Bergen is in Norway.", "Oslo is in Norway."]
    assert facts.store("Oslo is in Norway.").id == again.id
    assert facts.count() == 2


def test_a_deleted_fact_is_gone(facts):
    told = facts.store("Oslo is in Norway.")
    assert not facts.delete(told.id, namespace="other")
    assert facts.delete(told.id)
    assert not facts.delete(told.id)
    assert (facts.get(told.id), facts.list(), facts.search("Oslo"), facts.count()) == (None, [], [], 0)


def test_facts_are_listed_the_newest_first_by_tags_source_and_session(facts, clock):
    for i in range(6):
        clock.now += 1
        facts.store(f"fact {i}", tags=["even" if i % 2 == 0 else "odd", "all"], source=f"s{i % 3}", session=f"t{i // 3}")
    facts.store("elsewhere", namespace="other", tags=["all"])
    assert texts(facts.list()) == [f"fact {i}" for i in (5, 4, 3, 2, 1, 0)]
    assert texts(facts.list(limit=2)) == ["fact 5", "fact 4"]
    assert texts(facts.list(tags=["all", "even"])) == ["fact 4", "fact 2", "fact 0"]
    assert texts(facts.list(tags=["even", "odd"])) == []
    assert texts(facts.list(source="s1", session="t0")) == ["fact 1"]
    clock.now += 1
    facts.store("fact 2")
    assert texts(facts.list(limit=2)) == ["fact 2", "fact 5"]
    assert texts(facts.list(namespace="other")) == ["elsewhere"]


def test_a_listing_of_many_has_all_of_them(facts, ltm):
    from apxm.memory.ltm.entry import Put

    ltm.submit([Put("default", f"f{i}", f"fact {i}", f"fact {i}", "fact", {"tags": []}) for i in range(1_100)]).result()
    assert len(facts.list(limit=5_000)) == facts.count() == 1_100


def test_entries_that_are_no_facts_are_no_facts(facts, ltm):
    ltm.put("key", "Oslo is a key", text="Oslo is a key")
    told = facts.store("Oslo is a fact")
    assert texts(facts.search("Oslo")) == texts(facts.list()) == ["Oslo is a fact"]
    assert facts.count() == 1
    assert facts.get("key") is None
    assert ltm.get(told.id) is None
    assert ltm.get(told.id, kind="fact").value == "Oslo is a fact"


def test_of_two_that_say_the_same_the_newer_comes_first_and_age_never_hides_a_better_answer(facts, clock):
    facts.store("The office of Ada is room 12.", id="old")
    facts.store("The office of Bob is downstairs.", id="right")
    clock.now += 60 * DAY_S
    facts.store("The office of Ada is room 44.", id="new")
    by_age = facts.search("office of Ada", mmr=1)
    assert [fact.id for fact in by_age[:2]] == ["new", "old"]
    assert by_age[0].score > by_age[1].score
    assert facts.search("office of Bob downstairs", mmr=1)[0].id == "right"
    ageless = {fact.id: fact.score for fact in facts.search("office of Ada", half_life_days=None)}
    aged = {fact.id: fact.score for fact in facts.search("office of Ada")}
    assert aged["new"] == pytest.approx(ageless["new"])
    assert aged["old"] == pytest.approx(ageless["old"] * (1 - 0.2 * 0.75), abs=1e-5)  # two half-lives
    assert facts.search("office of Ada", half_life_days=1)[0].id == "new"


def test_a_repetition_goes_behind_something_new(facts):
    facts.store("The train to Bergen leaves at nine.", id="a")
    facts.store("The train to Bergen leaves at nine!", id="b")
    facts.store("A train ticket to Bergen costs forty euros in the summer.", id="c")
    assert {fact.id for fact in facts.search("train to Bergen", mmr=1)[:2]} == {"a", "b"}
    assert facts.search("train to Bergen", mmr=0.5)[1].id == "c"


def test_a_search_keeps_tags_limit_and_score(facts):
    for i in range(8):
        facts.store(f"apple number {i}", tags=["even" if i % 2 == 0 else "odd"], source=f"s{i}", session="t")
    assert len(facts.search("apple", limit=3)) == 3
    assert {fact.tags for fact in facts.search("apple", tags=["odd"])} == {("odd",)}
    assert texts(facts.search("apple", source="s3", session="t")) == ["apple number 3"]
    assert all(fact.score >= 0.6 for fact in facts.search("apple number 3", min_score=0.6))
    assert facts.search("apple", namespace="other") == []


def test_many_who_tell_the_same_make_one_fact_with_all_their_tags(facts):
    started = threading.Barrier(8)

    def tell(number):
        started.wait()
        for turn in range(5):
            facts.store(f"fact {turn}", tags=[f"t{number}"])

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert facts.count() == 5
    assert all(len(fact.tags) == 8 for fact in facts.list())
    assert LOCKS > 1


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda facts: facts.store(""), "a fact is a text that says something, this is ''"),
        (lambda facts: facts.store(" \n"), "a fact is a text"),
        (lambda facts: facts.store({"a": 1}), "stores any value"),
        (lambda facts: facts.store("x" * (1024 * 1024 + 1)), "at most 1,048,576 are taken"),
        (lambda facts: facts.store("x", tags="geo"), "`tags` is the text 'geo'"),
        (lambda facts: facts.store("x", tags=[""]), "a tag is a text of 1 to 200 characters"),
        (lambda facts: facts.store("x", tags=[None]), "a tag is None"),
        (lambda facts: facts.store("x", tags=[str(i) for i in range(101)]), "101 tags"),
        (lambda facts: facts.store("x", source=7), "a source is a text"),
        (lambda facts: facts.store("x", session="y" * 201), "a session is a text"),
        (lambda facts: facts.store("x", id=""), "a fact's id is a text"),
        (lambda facts: facts.store("x", metadata={"tags": []}), "has `tags`, which is a field of its own"),
        (lambda facts: facts.get(None), "the id of a fact is None"),
        (lambda facts: facts.delete(7), "a fact's id is a text"),
        (lambda facts: facts.list(limit=0), "`limit` is 0"),
        (lambda facts: facts.search("x", limit=True), "`limit` is True"),
        (lambda facts: facts.search("x", half_life_days=0), "`half_life_days` is 0"),
        (lambda facts: facts.search("x", mmr=1.1), "`mmr` is 1.1"),
        (lambda facts: facts.search("x", min_score=2), "`min_score` is 2"),
        (lambda facts: facts.search(None), "a query is a text"),
    ],
)
def test_what_is_wrong_is_said(facts, call, told):
    with pytest.raises(InvalidError, match=told):
        call(facts)


def test_labels_are_several_texts_and_not_the_letters_of_one(facts, ltm):
    told = facts.store("From a page.", labels=["web"])
    for refused in (
        lambda: facts.store("From a page.", labels="web"),
        lambda: facts.update(told.id, labels="web"),
        lambda: ltm.put("page", "From a page.", labels="web"),
    ):
        with pytest.raises(InvalidError, match=r"`labels` is the text 'web', expected several texts; pass \['web'\]"):
            refused()
    assert facts.get(told.id).labels == ("web",)


def test_a_fact_that_was_imported_with_other_kinds_of_fields_is_read(facts, ltm):
    ltm.put("odd", "", text="Oslo is north.", kind="fact", metadata={"source": 7, "session": 1.5, "tags": "geo"})
    found = facts.list()[0]
    assert (found.source, found.session, found.tags) == ("7", "1.5", ("geo",))
    assert facts.update("odd", text="Oslo is far north.").source == "7"
