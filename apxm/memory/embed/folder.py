"""What a folder with an embedding model says: its files, how long texts may be, how tokens become one vector. Loads no model.

The layout is that of sentence-transformers: `config.json` and `tokenizer.json` beside the weights; and, where they are,
`modules.json`, `1_Pooling/config.json`, `sentence_bert_config.json` and `config_sentence_transformers.json`.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from apxm.errors import EmbedderError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

Pooling: TypeAlias = Literal["mean", "cls"]

CONFIG, TOKENIZER, MODULES = "config.json", "tokenizer.json", "modules.json"
POOLING = "1_Pooling"
TOKENS, PROMPTS = "sentence_bert_config.json", "config_sentence_transformers.json"
TOKENS_MAX = 512  # when no file says how many a model reads
_NO_LIMIT = 1_000_000  # tokenizers without a limit write 10**30
_OFFSET = frozenset(("roberta", "xlm-roberta", "camembert", "mpnet"))  # count positions from 2
_JSON_MAX = 16 * 1024 * 1024
_PIECE = 1024 * 1024
_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "mean": "mean",
    "cls": "cls",
}


class ModelFolder(NamedTuple):
    """A model on disk. `tokens_max` is what it reads of a text; `lower` whether texts are put in lower case first;
    `query_prefix` and `text_prefix` are the prompts that the folder has for queries and for texts."""

    path: Path
    tokens_max: int
    pooling: Pooling
    lower: bool
    pad: int
    query_prefix: str
    text_prefix: str

    def file(self, *names: str) -> Path:
        """The first of some files that is there; EmbedderError when none is."""
        for name in names:
            if (self.path / name).is_file():
                return self.path / name
        raise _missing(self.path, names)

    def digest(self, weights: Iterable[Path], mark: str) -> str:
        """What tells this model from any other: a digest of its weights and of all that its vectors depend on.

        `mark` stands for the prefixes, which may be others than those of the folder. Where the folder lies does not count.
        """
        use = (self.tokens_max, self.pooling, self.lower, self.pad, mark)
        state = blake2b(repr(use).encode(), digest_size=16)
        for path in (self.path / CONFIG, self.path / TOKENIZER, *sorted(weights)):
            state.update(f"{path.name} {path.stat().st_size}\n".encode())
            with open(path, "rb") as file:
                while piece := file.read(_PIECE):
                    state.update(piece)
        return state.hexdigest()


def read_folder(path: str | os.PathLike[str]) -> ModelFolder:
    """What the folder says; EmbedderError for one that holds no model, or one that works in a way that is not known here."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise EmbedderError(f"{folder} is no folder, expected that of an embedding model", hint="`memory.embedder_path`")
    for name in (CONFIG, TOKENIZER):
        if not (folder / name).is_file():
            raise _missing(folder, (name,))
    config, tokens = _json(folder / CONFIG), _json(folder / TOKENS)
    prompts = _map(_json(folder / PROMPTS).get("prompts"))
    return ModelFolder(
        folder,
        _tokens_max(config, tokens, _json(folder / "tokenizer_config.json")),
        _pooling(folder),
        tokens.get("do_lower_case") is True,
        _whole(config.get("pad_token_id")) or 0,
        _text(prompts.get("query")),
        _text(prompts.get("document", prompts.get("passage"))),
    )


def _tokens_max(config: dict[str, Any], tokens: dict[str, Any], tokenizer: dict[str, Any]) -> int:
    positions = _whole(config.get("max_position_embeddings"))
    if positions and config.get("model_type") in _OFFSET:
        positions -= 2
    said = _whole(tokens.get("max_seq_length")) or _whole(tokenizer.get("model_max_length")) or positions or TOKENS_MAX
    return max(1, min(said, positions or _NO_LIMIT, _NO_LIMIT))


def _pooling(folder: Path) -> Pooling:
    """How the vectors of the tokens become one: their mean when no file says."""
    where = folder / POOLING
    modules = _json(folder / MODULES, [])
    for module in modules if isinstance(modules, list) else ():
        kind = _text(_map(module).get("type")).rpartition(".")[2]
        if kind not in ("Transformer", "Pooling", "Normalize"):
            raise EmbedderError(f"{folder / MODULES} has a module `{kind}`, expected Transformer, Pooling and Normalize alone")
        if kind == "Pooling":
            where = folder / _text(_map(module).get("path"))
        elif kind == "Transformer" and module.get("path"):
            raise EmbedderError(f"{folder} has its model in `{module['path']}`, expected it in the folder itself")
    said = _json(where / CONFIG)
    modes = [name for name, on in said.items() if name.startswith("pooling_mode_") and on is True]
    if isinstance(said.get("pooling_mode"), str):
        modes = [said["pooling_mode"]]
    if len(modes) > 1 or any(mode not in _POOLINGS for mode in modes) or said.get("include_prompt") is False:
        raise EmbedderError(f"{where / CONFIG} asks for {' and '.join(modes) or 'prompts left out'}, expected mean or cls")
    return _POOLINGS[modes[0]] if modes else "mean"


def _json(path: Path, default: Any = None) -> Any:
    """A JSON file, or `default` (an empty map) when it is not there."""
    default = {} if default is None else default
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(_JSON_MAX))
    except FileNotFoundError:
        return default
    except OSError as error:
        raise EmbedderError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise EmbedderError(f"{path} is no JSON") from error
    if not isinstance(found, type(default)):
        raise EmbedderError(f"{path} is not what a model has there, expected {'a list' if default == [] else 'an object'}")
    return found


def _map(given: Any) -> dict[str, Any]:
    return given if isinstance(given, dict) else {}


def _text(given: Any) -> str:
    return given if isinstance(given, str) else ""


def _whole(given: Any) -> int | None:
    return given if type(given) is int and 0 <= given < _NO_LIMIT else None


def _missing(folder: Path, names: Iterable[str]) -> EmbedderError:
    return EmbedderError(
        f"{folder} has no {' and no '.join(names)}",
        hint="expected the folder of a model as sentence-transformers saves it, with a `tokenizer.json`",
    )
