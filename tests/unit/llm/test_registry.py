import pytest

from apxm.errors import BindError, ConfigError, InvalidError
from apxm.llm.extractive import ExtractiveModel
from apxm.llm.registry import MODELS_MAX, ModelRegistry
from apxm.llm.resilience import RetryPolicy
from apxm.llm.scripted import ScriptedModel


def test_without_any_model_the_extractive_one_answers():
    registry = ModelRegistry()
    assert isinstance(registry.get(), ExtractiveModel)
    assert registry.get("extractive") is registry.get()
    assert registry.names() == ["extractive"]


def test_the_first_model_is_the_default_until_another_one_is_made_it():
    registry = ModelRegistry()
    one, two, three = (ScriptedModel(default="x") for _ in range(3))
    registry.register("one", one)
    registry.register("two", two)
    assert registry.resolve() == ("one", one)
    registry.register("three", three, default=True)
    assert registry.get() is three
    assert registry.get("two") is two
    assert registry.names() == ["three", "one", "two", "extractive"]


def test_an_unknown_name_is_answered_with_the_nearest_one():
    registry = ModelRegistry()
    registry.register("haiku-fast", ScriptedModel(default="x"))
    with pytest.raises(BindError, match=r"`hiaku-fast` is not registered; close: `haiku-fast`"):
        registry.get("hiaku-fast")
    with pytest.raises(BindError, match=r"there are: `haiku-fast`, `extractive`"):
        registry.get("zzz")


def test_a_taken_or_empty_name_and_what_is_no_model_are_refused():
    registry = ModelRegistry()
    registry.register("one", ScriptedModel(default="x"))
    with pytest.raises(InvalidError, match=r"`one` is registered already"):
        registry.register("one", ScriptedModel(default="x"))
    with pytest.raises(InvalidError, match=r"empty"):
        registry.register(" ", ScriptedModel(default="x"))
    with pytest.raises(InvalidError, match=r"a dict has no name, complete, count_tokens"):
        registry.register("two", {})
    assert registry.names() == ["one", "extractive"]


def test_every_change_is_a_new_generation():
    registry = ModelRegistry()
    registry.register("one", ScriptedModel(default="x"))
    registry.register("two", ScriptedModel(default="x"))
    registry.unregister("one")
    assert registry.generation == 3
    assert registry.resolve()[0] == "two"
    registry.unregister("two")
    assert registry.resolve()[0] == "extractive"
    with pytest.raises(BindError):
        registry.unregister("two")


def test_the_name_extractive_may_be_given_to_another_model():
    registry = ModelRegistry()
    mine = ExtractiveModel(notice=False)
    registry.register("extractive", mine)
    assert registry.get() is mine
    assert registry.names() == ["extractive"]


def test_several_providers_may_offer_a_model_of_one_name():
    registry = ModelRegistry()
    near, far, other = (ScriptedModel(default="x") for _ in range(3))
    registry.register("small", near, provider="near")
    registry.register("small", far, provider="far")
    registry.register("large", other, provider="far")
    assert registry.resolve("small", "far") == ("far/small", far)
    assert registry.resolve("far/small", "far") == registry.resolve("far/small") == ("far/small", far)
    assert registry.resolve("small") == ("near/small", near)  # the first that was registered
    assert registry.resolve(None, "far") == ("far/small", far)
    assert registry.resolve() == ("near/small", near)
    registry.unregister("far/small")
    assert registry.resolve(None, "far") == ("far/large", other)


def test_the_default_is_the_model_of_its_provider_that_is_meant_without_a_name():
    registry = ModelRegistry()
    registry.register("a", ScriptedModel(default="x"), provider="p")
    registry.register("b", ScriptedModel(default="x"), default=True, provider="p")
    assert registry.resolve(None, "p")[0] == "p/b"


def test_a_name_of_its_own_goes_before_that_of_a_provider():
    registry = ModelRegistry()
    mine, theirs = ScriptedModel(default="x"), ScriptedModel(default="x")
    registry.register("small", theirs, provider="far")
    registry.register("small", mine)
    assert registry.resolve("small") == ("small", mine)


def test_what_a_provider_does_not_offer_is_answered_with_what_it_does():
    registry = ModelRegistry()
    with pytest.raises(BindError, match=r"no model of the provider `far` is registered; give `provider` when"):
        registry.resolve(None, "far")
    registry.register("small", ScriptedModel(default="x"), provider="far")
    with pytest.raises(BindError, match=r"no model of the provider `near` is registered; there are: `far`"):
        registry.resolve("small", "near")
    with pytest.raises(BindError, match=r"provider `far` offers no model `large`; it offers `far/small`"):
        registry.resolve("large", "far")
    with pytest.raises(InvalidError, match=r"`far/small` is registered already"):
        registry.register("small", ScriptedModel(default="x"), provider="far")
    with pytest.raises(InvalidError, match=r"'a/b' is no name of a provider"):
        registry.register("small", ScriptedModel(default="x"), provider="a/b")


def test_a_registry_is_bounded():
    registry = ModelRegistry()
    model = ScriptedModel(default="x")
    registry._models = {f"m{i}": model for i in range(MODELS_MAX)}
    with pytest.raises(InvalidError, match=r"one more than the 1000"):
        registry.register("more", model)


# ---- back-off --------------------------------------------------------------------------------------------------------
def test_waits_double_up_to_the_cap_and_are_jittered_in_full():
    policy = RetryPolicy(base_s=1.0, cap_s=5.0, draw=lambda: 1.0)
    assert [policy.delay_s(n) for n in (1, 2, 3, 4, 10_000)] == [1, 2, 4, 5, 5]
    assert RetryPolicy(base_s=1.0, draw=lambda: 0.0).delay_s(5) == 0
    with pytest.raises(ConfigError, match="base_s 2"):
        RetryPolicy(base_s=2.0, cap_s=1.0)
