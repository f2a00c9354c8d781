import re

import pytest

from apxm.errors import InvalidError
from apxm.llm.structured import VIOLATIONS_MAX, OutputSchema

SCHEMA = OutputSchema(
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "sizes": {"type": "array", "items": {"type": "integer"}}},
        "required": ["name"],
        "additionalProperties": False,
    }
)
FINE = {"name": "a", "sizes": [1]}


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "a", "sizes": [1]}',
        '  {"name": "a", "sizes": [1]}\n',
        'Sure:\n```json\n{"name": "a", "sizes": [1]}\n```\nDone.',
        'First [1, 2], then {"name": "a", "sizes": [1]} and {"name": 3}.',
        'Not {this} but ```{"name": "a", "sizes": [1]}```',
        '```\nno json\n```\n~~~\n{"name": "a", "sizes": [1]}\n~~~',
    ],
)
def test_the_json_of_an_answer_is_found(text):
    assert SCHEMA.read(text) == (FINE, [])


@pytest.mark.parametrize(
    ("text", "violations"),
    [
        ("no json at all", ["the answer holds no JSON"]),
        ('{"name": 3}', ['at ["name"]: 3 is not of type "string"']),
        ('{"name": "a", "sizes": [1, "b"]}', ['at ["sizes"][1]: "b" is not of type "integer"']),
        ('{"sizes": [NaN]}', ['the answer: the value at ["sizes"][0] is nan; numbers are finite; use null for what is missing']),
    ],
)
def test_every_violation_says_where(text, violations):
    assert SCHEMA.read(text)[1] == violations


def test_numbers_that_no_value_holds_are_violations():
    assert OutputSchema({}).read("[1e999]")[1]
    assert OutputSchema({}).read(f"[{2**63}]")[1]
    assert OutputSchema({}).read(f"[{2**63 - 1}]") == ([2**63 - 1], [])


def test_violations_are_bounded():
    schema = OutputSchema({"type": "array", "items": {"type": "integer"}})
    violations = schema.read(str([["x" * 10_000]] * 50).replace("'", '"'))[1]
    assert len(violations) == VIOLATIONS_MAX
    assert max(map(len, violations)) <= 400


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "```\n" * 50_000, "{" * 100_000 + '{"name": "a"}'])
def test_hostile_answers_end_in_violations(text):
    assert SCHEMA.read(text)[1]


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "nothing"}, '"nothing" is not valid'),
        ({"$ref": "http://127.0.0.1:1/schema.json"}, "Retrieval is disabled"),
        ({"$ref": "file:///etc/hostname"}, "Retrieval is disabled"),
        ({"pattern": "(?=a)"}, 'is not a "regex"'),
        ({"const": b"bytes"}, "Object of type bytes"),
    ],
)
def test_a_schema_that_is_none_or_reaches_out_is_refused(schema, reason):
    with pytest.raises(InvalidError, match=f"no valid JSON Schema: .*{re.escape(reason)}"):
        OutputSchema(schema)
