import json
from pathlib import Path

import pytest

from apxm.errors import EmbedderError
from apxm.memory.embed.folder import read_folder
from tests.unit.memory.embed.models import write_json

TYPES = "sentence_transformers.models."


def folder_with(path: Path, **files: object) -> Path:
    """A folder of a model with these JSON files; `__` in a name is a `/`."""
    given: dict[str, object] = {"config": {}, "tokenizer": {}, **files}
    for name, content in given.items():
        write_json(path / f"{name.replace('__', '/')}.json", content)
    return path


def test_a_plain_folder_reads_512_tokens_and_takes_their_mean(tmp_path: Path) -> None:
    found = read_folder(folder_with(tmp_path))
    assert (found.tokens_max, found.pooling, found.lower, found.pad) == (512, "mean", False, 0)
    assert (found.query_prefix, found.text_prefix) == ("", "")


def test_a_folder_says_how_its_model_is_used(tmp_path: Path) -> None:
    found = read_folder(
        folder_with(
            tmp_path,
            config={"pad_token_id": 7, "max_position_embeddings": 512},
            sentence_bert_config={"max_seq_length": 128, "do_lower_case": True},
            config_sentence_transformers={"prompts": {"query": "query: ", "passage": "passage: "}},
            modules=[{"type": f"{TYPES}Transformer", "path": ""}, {"type": f"{TYPES}Pooling", "path": "pool"}],
            pool__config={"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
        )
    )
    assert (found.tokens_max, found.pooling, found.lower, found.pad) == (128, "cls", True, 7)
    assert (found.query_prefix, found.text_prefix) == ("query: ", "passage: ")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"config": {"max_position_embeddings": 64}}, 64),
        ({"config": {"max_position_embeddings": 514, "model_type": "roberta"}}, 512),
        ({"config": {"max_position_embeddings": 64}, "sentence_bert_config": {"max_seq_length": 4096}}, 64),
        ({"tokenizer_config": {"model_max_length": 256}}, 256),
        ({"tokenizer_config": {"model_max_length": 10**30}}, 512),
        ({"sentence_bert_config": {"max_seq_length": None}}, 512),
        ({"sentence_bert_config": {"max_seq_length": "many"}, "config": {"max_position_embeddings": True}}, 512),
    ],
)
def test_a_model_is_given_no_more_tokens_than_it_has_positions(tmp_path: Path, files: dict, expected: int) -> None:
    assert read_folder(folder_with(tmp_path, **files)).tokens_max == expected


@pytest.mark.parametrize("pooling", [{"pooling_mode": "cls"}, {"pooling_mode_cls_token": True}])
def test_the_usual_place_of_pooling_is_looked_at_without_modules(tmp_path: Path, pooling: dict) -> None:
    assert read_folder(folder_with(tmp_path, **{"1_Pooling__config": pooling})).pooling == "cls"


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"modules": [{"type": f"{TYPES}Transformer", "path": ""}, {"type": f"{TYPES}Dense", "path": "2"}]}, "module `Dense`"),
        ({"modules": [{"type": f"{TYPES}Transformer", "path": "0_Transformer"}]}, "has its model in `0_Transformer`"),
        ({"modules": ["what"]}, "module ``"),
        ({"modules": {}}, "expected a list"),
        ({"1_Pooling__config": {"pooling_mode_max_tokens": True}}, "asks for pooling_mode_max_tokens, expected mean or cls"),
        ({"1_Pooling__config": {"pooling_mode": "lasttoken"}}, "asks for lasttoken"),
        ({"1_Pooling__config": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}}, "tokens and pooling"),
        ({"1_Pooling__config": {"pooling_mode_mean_tokens": True, "include_prompt": False}}, "expected mean or cls"),
        ({"config": []}, "expected an object"),
    ],
)
def test_a_model_that_works_in_another_way_is_refused(tmp_path: Path, files: dict, why: str) -> None:
    with pytest.raises(EmbedderError, match=why):
        read_folder(folder_with(tmp_path, **files))


def test_what_is_no_folder_of_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(EmbedderError, match=r"nowhere is no folder.*memory\.embedder_path"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(EmbedderError, match=r"has no config\.json; expected the folder of a model"):
        read_folder(tmp_path)
    write_json(tmp_path / "config.json", {})
    with pytest.raises(EmbedderError, match=r"has no tokenizer\.json"):
        read_folder(tmp_path)


@pytest.mark.parametrize("text", ["{", "", "\x00", "[" * 100_000])
def test_a_file_that_is_no_json_is_said(tmp_path: Path, text: str) -> None:
    (folder_with(tmp_path) / "config.json").write_text(text)
    with pytest.raises(EmbedderError, match=r"config\.json is no JSON"):
        read_folder(tmp_path)


def test_the_digest_is_of_all_that_vectors_depend_on(tmp_path: Path) -> None:
    weights = tmp_path / "model.onnx"
    weights.write_bytes(b"12345")
    folder = read_folder(folder_with(tmp_path))
    first = folder.digest([weights], "")
    assert folder.digest([weights], "") == first
    assert folder.digest([weights], "other prefixes") != first
    assert folder._replace(pooling="cls").digest([weights], "") != first
    weights.write_bytes(b"12346")
    changed = folder.digest([weights], "")
    (tmp_path / "tokenizer.json").write_text(json.dumps({"a": 1}))
    assert len({first, changed, folder.digest([weights], "")}) == 3


def test_the_place_of_a_folder_is_no_part_of_the_digest(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        folder = folder_with(tmp_path / name)
        (folder / "model.onnx").write_bytes(b"12345")
        found.append(read_folder(folder).digest([folder / "model.onnx"], ""))
    assert found[0] == found[1]
