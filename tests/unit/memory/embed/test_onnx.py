import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from apxm.errors import ConfigError, EmbedderError
from apxm.memory.embed.onnx import OnnxEmbedder
from tests.unit.memory.embed.models import SIZE, hidden_of, write_json, write_onnx, write_tokenizer

for package in ("onnxruntime", "tokenizers", "onnx"):
    pytest.importorskip(package, reason=f"{package} is not installed (the extras `onnx` and `dev`)")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_json(tmp_path / "config.json", {"max_position_embeddings": 16})
    write_tokenizer(tmp_path)
    write_onnx(tmp_path / "model.onnx")
    return tmp_path


def mean_of(text: str) -> np.ndarray:
    vector = hidden_of(text, 16).mean(axis=0)
    return vector / np.linalg.norm(vector)


def test_vectors_are_the_mean_of_the_tokens_in_the_order_of_the_texts(model: Path) -> None:
    texts = ["the cat sat on the mat", "a", "a dog and a bird " * 9, "a cat", "unheard words"]
    embedder = OnnxEmbedder(model, batch=2)
    found = embedder.embed(texts)
    assert (found.dtype, found.shape) == (np.float32, (5, SIZE))
    assert np.allclose(found, [mean_of(text) for text in texts], atol=1e-6)
    assert np.allclose(embedder.embed_query("a cat"), found[3], atol=1e-6)
    assert embedder.embed([]).shape == (0, SIZE)


def test_the_company_of_a_text_does_not_change_its_vector(model: Path) -> None:
    texts = ["a " * count for count in range(1, 40)]
    together = OnnxEmbedder(model, batch=39).embed(texts)
    assert np.allclose(together, OnnxEmbedder(model, batch=1).embed(texts), atol=1e-6)


def test_the_first_token_is_taken_where_the_folder_says_so(model: Path) -> None:
    write_json(model / "1_Pooling" / "config.json", {"pooling_mode_cls_token": True})
    first = hidden_of("a cat")[0]
    assert np.allclose(OnnxEmbedder(model).embed(["a cat"]), [first / np.linalg.norm(first)], atol=1e-6)


def test_a_model_that_pools_by_itself_is_taken_at_its_word(model: Path) -> None:
    write_onnx(model / "model.onnx", pooled=True)
    first = hidden_of("a cat")[0]
    assert np.allclose(OnnxEmbedder(model).embed(["a cat"]), [first / np.linalg.norm(first)], atol=1e-6)


def test_empty_texts_are_near_nothing(model: Path) -> None:
    embedder = OnnxEmbedder(model)
    assert [bool(vector.any()) for vector in embedder.embed(["", "cat", " \n"])] == [False, True, False]
    assert not embedder.embed_query("").any()


def test_prompts_come_from_the_folder_unless_others_are_given(model: Path) -> None:
    plain = OnnxEmbedder(model).fingerprint
    write_json(model / "config_sentence_transformers.json", {"prompts": {"query": "query: ", "document": "passage: "}})
    prompted = OnnxEmbedder(model)
    assert np.allclose(prompted.embed_query("a cat"), mean_of("query: a cat"), atol=1e-6)
    assert np.allclose(prompted.embed(["a cat"]), [mean_of("passage: a cat")], atol=1e-6)
    own = OnnxEmbedder(model, query_prefix="dog ", text_prefix="")
    assert np.allclose(own.embed_query("a cat"), mean_of("dog a cat"), atol=1e-6)
    assert np.allclose(own.embed(["a cat"]), [mean_of("a cat")], atol=1e-6)
    assert len({plain.version, prompted.fingerprint.version, own.fingerprint.version}) == 3


def test_texts_are_put_in_lower_case_where_the_folder_says_so(model: Path) -> None:
    write_json(model / "sentence_bert_config.json", {"max_seq_length": 16, "do_lower_case": True})
    assert np.allclose(OnnxEmbedder(model).embed(["A CAT"]), [mean_of("a cat")], atol=1e-6)


def test_the_fingerprint_is_that_of_the_files(model: Path, tmp_path: Path) -> None:
    first = OnnxEmbedder(model).fingerprint
    assert (first.name, first.dimension, first.normalized) == ("onnx", SIZE, True)
    assert OnnxEmbedder(str(model)).fingerprint == first
    write_json(model / "config.json", {"max_position_embeddings": 8})
    assert OnnxEmbedder(model).fingerprint != first


def test_a_model_below_onnx_is_found(model: Path) -> None:
    (model / "onnx").mkdir()
    (model / "model.onnx").rename(model / "onnx" / "model.onnx")
    assert OnnxEmbedder(model).embed(["cat"]).any()


def test_a_model_may_ask_for_token_types(model: Path) -> None:
    write_onnx(model / "model.onnx", inputs=("input_ids", "attention_mask", "token_type_ids"))
    assert np.allclose(OnnxEmbedder(model).embed(["a cat"]), [mean_of("a cat")], atol=1e-6)


@pytest.mark.parametrize("text", ["\ud800", "\x00", "x" * 1_000_000, "cat " * 250_000, "\u0301" * 1000, "[CLS] [SEP] [PAD]"])
def test_no_text_is_refused(model: Path, text: str) -> None:
    vector = OnnxEmbedder(model).embed([text])
    assert np.isfinite(vector).all()
    assert vector.any()


def test_many_threads_share_one_model(model: Path) -> None:
    embedder = OnnxEmbedder(model, batch=2)
    found: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        found[number] = embedder.embed(["cat " * number, "dog", "a bird " * number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, vectors in found.items():
        expected = [mean_of("cat " * number), mean_of("dog"), mean_of("a bird " * number)]
        assert np.allclose(vectors, expected, atol=1e-6)
    assert len(found) == 5


# ---- what goes wrong ----------------------------------------------------------------------------------------------------
def test_what_is_missing_is_said(model: Path) -> None:
    (model / "model.onnx").unlink()
    with pytest.raises(EmbedderError, match=r"has no model\.onnx and no onnx/model\.onnx"):
        OnnxEmbedder(model).embed(["cat"])
    (model / "tokenizer.json").unlink()
    with pytest.raises(EmbedderError, match=r"has no tokenizer\.json"):
        OnnxEmbedder(model).embed(["cat"])
    with pytest.raises(EmbedderError, match="is no folder"):
        OnnxEmbedder(model / "nowhere").fingerprint  # noqa: B018


def test_files_that_are_something_else_are_said(model: Path) -> None:
    whole = (model / "model.onnx").read_bytes()
    for content in (b"", b"not a model", whole[: len(whole) // 2]):
        (model / "model.onnx").write_bytes(content)
        with pytest.raises(EmbedderError, match=r"model\.onnx (cannot be loaded|asks for)"):
            OnnxEmbedder(model).embed(["cat"])
    (model / "tokenizer.json").write_text("{}")
    with pytest.raises(EmbedderError, match="is no tokenizer"):
        OnnxEmbedder(model).embed(["cat"])


def test_a_model_that_wants_something_else_is_said(model: Path) -> None:
    write_onnx(model / "model.onnx", inputs=("input_ids", "position_ids"))
    with pytest.raises(EmbedderError, match="asks for input_ids, position_ids, expected attention_mask, input_ids"):
        OnnxEmbedder(model).embed(["cat"])


def test_a_model_that_fails_is_said(model: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.add_tokens(["dimension"])  # a word for which the model has no row
    tokenizer.save(str(model / "tokenizer.json"))
    with pytest.raises(EmbedderError, match="fails"):
        OnnxEmbedder(model).embed(["cat"])


def test_a_package_that_is_missing_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnxruntime", "tokenizers"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(EmbedderError, match=rf"needs {package}, .*pip install 'apxm\[onnx\]'"):
                OnnxEmbedder(model).embed(["cat"])


def test_a_closed_embedder_says_so(model: Path) -> None:
    embedder = OnnxEmbedder(model)
    assert embedder.embed(["cat"]).any()
    embedder.close()
    embedder.close()
    with pytest.raises(EmbedderError, match="is closed"):
        embedder.embed(["cat"])


def test_a_batch_of_none_is_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match="`batch`"):
        OnnxEmbedder(model, batch=0)
