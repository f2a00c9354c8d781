import pytest

from apxm.graph.template import Placeholder, as_text, fill, parse, parse_filled


def lookup(part):
    return {"name": {"a": "A", "n": 3}, "position": {0: "first", 1: [1, "x"]}, "node": {7: {"k": None}}}[part.kind][part.key]


def test_the_three_kinds_of_placeholders_are_found():
    template = parse("x {a} y {0}{1} z {{node_7}}{a}")
    assert (template.names, template.positions, template.node_ids) == (("a",), (0, 1), (7,))
    assert template.placeholders
    assert template.render(lookup) == 'x A y first[1, "x"] z {"k": null}A'


@pytest.mark.parametrize(
    "text", ["", "plain", "{", "}", "{}", "{ a }", '{"a": 1}', "{a b}", "{12345}", "{{node 1}}", "{-1}", "{a.b}"]
)
def test_a_brace_that_opens_no_placeholder_is_text(text):
    assert not parse(text).placeholders
    assert parse(text).render(lookup) == text


def test_inserted_text_is_never_scanned_again():
    assert parse("{0}").render(lambda part: "{a} {{node_7}}") == "{a} {{node_7}}"


def test_braces_around_a_placeholder_stay():
    assert parse("{{a}}").render(lookup) == "{A}"


def test_a_sole_placeholder_is_known_as_such():
    assert parse("{a}").sole == Placeholder("name", "a")
    assert parse("{a} ").sole is None


def test_filling_keeps_values_and_renders_texts():
    value = {"whole": "{n}", "part": "n={n}", "deep": ["{1}", {"x": "{{node_7}}"}], "none": None, "text": "{}"}
    assert fill(value, lookup) == {"whole": 3, "part": "n=3", "deep": [[1, "x"], {"x": {"k": None}}], "none": None, "text": "{}"}


def test_the_placeholders_of_nested_values_are_collected_in_order():
    found = parse_filled({"b": "{x} {0}", "a": ["{y}", {"c": "{{node_2}} {x}"}], "n": 1})
    assert (found.names, found.positions, found.node_ids) == (("x", "y"), (0,), (2,))


def test_the_text_of_a_value_is_itself_or_json():
    numpy = pytest.importorskip("numpy")
    assert as_text("a\n") == "a\n"
    assert as_text(True) == "true"
    assert as_text({"ü": [1.5, None]}) == '{"ü": [1.5, null]}'
    assert as_text(b"caf\xc3\xa9") == "café"
    assert as_text([numpy.arange(3), b"x"]) == '[[0, 1, 2], "x"]'


def test_a_placeholder_writes_itself_as_it_was_read():
    text = "{a}{0}{{node_7}}"
    assert "".join(map(str, parse(text).segments)) == text
