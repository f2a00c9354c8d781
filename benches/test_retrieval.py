"""What searches of long-term memory find in real text, against brute force and against what a person would look for.

Figures of finding, not of time. The default embedder is measured: no embedder that knows meanings is at hand without a download.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import numpy as np
import pytest

from apxm import MemoryConfig
from apxm.llm.text import terms
from apxm.memory.ltm import ranking
from apxm.memory.ltm.entry import Put
from apxm.memory.ltm.system import LongTermMemory
from apxm.memory.ltm.words import term_of, words_of
from benches.corpus import docstrings, sections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from benches.conftest import Notes
    from benches.corpus import Document

QUERIES = 200
AT = 10

# What somebody might ask who does not know the word, and what answers it: no term of a question is in its answer.
PARAPHRASES = {
    "erase a folder with everything inside it": "shutil.rmtree",
    "unindent a paragraph": "textwrap.dedent",
    "add an element to an ordered sequence at its proper place": "bisect.insort_left",
    "the figure with as many observations below as above": "statistics.median",
    "combine several ranked feeds": "heapq.merge",
    "remember earlier answers so nothing is computed twice": "functools.lru_cache",
    "have somebody enter a secret unseen": "getpass.unix_getpass",
    "show an internet address in Firefox": "webbrowser.open",
    "suggest spellings near a mistyped term": "difflib.get_close_matches",
    "make every initial letter upper case": "string.capwords",
    "make a scratch folder nobody else has": "tempfile.mkdtemp",
    "find documents by asterisk": "glob.glob",
    "turn binary into printable ASCII": "base64.b64encode",
    "show how something was programmed": "inspect.getsource",
    "make an unguessable identifier for links": "secrets.token_urlsafe",
    "parse a network host number": "ipaddress.ip_address",
    "deliver a letter electronically": "smtplib.SMTP.sendmail",
    "pause until parallel work has finished": "threading.Thread.join",
    "simplest ratio approximating a decimal": "fractions.Fraction.limit_denominator",
    "how spread out measurements are": "statistics.stdev",
    "prevent markup injection on a web page": "html.escape",
    "keep key value pairs between program runs": "shelve.open",
    "where is an executable installed": "shutil.which",
    "is one document a duplicate of another": "filecmp.cmp",
    "read curly braces notation sent by a web service": "json.loads",
    "unpack a tarball": "tarfile.TarFile.extractall",
    "which answer was given most frequently": "statistics.mode",
    "pick several at chance without repetition": "random.Random.sample",
    "shrink bytes to save space": "gzip.compress",
    "measure how fast code runs": "timeit.Timer.timeit",
    "see how a revision departs from its predecessor": "difflib.unified_diff",
    "put something elsewhere on disk": "shutil.move",
    "tally how often each thing occurs": "collections.Counter.most_common",
    "cut off a long sentence with an ellipsis": "textwrap.shorten",
    "sign in to a mailbox": "imaplib.IMAP4.login",
    "dial a remote TCP server": "socket.create_connection",
}


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return [*sections(), *docstrings()]


@pytest.fixture(scope="module")
def folder(documents: list[Document], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A memory of all documents: bodies without their titles, and in another namespace both."""
    made = tmp_path_factory.mktemp("retrieval")
    ltm = LongTermMemory(lambda: made, MemoryConfig())
    ltm.submit([Put("bodies", one.key, None, one.body) for one in documents]).result()
    ltm.submit([Put("whole", one.key, None, f"{one.title}\n{one.body}") for one in documents]).result()
    ltm.close()
    return made


@pytest.fixture
def ltm(folder: Path) -> Iterator[LongTermMemory]:
    made = LongTermMemory(lambda: folder, MemoryConfig())
    yield made
    made.close()


@pytest.fixture
def indexed(folder: Path) -> Iterator[LongTermMemory]:
    """The same, every search of which asks the index."""
    pytest.importorskip("chromadb")
    made = LongTermMemory(lambda: folder, MemoryConfig(exact_max=0))
    made.search("what opens the index", namespace="bodies", mode="vector")
    made.flush()
    yield made
    made.close()


def asked(documents: Sequence[Document]) -> list[Document]:
    """Some of them, spread over all, whose titles say something."""
    telling = [one for one in documents if len(terms(one.title)) >= 2]
    return telling[:: max(1, len(telling) // QUERIES)][:QUERIES]


def recall(found: Callable[[str], Sequence[str]], expected: Callable[[str], Sequence[str]], queries: Sequence[str]) -> float:
    """How much of what brute force finds is found, on average."""
    shares = []
    for query in queries:
        wanted = expected(query)
        if wanted:
            shares.append(len(set(wanted).intersection(found(query))) / len(wanted))
    return float(np.mean(shares))


def test_the_index_finds_what_brute_force_finds(notes: Notes, documents: list[Document], indexed: LongTermMemory) -> None:
    exact = BruteForce(indexed, "bodies")
    queries = [one.title for one in asked(documents)]
    got = recall(lambda query: keys(indexed, query, "bodies", "vector"), exact.by_vector, queries)
    notes.note("retrieval", "index, recall@10 of brute force", len(documents), len(queries), f"{got:.3f}", "≥ 0.95", got >= 0.95)


def test_the_hybrid_finds_what_a_brute_force_hybrid_finds(
    notes: Notes, documents: list[Document], ltm: LongTermMemory, indexed: LongTermMemory
) -> None:
    exact = BruteForce(ltm, "bodies")
    queries = [one.title for one in asked(documents)]
    for name, memory in (("exact", ltm), ("index", indexed)):
        got = recall(lambda query, memory=memory: keys(memory, query, "bodies", "hybrid"), exact.hybrid, queries)
        variant = f"hybrid over {name}, recall@10 of brute force"
        notes.note("retrieval", variant, len(documents), len(queries), f"{got:.3f}", "≥ 0.9", got >= 0.9)


def test_known_items_are_found(notes: Notes, documents: list[Document], ltm: LongTermMemory) -> None:
    of_docs = [one for one in asked(sections()) if len(one.body) >= 200]
    of_python = [one for one in asked(docstrings()) if len(one.body) >= 200]
    tasks = {
        "title of a docs section → its body": ("bodies", [(one.title, one.key) for one in of_docs]),
        "first sentence of a docstring → the rest": ("bodies", [(one.title, one.key) for one in of_python]),
        "first sentence of a docstring → the whole": ("whole", [(one.title, one.key) for one in of_python]),
        "paraphrase without a shared word → the whole": ("whole", list(PARAPHRASES.items())),
    }
    for task, (namespace, pairs) in tasks.items():
        for mode in ("lexical", "vector", "hybrid"):
            hits = np.mean([key in keys(ltm, query, namespace, mode) for query, key in pairs])
            notes.note("retrieval", f"{task}: {mode}", len(documents), len(pairs), f"{hits:.2f} hit@10")


def test_no_paraphrase_shares_a_term_with_its_answer(documents: list[Document]) -> None:
    answers = {one.key: set(terms(f"{one.title}\n{one.body}")) for one in documents}
    shared = {query: answers[key].intersection(terms(query)) for query, key in PARAPHRASES.items()}
    assert {query: words for query, words in shared.items() if words} == {}


def keys(ltm: LongTermMemory, query: str, namespace: str, mode: str) -> list[str]:
    return [hit.entry.key for hit in ltm.search(query, namespace=namespace, limit=AT, mode=mode)]


class BruteForce:
    """The same questions answered by looking at everything: every cosine, and BM25 of every match, none left out."""

    def __init__(self, ltm: LongTermMemory, namespace: str) -> None:
        self._ltm, self._namespace = ltm, namespace
        changes = [one for one in ltm.record.changes(0, 1_000_000, namespace) if one.vector is not None]
        self._ids = [one.id for one in changes]
        self._matrix = np.array([np.frombuffer(one.vector or b"", "<f4") for one in changes])
        self._keys = {id: entry.key for id, entry in ltm.record.entries(self._ids).items()}
        self._places = {id: place for place, id in enumerate(self._ids)}

    def by_vector(self, query: str) -> list[str]:
        return self._best(self._matrix @ self._ltm.embedder.embed_query(query))

    def hybrid(self, query: str) -> list[str]:
        bm25 = np.zeros(len(self._ids))
        for id, score in self._all_rated(query):
            bm25[self._places[id]] = score
        best = self._ltm.search(query, namespace=self._namespace, limit=1, mode="lexical")
        coverage = max((hit.lexical for hit in best), default=0.0)
        cosines = self._matrix @ self._ltm.embedder.embed_query(query)
        scores = ranking.hybrid(cosines, ranking.words_share(bm25, float(bm25.max()), coverage))
        phrase = set(self._ltm.record.phrase(self._namespace, query, 1_000_000, None))
        has = np.array([id in phrase for id in self._ids])
        return self._best(ranking.tiered(scores, has, np.zeros(len(has), dtype=bool)))

    def _all_rated(self, query: str) -> list[tuple[str, float]]:
        any_of = " OR ".join(map(term_of, words_of(query)))
        db = sqlite3.connect(self._ltm.record.path)
        try:
            (space,) = db.execute("SELECT space FROM spaces WHERE name = ?", (self._namespace,)).fetchone()
            match = f'space : "{space}" AND {{key text}} : ({any_of})'
            told = (
                "SELECT e.id, -bm25(words, 0.0, 1.0, 1.0) FROM words JOIN entries e ON e.place = words.rowid WHERE words MATCH ?"
            )
            return db.execute(told, (match,)).fetchall() if any_of else []
        finally:
            db.close()

    def _best(self, scores: np.ndarray) -> list[str]:
        order = np.argsort(-scores, kind="stable")[:AT]
        return [self._keys[self._ids[place]] for place in order if scores[place] > 0]
