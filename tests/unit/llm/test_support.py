import pytest

from apxm.llm.support import NOTE, SURE, verdict

EVIDENCE = """\
# The bridge

The north bridge opens to traffic on 3 May 2024, after two years
of work. The mayor denied that the south bridge is closed.

- Dog bites man.
"""


@pytest.mark.parametrize(
    ("claim", "quote"),
    [
        (
            "The north bridge opens on 3 May.",
            "“The north bridge opens to traffic on 3 May 2024, after two years of work.” [evidence:3]",
        ),
        ("Dog bites man.", "“Dog bites man.” [evidence:6]"),
        ("The mayor denies the south bridge is closed.", None),  # other words turn it: denies, denied
    ],
)
def test_what_the_evidence_says_in_the_same_words_is_confirmed_with_a_quote(claim, quote):
    said = verdict(claim, EVIDENCE)
    if quote is None:
        assert said["verdict"] == "insufficient"
        return
    assert (said["verdict"], said["confidence"]) == ("confirmed", SURE)
    assert quote in said["reasoning"]
    assert said["reasoning"].endswith(NOTE)


@pytest.mark.parametrize(
    ("claim", "why"),
    [
        ("The north bridge opens on 4 May.", "missing: 4"),
        ("Man bites dog.", "another order"),
        ("The south bridge is closed.", "turned by words"),
        ("The north bridge never opens to traffic.", "missing: never"),
        ("The north bridge doesn't open on 3 May.", "turned by words"),
        ("The north bridge may open on 3 June.", "missing"),
        ("The bridge is made of gold.", "missing: made, gold"),
        ("The north bridge opens on 3 May. Dogs fly.", "missing: fly"),  # one of two statements
        ("Dogs.", "“Dog bites man.”"),  # too little to recognise anything
        ("It is.", "no claim that words alone"),
        ("", "no claim that words alone"),
    ],
)
def test_everything_else_is_insufficient_and_says_why(claim, why):
    said = verdict(claim, EVIDENCE)
    assert said["verdict"] == "insufficient"
    assert 0 < said["confidence"] <= 1
    assert why in said["reasoning"]


@pytest.mark.parametrize(
    "evidence",
    [
        "He said it is false that\nthe bridge is open.",  # a line of a sentence is not a sentence
        "- It is a myth that\n  the bridge is open.",
        "Nobody knows whether the bridge is open.",
        "The bridge is not open.",
        "The bridge isn't open.",
        "If it rains, the bridge is open.",
        "The bridge is hardly ever open.",
    ],
)
def test_a_statement_that_is_turned_or_weakened_confirms_nothing(evidence):
    assert verdict("The bridge is open.", evidence)["verdict"] == "insufficient"


def test_a_turned_claim_is_confirmed_by_a_statement_turned_alike():
    assert verdict("The bridge is not open.", "Since May the bridge is not open.")["verdict"] == "confirmed"


@pytest.mark.parametrize(
    ("evidence", "place"),
    [
        ("[log.md:41] The ferry\nsank in June.", "[log.md:41]"),
        ('["The ferry sank in June."]', "[evidence:1]"),
        ('[{"text": "The ferry sank in June.", "source": "b.md", "line": 7}]', "[b.md:7]"),
    ],
)
def test_evidence_is_cited_where_it_stands(evidence, place):
    said = verdict("The ferry sank in June.", evidence)
    assert said["verdict"] == "confirmed"
    assert place in said["reasoning"]


def test_without_evidence_nothing_is_confirmed():
    assert verdict("The ferry sank.", " \n")["verdict"] == "insufficient"


def test_it_never_refutes():
    claims = ("The bridge is open.", "The bridge is not open.", "2 is 3.", "Dog bites man.")
    assert {verdict(claim, other)["verdict"] for claim in claims for other in claims} <= {"confirmed", "insufficient"}
