"""Which embedder the settings choose, what each kind needs, and when it is made."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from apxm.errors import ConfigError, EmbedderError
from apxm.settings import load
from apxm.settings.embedders import EMBEDDER_KINDS, PREFIX
from apxm.settings.keys import KEYS

if TYPE_CHECKING:
    from pathlib import Path

    from apxm.memory.embed.base import Embedder


def chosen(folder: Path, text: str, environment: dict[str, str] | None = None) -> Embedder | None:
    """What the `[memory]` table of a project makes."""
    (folder / ".git").mkdir(exist_ok=True)
    (folder / "apxm.toml").write_text(f"[memory]\n{text}")
    known = {"XDG_CONFIG_HOME": str(folder / "config"), "XDG_STATE_HOME": str(folder / "state"), **(environment or {})}
    return load(environment=known, folder=str(folder)).memory_config().embedder


def made(embedder: Embedder | None) -> Any:
    assert embedder is not None
    return embedder._embedder()  # type: ignore[attr-defined]


def test_without_a_choice_the_runtime_has_its_default(tmp_path: Path) -> None:
    assert chosen(tmp_path, "episodes = 5\n") is None


def test_the_hashing_embedder_can_be_chosen_and_sized(tmp_path: Path) -> None:
    embedder = chosen(tmp_path, "embedder_dimension = 64\n")
    assert embedder is not None
    assert (embedder.fingerprint.name, embedder.fingerprint.dimension) == ("hashing", 64)
    assert embedder.embed(["one", "two"]).shape == (2, 64)
    assert embedder.embed_query("one").shape == (64,)
    embedder.close()
    assert made(chosen(tmp_path, 'embedder = "hashing"\n')).fingerprint.dimension == 384


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_a_model_on_disk_is_meant_from_where_its_path_is_written(tmp_path: Path, kind: str) -> None:
    embedder = chosen(tmp_path, f'embedder = "{kind}"\nembedder_path = "model"\nembedder_query_prefix = "query: "\n')
    assert type(made(embedder)).__name__ == f"{kind.capitalize()}Embedder"
    with pytest.raises(EmbedderError, match=f"{tmp_path}/model is no folder"):
        embedder.fingerprint  # type: ignore[union-attr]  # noqa: B018


@pytest.mark.parametrize("kind", ["openai", "ollama", "cohere"])
def test_a_service_is_told_its_model_and_gets_its_key_from_where_a_reference_says(tmp_path: Path, kind: str) -> None:
    text = f'embedder = "{kind}"\nembedder_model = "m"\nembedder_dimension = 8\nembedder_api_key = {{ env = "MY_KEY" }}\n'
    embedder = chosen(tmp_path, text, {"MY_KEY": "k3y"})
    assert made(embedder).fingerprint.to_map() == {"name": kind, "version": "m", "dimension": 8, "normalized": True}
    assert made(embedder)._key == {"authorization": "Bearer k3y"}
    assert "k3y" not in repr(embedder) + repr(made(embedder))
    embedder = chosen(tmp_path, text, {"MEMORY": ""})  # no key, and nobody asked for the embedder yet
    with pytest.raises(ConfigError, match=r"apxm\.toml:5: memory\.embedder_api_key .*MY_KEY, which is not set"):
        made(embedder)


def test_variables_choose_an_embedder_too(tmp_path: Path) -> None:
    variables = {"APXM_MEMORY_EMBEDDER": "ollama", "APXM_MEMORY_EMBEDDER_MODEL": "all-minilm"}
    assert repr(made(chosen(tmp_path, "", variables))).startswith("HttpEmbedder('ollama', model='all-minilm'")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('embedder = "onnx"\n', r"apxm\.toml:2: memory\.embedder is 'onnx', and memory\.embedder_path is not set"),
        ('embedder = "openai"\n', r"memory\.embedder_model is not set"),
        (
            'embedder_url = "http://127.0.0.1/"\n',
            r"apxm\.toml:2: .*is `hashing`, which has no such key; set `memory\.embedder` to",
        ),
        ('embedder = "ollama"\nembedder_model = "m"\nembedder_path = "p"\n', "`onnx` or `torch`, or leave it out"),
        ('embedder = "word2vec"\n', "expected hashing, onnx, torch, openai, ollama or cohere"),
        ('embedder = "openai"\nembedder_model = "m"\nembedder_api_key = "sk-plain"\n', "in plain text|expected `{ env"),
        ("embedder_dimension = 0\n", "at least 1"),
    ],
)
def test_keys_that_do_not_fit_are_mistakes(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        chosen(tmp_path, text)
    assert "sk-plain" not in str(caught.value)


def test_keys_of_a_layer_that_chose_otherwise_are_passed_over(tmp_path: Path) -> None:
    project = 'embedder = "ollama"\nembedder_model = "m"\nembedder_url = "http://127.0.0.1:1"\n'
    embedder = chosen(tmp_path, project, {"APXM_MEMORY_EMBEDDER": "hashing", "APXM_MEMORY_EMBEDDER_DIMENSION": "32"})
    assert made(embedder).fingerprint.dimension == 32


def test_every_key_belongs_to_a_kind_and_every_kind_can_be_chosen() -> None:
    prefix = f"memory.{PREFIX}"
    keys = {name.removeprefix(prefix) for name in KEYS if name.startswith(prefix)}
    assert keys == {name for kind in EMBEDDER_KINDS.values() for name in (*kind.needs, *kind.may)}
    assert set(KEYS["memory.embedder"].kind.choices) == set(EMBEDDER_KINDS)


def test_to_choose_an_embedder_loads_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "apxm.toml").write_text('[memory]\nembedder = "torch"\nembedder_path = "p"\n')
    code = "import sys; from apxm.settings import load; assert load().runtime_config().memory_config.embedder.kind == 'torch'\n"
    probe = f"{code}print(*{{'numpy', 'torch', 'httpx', 'transformers'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("", "")
