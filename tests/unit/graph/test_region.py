from apxm.graph.region import bind, is_position, own_input


def test_the_discriminant_and_the_list_are_kept_by_their_operation():
    assert own_input("SWITCH", [None, "discriminant", None]) == 1
    assert own_input("SWITCH", ["pass", "a", None]) == 2
    assert own_input("SWITCH", ["pass", "a"]) is None
    assert own_input("BRANCH_ON_VALUE", ["pass", "1"]) == 1
    assert own_input("SWITCH", ["a", None]) == 1
    assert own_input("MAP", ["q", "0"]) == 1
    assert own_input("LOOP", [None, "count"]) == 1
    assert own_input("LOOP", [None]) is None
    assert own_input("TRY_CATCH", [None]) is None


def test_named_inputs_bind_first_and_the_others_in_order():
    found = bind("MAP", "body", ["a", "item", "b", "c"], [None, "b", None, None])
    assert found.own == 0
    assert found.sources == {"a": 2, "b": 1, "c": 3}
    assert (found.unbound, found.unused) == ((), ())


def test_what_is_left_over_is_named():
    found = bind("TRY_CATCH", "catch", ["error", "a", "b"], ["x", None])
    assert found.sources == {"a": 1}
    assert (found.unbound, found.unused) == (("b",), (0,))


def test_a_reserved_name_is_reserved_only_in_its_region():
    assert bind("TRY_CATCH", "try", ["error"], [None]).sources == {"error": 0}
    assert bind("TRY_CATCH", "catch", ["error"], [None]).sources == {}
    assert bind("SWITCH", "any case", ["input"], [None]).unbound == ()


def test_a_position_is_a_number_or_nothing():
    assert [is_position(port) for port in (None, "0", "12", "a", "", "node_1", "²")] == [
        True,
        True,
        True,
        False,
        False,
        False,
        False,
    ]
