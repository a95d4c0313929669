"""GGUF files as base models: converted once, completely, with the right tokenizer, or refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import normalizers, pre_tokenizers

from fedse.config import ModelConfig
from fedse.errors import ModelError, StorageError
from fedse.models import catalogue, converting, gguf_tokenizer
from fedse.models.base import fingerprint, load_base, load_tokenizer
from fedse.models.gguf_file import digest, read_head
from fedse.planning import architecture_of
from helpers.made_gguf import TEMPLATE, Made, write_gguf, write_sentencepiece

TEXTS = ("go north 12345\n\n  and  I'LL see", "<|im_start|>user\nÆ 🙂<|im_end|>", "cafe\u0301")


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where converted models go."""
    monkeypatch.setenv("FEDSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were converted to, in order."""
    folders: list[Path] = []
    convert = converting.convert

    def counted(file: Any, folder: Path, *rest: Any, **options: Any) -> None:
        folders.append(folder)
        convert(file, folder, *rest, **options)

    monkeypatch.setattr(converting, "convert", counted)
    return folders


def load(path: Path | str) -> Any:
    return load_base(ModelConfig(name=str(path), device="cpu", dtype="float32"))


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_file_is_the_model_that_it_was_made_of(tmp_path: Path, architecture: str) -> None:
    made = write_gguf(tmp_path / "tiny.gguf", architecture=architecture)
    base = load(made.path)
    assert base.fingerprint == fingerprint(made.model)
    assert base.name == str(made.path), "a run's configuration keeps what the user wrote"
    ids = torch.arange(12)[None]
    expected = made.model.to(torch.bfloat16).float()(ids).logits
    torch.testing.assert_close(base.model(ids).logits, expected)


def test_its_tokenizer_is_the_one_that_it_was_made_of(made: Made) -> None:
    tokenizer = load_tokenizer(ModelConfig(name=str(made.path)))
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert ids == made.tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False) == text
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.eos_token == "<|im_end|>"


def test_a_file_is_converted_once_whatever_it_is_called(made: Made, tmp_path: Path, conversions: list[Path]) -> None:
    load(made.path)
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(made.path.read_bytes())
    assert load(copy).fingerprint == load(made.path).fingerprint
    assert len(conversions) == 1


def test_other_content_at_the_same_path_is_another_model(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    before = load(path).fingerprint
    write_gguf(path, seed=1)
    assert load(path).fingerprint != before


@pytest.mark.parametrize("place", [0, 2**25 + 5, -1])
def test_the_digest_follows_the_content(tmp_path: Path, place: int) -> None:
    file = tmp_path / "large.gguf"
    content = bytearray(2**25 + 2**20)
    file.write_bytes(content)
    before = digest(file)
    content[place] = 1
    file.write_bytes(content)
    assert digest(file) != before


def test_of_processes_that_want_the_same_model_one_makes_it(made: Made, models: Path, conversions: list[Path]) -> None:
    # A lock is of an open file, so threads stand for processes.
    killed = models / f".gguf-{digest(made.path)}.0123456789ab.tmp"
    killed.mkdir(parents=True)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(catalogue.import_file(made.path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(conversions) == 1
    assert found == [conversions[0]] * 3
    assert not killed.exists(), "what a killed process left is removed"


def test_an_imported_model_is_found_by_its_name_and_by_its_file(made: Made, conversions: list[Path]) -> None:
    catalogue.import_file(made.path, "mine")
    assert load("mine").fingerprint == load(made.path).fingerprint
    assert len(conversions) == 1
    usual = (conversions[0] / "config.json").stat().st_mode
    assert {path.stat().st_mode for path in conversions[0].iterdir()} == {usual}
    assert "mine" in [info.name for info in catalogue.installed()]
    with pytest.raises(ModelError, match="unknown model 'min'") as refusal:
        load("min")
    assert "'mine'" in refusal.value.mend


def test_a_name_belongs_to_one_model(made: Made, tmp_path: Path) -> None:
    catalogue.import_file(made.path, "mine")
    catalogue.import_file(made.path, "mine")
    other = write_gguf(tmp_path / "other.gguf", seed=1)
    with pytest.raises(ModelError, match="'mine' is the name of another model"):
        catalogue.import_file(other.path, "mine")
    for name in ("nano", "tiny", "smollm2-135m", "a/b", "..", "", "x.gguf"):
        with pytest.raises(ModelError, match="cannot be the name"):
            catalogue.import_file(made.path, name)


def test_a_memory_plan_needs_no_conversion(made: Made, conversions: list[Path]) -> None:
    shapes = architecture_of(str(made.path))
    assert shapes.parameters == sum(parameter.numel() for parameter in made.model.parameters())
    assert not conversions
    load(made.path)
    assert architecture_of(str(made.path)).parameters == shapes.parameters


def test_numbers_are_split_as_the_file_says(tmp_path: Path) -> None:
    made = write_gguf(tmp_path / "tiny.gguf", pre="smollm")
    tokenizer = load_tokenizer(ModelConfig(name=str(made.path)))
    pieces = [piece for piece, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")]
    assert pieces == ["a", "ĠĠ", "1", "2"], "GPT-2 would keep a space for the number, and the number whole"


@pytest.mark.parametrize(("pre", "whole"), [("llama-bpe", True), ("qwen2", False)])
def test_a_token_to_which_no_merge_leads_is_found_where_the_family_finds_it(
    tmp_path: Path, pre: str, whole: bool
) -> None:
    word = "zqzq"

    def unmerged(writer: gguf.GGUFWriter) -> None:
        tokens, merges = (writer.kv_data[0][f"tokenizer.ggml.{key}"] for key in ("tokens", "merges"))
        merges.value = [merge for merge in merges.value if merge.replace(" ", "") != tokens.value[-1]]
        tokens.value = [*tokens.value[:-1], word]

    made = write_gguf(tmp_path / "tiny.gguf", pre=pre, more=unmerged)
    tokenizer = load_tokenizer(ModelConfig(name=str(made.path)))
    ids = tokenizer.encode(word, add_special_tokens=False)
    assert (ids == [made.tokenizer.get_vocab_size() - 1]) is whole


def test_a_tokenizer_that_merges_by_score_is_checked_too(tmp_path: Path) -> None:
    path = write_sentencepiece(tmp_path / "pieces.gguf")
    tokenizer = load_tokenizer(ModelConfig(name=str(path)))
    assert tokenizer.tokenize("the north") == ["▁the", "▁north"]
    note = json.loads((Path(catalogue.resolve(str(path))) / catalogue.NOTE_NAME).read_text())
    assert note["tokenizer"]["texts"] == len(gguf_tokenizer.PROBES)


def _composed(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()


def _gpt2(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)


def _unmerged(tokenizer: Any) -> None:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["merges"] = state["model"]["merges"][1:]
    tokenizer._tokenizer = type(tokenizer.backend_tokenizer).from_str(json.dumps(state))


def _other_end(tokenizer: Any) -> None:
    tokenizer.eos_token = "<|endoftext|>"


def _cut_special(tokenizer: Any) -> None:
    tokenizer.split_special_tokens = True


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_composed, "comes back as"),
        (_gpt2, "is split into"),
        (_unmerged, "own rules give"),
        (_other_end, "the eos token is 0 instead of 2"),
        (_cut_special, "special token '<|im_start|>' is encoded as"),
    ],
)
def test_a_tokenizer_that_is_not_the_files_is_refused(made: Made, spoil: Callable[[Any], None], said: str) -> None:
    file = read_head(made.path)
    tokenizer = gguf_tokenizer.rebuild(file)
    gguf_tokenizer.check(file, tokenizer)
    spoil(tokenizer)
    with pytest.raises(ModelError) as refusal:
        gguf_tokenizer.check(file, tokenizer)
    assert said in refusal.value.what
    assert "llama.cpp" in refusal.value.mend


def _bias(writer: gguf.GGUFWriter) -> None:
    writer.add_tensor("blk.0.attn_q.bias", np.ones(32, np.float32))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"template": None}, "has no chat template"),
        ({"pre": None}, "does not say how text is split"),
        ({"pre": "martian"}, "is split by 'martian'"),
        ({"declared": "rwkv7"}, "cannot read the architecture 'rwkv7'"),
        ({"architecture": "llama", "more": _bias}, "weights in"),
        (
            {"more": lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)},
            "scales its positions (yarn)",
        ),
        ({"more": lambda writer: writer.add_rope_dimension_count(4)}, "turns 4 of 8 dimensions"),
        ({"more": lambda writer: writer.add_uint16("split.count", 3)}, "one part of 3"),
    ],
)
def test_what_a_conversion_would_lose_is_refused(
    tmp_path: Path, models: Path, options: dict[str, Any], said: str
) -> None:
    made = write_gguf(tmp_path / "tiny.gguf", **options)
    with pytest.raises(ModelError) as refusal:
        load(made.path)
    assert said in refusal.value.what
    assert refusal.value.mend
    assert not [entry for entry in models.glob("*") if entry.is_dir()], "nothing is left of it"


def _llama3(*factors: float) -> Callable[[gguf.GGUFWriter], None]:
    """Factors for the four frequencies of a head of eight, whose waves are 6, 199, 6,283 and 198,692 positions long."""

    def write(writer: gguf.GGUFWriter) -> None:
        writer.kv_data[0]["llama.rope.freq_base"].value = 1e6
        writer.add_tensor("rope_freqs.weight", np.array(factors, np.float32))

    return write


def test_positions_that_are_scaled_as_llama_3s_are_scaled_so(tmp_path: Path) -> None:
    # Llama 3 leaves waves under 2,048 positions as they are, makes those over 8,192 longer, and blends in between.
    share = (8192 * 1e-3 / (2 * np.pi) - 1) / 3
    factors = (1, 1, 1 / ((1 - share) / 32 + share), 32)
    made = write_gguf(tmp_path / "tiny.gguf", architecture="llama", more=_llama3(*factors))
    found = load(made.path).model.model.rotary_emb.inv_freq
    expected = 1e6 ** -(torch.arange(4) / 4) / torch.tensor(factors)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_positions_that_are_scaled_in_another_way_are_refused(tmp_path: Path) -> None:
    made = write_gguf(tmp_path / "tiny.gguf", architecture="llama", more=_llama3(1, 2, 16, 32))
    with pytest.raises(ModelError, match="not Llama 3's"):
        load(made.path)


def test_a_damaged_file_is_refused(made: Made, tmp_path: Path) -> None:
    content = made.path.read_bytes()
    broken = tmp_path / "broken.gguf"
    for spoiled, said in (
        (b"", "is empty"),
        (b"PK" + content, "is no GGUF file: it begins with"),
        (content[:-100], "is cut off"),
        (content[:300], "is no sound GGUF file"),
        (content[:4] + b"\x09" + content[5:], "version 9"),
    ):
        broken.write_bytes(spoiled)
        with pytest.raises(ModelError) as refusal:
            load(broken)
        assert said in refusal.value.what
        assert refusal.value.mend
    with pytest.raises(ModelError, match="there is no file") as refusal:
        load(tmp_path / "nowhere.gguf")
    assert "GGUF" in refusal.value.mend


def test_a_file_that_may_not_be_read_is_a_storage_error(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(StorageError, match="cannot read"):
        load(made.path)
