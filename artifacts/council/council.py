"""The council: four reviewers look at a source tree at the same time, a coordinator checks what they say and reports.

The program is at the end: one agent for each reviewer, each with its own tool, and the coordinator. Before it come the pure
functions it calls; what touches the tree is in `tools.py`. `tools/make_artifacts.py` writes `council.json` and
`council.apxm` from this file.
"""

from __future__ import annotations

import os
from collections import Counter
from hashlib import blake2b
from typing import Any

from apxm import AgentGraph, CapabilityRecord, Graph, Program

SEVERITIES = ("high", "medium", "low")
TOLD = 12  # findings of one reviewer that the model sees
CHECKED = 12  # findings that the coordinator has verified
LINES = 5  # of the evidence of a finding in the report
SHOWN = 15  # findings of one reviewer in the report
CHANGES = 10  # new findings, and those that are gone, in the report
KEPT_MS = 90 * 24 * 3600 * 1000  # how long a judgement is remembered

# --- what is remembered ----------------------------------------------------------------------------------------------


def absolute_folder(folder: str) -> str:
    """What tells one tree from another in memory."""
    return os.path.abspath(folder)


def judgement_key(kind: str, texts: list[str]) -> str:
    """Under what a judgement is remembered: named by what was judged, so that it is judged again as soon as that changes."""
    state = blake2b(digest_size=16)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "little") + data)
    return f"council {kind} {state.hexdigest()}"


def settled(verdict: dict[str, Any]) -> dict[str, Any]:
    """A verdict that is worth remembering, else nothing: what was not settled may be settled next time."""
    return verdict if verdict["verdict"] != "insufficient" else {}


def findings_to_keep(reviews: list[dict[str, Any]]) -> dict[str, Any]:
    """What is remembered of a review: by reviewer, the findings without their lines, which move with every edit."""
    return {
        review["reviewer"]: sorted({f"{one['path']}: {one['message']}" for one in review["findings"]})
        for review in reviews
        if "absent" not in review
    }


def changes(last: dict[str, Any] | None, now: dict[str, Any]) -> dict[str, Any]:
    """{first, new, gone} since the last review, of the reviewers who worked both times."""
    if last is None:
        return {"first": True, "new": [], "gone": []}
    both = sorted(last.keys() & now.keys())
    new = [one for name in both for one in now[name] if one not in last[name]]
    gone = [one for name in both for one in last[name] if one not in now[name]]
    return {"first": False, "new": new, "gone": gone}


# --- what a reviewer says --------------------------------------------------------------------------------------------


def as_lines(findings: list[dict[str, Any]]) -> str:
    """The worst findings as passages that a model can cite."""
    rows = [
        f"[{one['path']}:{one['line']}] {one['message']} ({one['severity']}; {one['tool']} {one['rule']})."
        for one in findings[:TOLD]
    ]
    return "\n".join(rows)


def as_review(reviewer: str, findings: list[dict[str, Any]], summary: str) -> dict[str, Any]:
    """What a reviewer hands to the coordinator."""
    return {"reviewer": reviewer, "findings": findings, "summary": summary.strip()}


def absent(reviewer: str, error: dict[str, Any]) -> dict[str, Any]:
    """The place of a reviewer who could not do the work."""
    return {"reviewer": reviewer, "findings": [], "summary": "", "absent": error["message"]}


# --- what the coordinator does with it -------------------------------------------------------------------------------


def _weight(finding: dict[str, Any]) -> int:
    return SEVERITIES.index(finding["severity"])


def merged(reviews: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The findings worth a second look: the worst of each reviewer in turn; a place stands there once, with all said of it."""
    queues = [list(review["findings"]) for review in reviews]
    chosen: dict[tuple[str, int], dict[str, Any]] = {}
    places = Counter(one["path"] for queue in queues for one in queue)
    for queue in queues:  # among equals first what stands where most was found
        queue.sort(key=lambda one: (_weight(one), -places[one["path"]]))
    while any(queues) and len(chosen) < CHECKED:
        for queue in queues:
            if queue and len(chosen) < CHECKED:
                one = queue.pop(0)
                known = chosen.setdefault((one["path"], one["line"]), dict(one))
                if known["message"] != one["message"]:
                    known["message"] += f"; {one['message']}"
    return sorted(chosen.values(), key=_weight)


def claim_of(finding: dict[str, Any]) -> str:
    """A finding as something that is so or not."""
    return f"{finding['path']}:{finding['line']}: {finding['message']}"


def checked(finding: dict[str, Any], evidence: str, verdict: dict[str, Any]) -> dict[str, Any]:
    """A finding with what was seen at its place and how the check came out."""
    return {**finding, "evidence": evidence, **{name: verdict[name] for name in ("verdict", "confidence", "reasoning")}}


def standing_lines(findings: list[dict[str, Any]]) -> str:
    """What was not refuted, as passages that a model can cite; what was confirmed comes first."""
    standing = [one for one in findings if one["verdict"] != "refuted"]
    return as_lines(sorted(standing, key=lambda one: one["verdict"] != "confirmed"))


def compose_report(
    folder: str, reviews: list[dict[str, Any]], findings: list[dict[str, Any]], advice: str, since: dict[str, Any]
) -> str:
    """The report in Markdown: what changed, advice, what was verified with its source lines, then every reviewer."""
    counts = Counter(one["verdict"] for one in findings)
    total = sum(len(review["findings"]) for review in reviews)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("confirmed", "insufficient", "refuted") if counts[verdict])
    worked = sum("absent" not in review for review in reviews)
    parts = [
        f"# Review of `{folder}`",
        f"{total:,} findings of {worked} reviewers; {len(findings)} looked at again: {said or 'none'}.",
    ]
    parts += _changed(since)
    if advice.strip():
        parts.append(f"## What to do first\n\n{advice.strip()}")
    parts.append(_table(reviews))
    if findings:
        shared = _shared([one["reasoning"] for one in findings])
        parts += ["## Looked at again", shared, *(_entry(one, shared) for one in findings)]
    parts += map(_section, reviews)
    return "\n\n".join(part for part in parts if part) + "\n"


def _changed(since: dict[str, Any]) -> list[str]:
    if since["first"]:
        return []
    new, gone = since["new"], since["gone"]
    parts = [f"Since the last review of this tree: {len(new):,} new, {len(gone):,} gone."]
    for title, found in (("New", new), ("Gone", gone)):
        rows = [f"- {one}" for one in found[:CHANGES]]
        rows += [f"- … and {len(found) - CHANGES:,} more"] if len(found) > CHANGES else []
        parts += [f"## {title}", "\n".join(rows)] if rows else []
    return parts


def _shared(reasons: list[str]) -> str:
    """The sentences in which all reasons end, such as what a model says of itself: the report has them once."""
    shared: list[str] = []
    for last in zip(*(reversed(reason.split(". ")) for reason in reasons)):
        if len(set(last)) > 1:
            break
        shared.insert(0, last[0])
    return ". ".join(shared)


def _table(reviews: list[dict[str, Any]]) -> str:
    rows = ["| reviewer | high | medium | low |", "|---|---:|---:|---:|"]
    for review in reviews:
        counts = Counter(one["severity"] for one in review["findings"])
        cells = (
            [f"could not work: {review['absent']}", "", ""]
            if "absent" in review
            else [f"{counts[each]:,}" for each in SEVERITIES]
        )
        rows.append(f"| {review['reviewer']} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _entry(finding: dict[str, Any], shared: str) -> str:
    mark = {"confirmed": "confirmed", "refuted": "REFUTED"}.get(finding["verdict"], "not settled")
    lines = "\n".join(finding["evidence"].split("\n")[:LINES])
    place = f"**`{finding['path']}:{finding['line']}`**"
    head = f"{place} {finding['severity']}, {mark} ({finding['confidence']:.2f}): {finding['message']}"
    settled = finding["verdict"] != "insufficient"
    reason = finding["reasoning"].removesuffix(shared).strip() if settled else ""
    return f"{head}\n\n```text\n{lines}\n```" + (f"\n\n{reason}" if reason else "")


def _section(review: dict[str, Any]) -> str:
    rows = [
        f"- `{one['path']}:{one['line']}` {one['severity']} ({one['rule']}): {one['message']}"
        for one in review["findings"][:SHOWN]
    ]
    left = len(review["findings"]) - SHOWN
    rows += [f"- … and {left:,} more"] if left > 0 else []
    summary = [review["summary"]] if review["summary"] else []
    body = [f"could not work: {review['absent']}"] if "absent" in review else ["\n".join(rows) or "nothing found"]
    return "\n\n".join([f"## {review['reviewer']}", *summary, *body])


# --- the program -----------------------------------------------------------------------------------------------------

CAPABILITIES = {
    "absolute_folder": CapabilityRecord("A folder as an absolute path.", absolute_folder, effect="read", run="inline"),
    "judgement_key": CapabilityRecord("Under what a judgement is remembered.", judgement_key, effect="pure"),
    "settled": CapabilityRecord("A verdict that is worth remembering.", settled, effect="pure", borrows=True),
    "findings_to_keep": CapabilityRecord("What is remembered of a review.", findings_to_keep, effect="pure"),
    "changes": CapabilityRecord("What changed since the last review.", changes, effect="pure", borrows=True),
    "as_lines": CapabilityRecord("Findings as passages that a model can cite.", as_lines, effect="pure"),
    "as_review": CapabilityRecord("What a reviewer hands over.", as_review, effect="pure", borrows=True),
    "absent": CapabilityRecord("The place of a reviewer who could not work.", absent, effect="pure"),
    "merged": CapabilityRecord("The findings worth a second look.", merged, effect="pure"),
    "claim_of": CapabilityRecord("A finding as a claim.", claim_of, effect="pure"),
    "checked": CapabilityRecord("A finding with its verdict.", checked, effect="pure", borrows=True),
    "standing_lines": CapabilityRecord("What was not refuted, as passages.", standing_lines, effect="pure"),
    "compose_report": CapabilityRecord("Write the report.", compose_report, effect="pure"),
}

# Reviewer -> its tool, whether it wants the folder of the tests too, and what it is.
REVIEWERS = {
    "linter": ("ruff", False, "You look for bugs and unsafe code that a linter sees."),
    "surveyor": ("complexity", False, "You look for functions that are too complex to be changed safely."),
    "searcher": ("search_code", False, "You look for secrets, debuggers and unfinished work."),
    "tester": ("discover_tests", True, "You look for modules that no test imports."),
}

_SUMMARISE = (
    "Summarise the most serious of these findings in two sentences, each with its source as [source:line], "
    "and write nothing else.\n\n{lines}"
)
_ADVISE = (
    "Summarise in three sentences what should be changed first, the most harmful first, each sentence with its source as "
    "[source:line], and write nothing else.\n\n{standing}"
)


def _reviewer(name: str) -> AgentGraph:
    tool, wants_tests, what = REVIEWERS[name]
    graph = Graph("review", metadata={"is_entry": False, "description": f"what the {name} finds"})
    graph.agent(
        capabilities=[tool, "as_lines", "judgement_key", "as_review"],
        goals=["find what is worth changing"],
        context=what,
        name="who",
    )
    folder, tests = graph.param("folder"), graph.param("tests")
    findings = graph.inv(tool, folder=folder, **({"tests": tests} if wants_tests else {}), name="findings")
    some = graph.branch_on_value(findings, condition="not_empty", name="any")
    lines = graph.inv("as_lines", findings=some.on("true"), name="lines")
    key = graph.inv("judgement_key", params_json={"kind": "summary", "texts": [lines]}, name="key")
    known = graph.branch_on_value(graph.qmem(key=key, memory_tier="ltm", name="kept"), condition="not_empty", name="known")
    told = graph.ask(_SUMMARISE, lines=lines, context="aam", fallback="", on=(known, "false"), name="summarise")
    graph.umem(key, told, memory_tier="ltm", ttl_ms=KEPT_MS, name="keep")
    nothing = graph.const_str("", on=(some, "false"), name="nothing")
    summary = graph.merge(known.on("true"), told, nothing, mode="any", name="summary")
    graph.return_(graph.inv("as_review", findings=findings, summary=summary, arg_reviewer=name, name="review"), name="result")
    return AgentGraph(name, [graph])


def _coordinator() -> AgentGraph:
    graph = Graph("main", metadata={"description": "has a source tree reviewed, checks the findings, reports"})
    graph.agent(
        capabilities=[
            *("absent", "merged", "quote", "claim_of", "checked", "standing_lines", "compose_report"),
            *("absolute_folder", "judgement_key", "settled", "findings_to_keep", "changes"),
        ],
        goals=[
            {
                "id": "report",
                "description": "a report in which every finding that was looked at again has its lines",
                "priority": 2,
            }
        ],
        context="You coordinate reviewers. You trust a finding only with its source lines.",
        name="who",
    )
    folder, tests = graph.param("folder"), graph.param("tests")
    reviews = []
    for name in REVIEWERS:
        called = graph.flow_call("review", agent_name=name, folder=folder, tests=tests, name=name)
        failed = graph.inv("absent", error=called.on("error"), arg_reviewer=name, name=f"{name}_absent")
        reviews.append(graph.merge(called, failed, mode="any", name=f"{name}_said"))
    heard = graph.wait_all(*reviews, name="reviews")
    findings = graph.inv("merged", reviews=heard, name="merged")
    again = graph.map(findings, window=8, name="looked_at_again")
    with again as finding:
        evidence = graph.inv("quote", finding=finding, name="quote")
        claim = graph.inv("claim_of", finding=finding, name="claim")
        key = graph.inv("judgement_key", params_json={"kind": "verdict", "texts": [claim, evidence]}, name="key")
        known = graph.branch_on_value(graph.qmem(key=key, memory_tier="ltm", name="kept"), condition="not_empty", name="known")
        judged = graph.verify(claim, evidence=evidence, on=(known, "false"), name="verdict")
        worth = graph.branch_on_value(graph.inv("settled", judged, name="settled"), condition="not_empty", name="worth_keeping")
        graph.umem(key, worth.on("true"), memory_tier="ltm", ttl_ms=KEPT_MS, name="keep")
        verdict = graph.merge(known.on("true"), judged, mode="any", name="either")
        graph.yield_(graph.inv("checked", finding=finding, evidence=evidence, verdict=verdict, name="checked"), name="one")
    standing = graph.inv("standing_lines", findings=again, name="standing")
    some = graph.branch_on_value(standing, condition="not_empty", name="any")
    advised = graph.ask(_ADVISE, standing=some.on("true"), context="aam", fallback="", name="advise")
    nothing = graph.const_str("", on=(some, "false"), name="nothing")
    advice = graph.merge(advised, nothing, mode="any", name="advice")
    place = graph.inv("absolute_folder", folder=folder, name="place")
    last = graph.qmem(key="council findings {place}", place=place, memory_tier="ltm", name="last")
    now = graph.inv("findings_to_keep", reviews=heard, name="now")
    since = graph.inv("changes", last=last, now=now, name="since")
    graph.umem("council findings {place}", now, place=place, memory_tier="ltm", after=since, name="remember")
    report = graph.inv("compose_report", folder=folder, reviews=heard, findings=again, advice=advice, since=since, name="compose")
    graph.update_goal("report", action="complete", after=report, name="done")
    graph.return_(report, name="report")
    return AgentGraph("coordinator", [graph])


COUNCIL = Program([_coordinator(), *map(_reviewer, REVIEWERS)], name="council")
