"""Small models in folders, as sentence-transformers lays them out, for the tests of embedders that read one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "on", "mat", "a", "dog", "and", "bird", "query", ":", "passage")
SIZE = 6  # of a vector
TABLE = np.random.default_rng(5).normal(size=(len(WORDS), SIZE)).astype(np.float32)
MIX = np.random.default_rng(6).normal(size=(SIZE, SIZE)).astype(np.float32)


def ids_of(text: str, tokens_max: int = 512) -> list[int]:
    """What the tokenizer makes of a text of these words: [CLS], one token a word, [SEP]."""
    words = [WORDS.index(word) if word in WORDS else 1 for word in text.replace(":", " :").split()]
    return [2, *words[: tokens_max - 2], 3]


def hidden_of(text: str, tokens_max: int = 512) -> Any:
    """What the ONNX model makes of the tokens of a text, of shape (tokens, SIZE)."""
    return np.tanh(TABLE[ids_of(text, tokens_max)] @ MIX)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_onnx(path: Path, *, inputs: tuple[str, ...] = ("input_ids", "attention_mask"), pooled: bool = False) -> None:
    """A model of one layer: tanh(TABLE[input_ids] @ MIX). With `pooled`, it gives the first token alone."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "mix"], ["mixed"]),
        helper.make_node("Tanh", ["mixed"], ["last_hidden_state"]),
    ]
    constants = [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(MIX, "mix")]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["texts", "tokens", SIZE])
    if pooled:
        constants.append(numpy_helper.from_array(np.array(0), "first"))
        nodes.append(helper.make_node("Gather", ["last_hidden_state", "first"], ["sentence_embedding"], axis=1))
        output = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["texts", SIZE])
    given = [helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"]) for name in inputs]
    graph = helper.make_graph(nodes, "tiny", given, [output], constants)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
