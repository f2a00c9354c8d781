"""The model of last resort: quotes the sentences of its context that answer best. No network, no weights, no reasoning.

It reads a prompt like this (each line of the list is tried in order):

- **Context** is every passage `[source:line] text`, where the bracket opens a line and `line` is where the text begins
  in its source; every block `Context 1: ...`, whose text may hold passages, be JSON (strings, or maps with `text`,
  `source`, `line`), or be plain; a line that is JSON. A passage ends where the next one, a `Context N:` or the question
  begins. If there is none of these, the other paragraphs of the prompt are the context, cited as `[prompt:line]`.
- **The question** is what follows `Question:` (or `Query:`, `Task:`, `Instruction:`) at the beginning of a line, up to a
  blank line. The label stands before all passages, or after all of them when what stands before them asks nothing: a
  quoted document cannot ask in its place. Without a label it is the text before the context; when that asks nothing,
  the one `Context N:` that is a question of one line, or the last paragraph if it asks.
- An instruction that begins with or asks to summarise, and has no question mark, gets the most central sentences. A number
  of sentences (`in three sentences`) is obeyed; else it is five for a question and four for a summary.

Every sentence is followed by ` [source:line]`, the line being that of the sentence. The answer ends with a notice saying
what it is, unless `ExtractiveModel(notice=False)`, `Prompt.metadata["notice"]` is False, or the instruction or system
prompt says `quotes only`, `only quotes` or `nothing else`.

With an `output_schema` it fills in what quotes can fill (see apxm.llm.filling), judges a claim by words alone where a verdict
is asked for (see apxm.llm.support), and is a ModelError for everything else.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from apxm.errors import ModelError
from apxm.llm.base import Prompt, Reply, Usage, prompt_tokens
from apxm.llm.fencing import parted
from apxm.llm.filling import Material, Unfit, fill
from apxm.llm.ranking import Corpus, diverse
from apxm.llm.reading import Passage, Request, passages_in, read
from apxm.llm.support import undecided, verdict
from apxm.llm.text import Sentence, estimate_tokens, sentences, terms
from apxm.llm.verdict import asks_for_verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOTICE = "Extracted by apxm's offline extractive model; it quotes, it does not reason."

INLINE_CHARS = 16_384  # about 15 ms of work; a longer prompt is worked on by a thread, so that no loop is held
LISTS = ("episodes", "past")  # blocks whose lines are entries of a list, not of a text
QUERY_TERMS_MAX = 64  # of a question; work grows with their number times that of sentences
SENTENCES_ANSWER = 5
SENTENCES_SUMMARY = 4
COVERAGE_MIN = 0.22  # share of the question's rare terms that the best sentence must have for an answer
COVERAGE_SURE = 0.55  # below it, the terms that the context lacks are named
SCORE_SHARE = 0.5  # a sentence this far below the best one is not quoted
NEIGHBOUR = 0.25  # what a sentence gains from the sentences around it
PROSE = 0.25  # share of small words from which a sentence counts as prose
LEADS = (0.9, 0.7, 0.5)  # what a term of the heading counts for the first, the second and later sentences under it
TITLE = 0.4  # what a term of the file name counts
MANNER = 0.6  # weight of words in -ed and -ly: they say what is done or how, less what it is about
WEAK = 0.35  # weight of words that say how to answer rather than about what

# Stems of words that questions are made of whatever their subject.
_WEAK_TERMS = frozenset(
    terms(
        """answer apply based brief cite citation come compare comparison context define definition describe description detail
        document documentation example exactly exist explain explanation fact file find following general get give given happen
        happens happened help kind know line list look make mean means meaning mention name need note overview page paragraph part
        passage please point possible provide question quote reason report role say says section sentence short show source
        state summarise summarize summary talk tell text thing type understand use used uses using way word work write"""
    )
)
_NUMERIC = (
    "how many",
    "how much",
    "how long",
    "how often",
    "how large",
    "how big",
    "how fast",
    "limit",
    "default",
    "maximum",
    "minimum",
)
_DEFINES = (" is a ", " is an ", " is the ", " is one ", " is what ", " is how ", " are ", " means ", ": ")
_CAUSAL = (" because ", " so that ", " since ", " therefore ", " otherwise ", " reason", " to avoid ", " instead of ")


class ExtractiveModel:
    """Answers from the context in the prompt with its most relevant sentences and their sources (see the module's text)."""

    def __init__(self, *, name: str = "extractive", notice: bool = True) -> None:
        self.name = name
        self.notice = notice

    def count_tokens(self, text: str) -> int:
        """An estimate; this model has no tokens of its own."""
        return estimate_tokens(text)

    async def complete(self, prompt: Prompt) -> Reply:
        """Answer by quotation. Deterministic; `temperature` and `seed` change nothing."""
        size = sum(len(message.content) for message in prompt.messages)
        if size > INLINE_CHARS:
            return await asyncio.to_thread(self._reply, prompt)
        return self._reply(prompt)

    def _reply(self, prompt: Prompt) -> Reply:
        request = read(prompt.messages)
        if not self.notice or prompt.metadata.get("notice") is False:
            request = replace(request, bare=True)
        room = prompt.max_output_tokens
        if prompt.output_schema is not None:
            text = self._structured(prompt, prompt.output_schema, request)
        else:
            text = answer(request, None if room is None else room * 4)
            for stop in prompt.stop:
                text = text.partition(stop)[0]
        finish = "stop"
        if room is not None and estimate_tokens(text) > room:
            text, finish = _cut(text, room), "length"
        usage = Usage(prompt_tokens(self, prompt), self.count_tokens(text), estimated=True)
        return Reply(text, usage, self.name, finish)

    def _structured(self, prompt: Prompt, schema: dict[str, Any], request: Request) -> str:
        around, blocks = parted(prompt.text)
        if asks_for_verdict(schema):
            said = lexical_verdict(blocks)
        else:
            try:
                said = fill(schema, _material(prompt.text, _marked(request, around, blocks)))
            except Unfit as unfit:
                raise ModelError(
                    f"model `{self.name}` quotes sentences and cannot answer in this JSON: {unfit}",
                    hint="register a language model that can, or leave out output_schema",
                ) from None
        text, room = json.dumps(said, ensure_ascii=False), prompt.max_output_tokens
        if room is not None and estimate_tokens(text) > room:
            raise ModelError(f"the answer of model `{self.name}` does not fit into {room} tokens", hint="raise max_output_tokens")
        return text


def lexical_verdict(blocks: Mapping[str, str]) -> dict[str, Any]:
    """The verdict about what a prompt has between tags: see apxm.llm.support. Only a claim can be judged by its words."""
    if "claim" in blocks:
        return verdict(blocks["claim"], blocks.get("evidence", ""))
    return undecided("This can only be told by understanding it.")


def _marked(request: Request, around: str, blocks: Mapping[str, str]) -> Request:
    """The request of a prompt with material between tags: that is its context, and what stands around it asks."""
    if not blocks:
        return request
    passages = [passage for name, text in blocks.items() for passage in _passages(name, text)]
    return replace(request, question=" ".join(around.split()), passages=tuple(passages), summarise=False)


def _passages(name: str, text: str) -> list[Passage]:
    if name not in LISTS:
        return passages_in(text, name)
    return [Passage(name, number, line) for number, line in enumerate(text.split("\n"), 1)]


def _material(prompt: str, request: Request) -> Material:
    bare = replace(request, bare=True)
    central = replace(bare, question="", summarise=True)
    return Material(
        prompt,
        answer=lambda: answer(request),
        relevant=lambda: quotations(bare) if weigh(bare.question) else [],
        central=lambda: quotations(central),
        summary=lambda: answer(central),
        question=request.question,
    )


def quotations(request: Request) -> list[str]:
    """What answers a request, or is most central, each sentence with its source."""
    pool = _Pool(request.passages)
    chosen, _ = pool.summary(request) if request.summarise else pool.relevant(request)
    return [pool.quote(i) for i in chosen]


def _cut(text: str, tokens: int) -> str:
    while estimate_tokens(text) > tokens:
        text = text[: min(len(text) - 1, tokens * 4)]
    return text


def answer(request: Request, chars_max: int | None = None) -> str:
    """The answer to a request, in at most `chars_max` characters unless one quote alone is longer."""
    notice = "" if request.bare else f"\n\n{NOTICE}"
    pool = _Pool(request.passages)
    if not request.passages:
        return f"There is no context to answer from; this model only quotes what the prompt holds.{notice}"
    chosen, remark = pool.summary(request) if request.summarise else pool.relevant(request)
    if not chosen:
        asked = f": {_head(request.question)}" if request.question else "."
        return f"Nothing in the context {'can be quoted' if request.summarise else 'answers this'}{asked}{remark}{notice}"
    quotes = _fit([pool.quote(i) for i in chosen], None if chars_max is None else chars_max - len(notice) - len(remark))
    return f"{' '.join(quotes) if request.summarise else _listed(quotes)}{remark}{notice}"


def _head(question: str) -> str:
    flat = " ".join(question.split())
    return flat if len(flat) <= 160 else f"{flat[:159]}…"


def _listed(quotes: Sequence[str]) -> str:
    return quotes[0] if len(quotes) == 1 else "\n".join(f"- {quote}" for quote in quotes)


def _fit(quotes: list[str], chars_max: int | None) -> list[str]:
    """As many quotes as there is room for, and one at least."""
    if chars_max is None:
        return quotes
    used = 0
    kept: list[str] = []
    for quote in quotes:
        used += len(quote) + 3
        if kept and used > chars_max:
            break
        kept.append(quote)
    return kept


class _Pool:
    """All sentences of the context, once each, with what is needed to rank them."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.sources: list[str] = []
        self.sentences: list[Sentence] = []
        self.places: list[int] = []  # how many sentences of the same passage come before
        seen: set[str] = set()
        for passage in passages:
            place = 0
            for sentence in sentences(passage.text, passage.line):
                key = sentence.text.casefold()
                if key not in seen and sentence.text != NOTICE:
                    seen.add(key)
                    self.sources.append(passage.source)
                    self.sentences.append(sentence)
                    self.places.append(place)
                    place += 1
        self.corpus = Corpus([terms(sentence.text) for sentence in self.sentences])
        self.titles = self._titles()

    def _titles(self) -> list[dict[str, float]]:
        """For every sentence the terms of its source and heading, and what each of them counts for it."""
        found: list[dict[str, float]] = []
        known: dict[tuple[str, str, float], dict[str, float]] = {}
        before: tuple[str, str] | None = None
        under = 0
        for source, sentence in zip(self.sources, self.sentences, strict=True):
            title = (source, sentence.heading)
            under = under + 1 if title == before else 0
            before = title
            key = (*title, LEADS[min(under, len(LEADS) - 1)])
            if key not in known:
                known[key] = dict.fromkeys(terms(source), TITLE) | dict.fromkeys(terms(sentence.heading), key[2])
            found.append(known[key])
        return found

    def quote(self, i: int) -> str:
        return f"{self.sentences[i].text} [{self.sources[i]}:{self.sentences[i].line}]"

    def _form(self, i: int) -> float:
        """How well a sentence stands by itself, whatever it is about."""
        sentence = self.sentences[i]
        factor = 1.0
        if sentence.text.endswith(":") or sentence.text.endswith("?"):
            factor *= 0.6
        if sentence.tabular:
            factor *= 0.7
        if not 40 <= len(sentence.text) <= 260:
            factor *= 0.85
        if sentence.text[0].islower():  # a piece of a longer one
            factor *= 0.9
        prose = 1 - self.corpus.lengths[i] / (sentence.text.count(" ") + 1)  # share of small words: lists of names have few
        if prose < PROSE:
            factor *= 0.55 + 0.45 * max(0.0, prose) / PROSE
        return factor

    def relevant(self, request: Request) -> tuple[list[int], str]:
        """The sentences that answer a question, best first, and a remark on what the context lacks."""
        query = weigh(request.question)
        if not query:
            return self.summary(request)
        coverage = self._coverage(query)
        best = max(coverage, default=0.0)
        if best < COVERAGE_MIN:
            return [], ""
        scores = self._scores(request.question, query, coverage)
        top = max(scores)
        kept = {i: score for i, score in enumerate(scores) if score >= SCORE_SHARE * top and coverage[i] >= COVERAGE_MIN / 2}
        wanted = request.count or SENTENCES_ANSWER
        shortlist = dict(sorted(kept.items(), key=lambda item: (-item[1], item[0]))[: max(40, 2 * wanted)])
        return diverse(self.corpus, shortlist, wanted), self._lacking(request.question, best)

    def _coverage(self, query: Mapping[str, float]) -> list[float]:
        """For every sentence, the share of the question's weight that it (or, counting less, what it stands under) has."""
        known = self.corpus.frequency
        weights = [(t, weight * self.corpus.rarity(t)) for t, weight in query.items() if weight > WEAK or t in known]
        total = sum(weight for _, weight in weights) or 1.0
        return [
            sum(weight if term in counts else weight * title.get(term, 0.0) for term, weight in weights) / total
            for counts, title in zip(self.corpus.counts, self.titles, strict=True)
        ]

    def _scores(self, question: str, query: Mapping[str, float], coverage: Sequence[float]) -> list[float]:
        base = self.corpus.bm25(query)
        for i, title in enumerate(self.titles):
            counts = self.corpus.counts[i]
            for term in title.keys() & query.keys():
                gain = title[term] * query[term] * self.corpus.rarity(term)
                base[i] += gain / 3 if term in counts else gain
        hints = _Hints(question)
        scores = []
        for i, score in enumerate(base):
            around = max(base[j] if 0 <= j < len(base) and self._adjoin(i, j) else 0.0 for j in (i - 1, i + 1))
            lead = 1.1 if self.sentences[i].position == 0 else 1.0
            fit = (0.3 + coverage[i]) * self._form(i) * hints.factor(self.sentences[i].text)
            scores.append((score + NEIGHBOUR * around) * lead * fit)
        return scores

    def _adjoin(self, i: int, j: int) -> bool:
        return self.sources[i] == self.sources[j] and abs(self.sentences[i].line - self.sentences[j].line) <= 3

    def _lacking(self, question: str, best: float) -> str:
        if best >= COVERAGE_SURE:
            return ""
        known = self.corpus.frequency
        every = {term for title in self.titles for term in title}
        missing = [word for word in dict.fromkeys(subjects(question)) if not any(t in known or t in every for t in terms(word))]
        return f"\n\nThe context does not mention: {', '.join(missing[:8])}." if missing else ""

    def summary(self, request: Request) -> tuple[list[int], str]:
        """The sentences that have most in common with all others, in the order of the context."""
        central = self.corpus.central()
        asked = weigh(request.question)
        topic = {term: 1.0 for term, weight in asked.items() if weight > WEAK and term in self.corpus.frequency}
        relevance = self.corpus.bm25(topic)
        most = max(relevance, default=0.0) or 1.0
        scores = {}
        for i, share in enumerate(central):
            lead = 1 + 0.6 / (1 + self.places[i]) + (0.15 if self.sentences[i].position == 0 else 0.0)
            length = min(1.0, len(self.sentences[i].text) / 70)
            scores[i] = share * lead * length * self._form(i) * (0.5 + relevance[i] / most if topic else 1.0)
        wanted = request.count or SENTENCES_SUMMARY
        shortlist = dict(sorted(scores.items(), key=lambda item: (-item[1], item[0]))[: max(40, 2 * wanted)])
        return sorted(diverse(self.corpus, shortlist, wanted)), ""


def weigh(question: str) -> dict[str, float]:
    """The terms of a question with their weights: 1 for its subject, less for words that questions are made of."""
    weights: dict[str, float] = {}
    for word in question.split():
        manner = MANNER if word.strip("?.,;:!").endswith(("ed", "ly")) else 1.0
        for term in terms(word):
            weak = term in _WEAK_TERMS or (term.isdigit() and len(term) < 3)
            weights[term] = max(weights.get(term, 0.0), WEAK if weak else manner)
    return dict(sorted(weights.items(), key=lambda item: -item[1])[:QUERY_TERMS_MAX])


def subjects(question: str) -> list[str]:
    """The words of a question that say what it is about, as they stand in it."""
    words = (word.strip("`'\".,;:!?()[]{}*") for word in question.split())
    return [word for word in words if len(word) > 3 and any(term not in _WEAK_TERMS for term in terms(word))]


class _Hints:
    """What the form of a question says about the form of its answer."""

    def __init__(self, question: str) -> None:
        lower = f" {' '.join(question.lower().split())} "
        self.numeric = any(phrase in lower for phrase in _NUMERIC)
        self.causal = " why " in lower
        words = [word.strip(" ?.,;:!()`'\"*").replace("-", " ") for word in lower.split()]
        self.pairs = [f"{a} {b}" for a, b in itertools.pairwise(words) if terms(a) and terms(b) and a and b]
        subject = lower.partition(" what is ")[2] or lower.partition(" what are ")[2] or lower.partition(" define ")[2]
        self.defined = " ".join(word for word in subject.strip(" ?.").split() if word not in ("a", "an", "the"))[:60]

    def factor(self, sentence: str) -> float:
        factor = 1.0
        lower = sentence.lower().replace("-", " ")
        for pair in self.pairs:
            if pair in lower:
                factor *= 1.15
        if self.numeric and any(map(str.isdigit, sentence)):
            factor *= 1.2
        if self.causal and any(phrase in lower for phrase in _CAUSAL):
            factor *= 1.25
        if self.defined:
            opening = lower.replace("`", "").removeprefix("a ").removeprefix("an ").removeprefix("the ")
            rest = opening.removeprefix(self.defined) if opening.startswith(self.defined) else ""
            if rest.startswith(_DEFINES):
                factor *= 2.0
        return factor
