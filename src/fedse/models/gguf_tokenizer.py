"""The tokenizer of a GGUF file, and whether it is the right one.

transformers rebuilds a tokenizer from the file's vocabulary and merges.  Nothing fails where it guesses wrongly how
text is split: the model then reads other tokens than it was trained on, and plays worse.  So what it made is compared
with what the file itself says, by a second, slow encoder that knows of no library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fedse.errors import ModelError, boundary
from fedse.models.gguf_file import GgufFile

_CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 3, 4, 5, 6
_SPECIAL = ("bos", "eos", "unknown", "padding")
_MEND = (
    "convert the model anew with today's llama.cpp, or name its folder in Hugging Face layout instead of the GGUF file"
)

#: Asks for what pre-tokenizers differ in: contractions, long numbers, runs of spaces and line ends.
_SPLIT_PROBE = "I'LL  go12345 \n\n to!!"
#: Pre-tokenizer → how it splits the probe.
_SPLITS = {
    "gpt2": ("I", "'", "LL", " ", " go", "12345", " \n\n", " to", "!!"),
    "digits": ("I", "'", "LL", " ", " go", "1", "2", "3", "4", "5", " \n\n", " to", "!!"),
    "qwen2": ("I", "'LL", " ", " go", "1", "2", "3", "4", "5", " \n\n", " to", "!!"),
    "llama3": ("I", "'LL", " ", " go", "123", "45", " \n\n", " to", "!!"),
    "gpt4o": ("I'LL", " ", " go", "123", "45", " \n\n", " to", "!!"),
}
_SPLITS["tekken"] = _SPLITS["qwen2"]
#: ``tokenizer.ggml.pre`` → pre-tokenizer, as llama.cpp reads it.
_FAMILIES = {
    "gpt2": ("gpt-2", "phi-2", "mpt", "olmo", "trillion", "granite-docling"),
    "digits": ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
    "qwen2": ("qwen2", "deepseek-r1-qwen", "megrez", "kormo"),
    "llama3": ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "dbrx", "smaug-bpe"),
    "gpt4o": ("gpt-4o", "llama4"),
    "tekken": ("tekken",),
}
_FAMILY_OF = {name: family for family, names in _FAMILIES.items() for name in names}
#: Of these a piece of text that is a token stays one, whether or not merges lead to it.
_WHOLE_PIECES = {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "tekken"}

#: Varied texts whose ids are compared, and which must come back unchanged.
PROBES = (
    "Thought: I should go north.\nAction: go north 2",
    "I'll we'RE they've  don't  it's",
    "def f(x):\n    return {'a': [x + 1, -2.50]}  # ok?\n\n\n\tend",
    "  two spaces,   three,\tand a tab \n \n  lines \r\n",
    "1 12 123 1234 3.14159 2024-07-26 0x1F",
    "naïve café Ærøskøbing straße, in parts: cafe\u0301",
    "Привет, мир! Ελληνικά עברית العربية",
    "日本語と中文、한국어。",
    "🙂👩‍👩‍👧 ½ ∑ → ≤ ‘quotes’ “double” …",
    "https://example.org/a_b?c=1&d=%20#e camelCase SNAKE_CASE",
    "<b>tag</b> [INST] {json: null} \\escape\\ `tick` ~^|",
    "x",
)


@dataclass(frozen=True)
class TokenizerCheck:
    """What was found to be right about a tokenizer.

    Attributes:
        kind: as the file names it, as in "gpt2, split as qwen2".
        tokens: of the vocabulary that text can be encoded to.
        special: of them, each of which a text may name.
        texts, ids: encoded by both encoders, and of how many ids.
        end: the token that ends a text.
    """

    kind: str
    tokens: int
    special: int
    texts: int
    ids: int
    end: str


def rebuild(file: GgufFile) -> PreTrainedTokenizerFast:
    """The tokenizer of a GGUF file; saved and loaded again, it is the same.

    Raises:
        ModelError: if the file has none, none that is known, or no chat template.
    """
    with boundary(ModelError, f"cannot rebuild the tokenizer of {file.path}", _MEND):
        found = PreTrainedTokenizerFast.from_pretrained(file.path.parent, gguf_file=file.path.name)
    if not getattr(found, "chat_template", None):
        raise ModelError(f"{file.path} has no chat template", "take the file of an instruction-tuned model")
    backend = found.backend_tokenizer
    pre = file.tokenizer("pre")
    if file.tokenizer("model") == "gpt2":
        family = _family(file)
        # transformers takes GPT-2's way of splitting for what it does not know.
        if family == "digits":
            parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
            backend.pre_tokenizer = pre_tokenizers.Sequence(parts)
        backend.model.ignore_merges = pre in _WHOLE_PIECES
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    # A tokenizer of the family's class would build normalizer and pre-tokenizer of its own when it is loaded.
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, **{name: getattr(found, name) for name in names}
    )
    tokenizer.chat_template = found.chat_template
    return tokenizer


def check(file: GgufFile, tokenizer: PreTrainedTokenizerFast) -> TokenizerCheck:
    """Compare a tokenizer with what its GGUF file says.

    Raises:
        ModelError: with all that is not as the file has it.
    """
    problems = [*_vocabulary_problems(file, tokenizer), *_split_problems(file, tokenizer)]
    encode = _own_encoder(file, tokenizer)
    ids = 0
    for text in PROBES:
        found = tokenizer.encode(text, add_special_tokens=False)
        ids += len(found)
        if found != (expected := encode(text)):
            problems.append(f"{text!r} is encoded as {_shown(found)}; the file's own rules give {_shown(expected)}")
        back = str(tokenizer.decode(found, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        if back.lstrip(" ") != text.lstrip(" ") if file.tokenizer("model") == "llama" else back != text:
            problems.append(f"{text!r} comes back as {back!r}")
    if problems:
        raise ModelError(
            f"the tokenizer that transformers rebuilds from {file.path} is not the file's:"
            + "".join(f"\n  - {problem}" for problem in problems[:5]),
            _MEND,
        )
    kinds = _kinds(file)
    return TokenizerCheck(
        kind=f"{file.tokenizer('model')}" + (f", split as {pre}" if (pre := file.tokenizer("pre")) else ""),
        tokens=sum(kind != _UNUSED for kind in kinds),
        special=sum(kind in (_CONTROL, _USER_DEFINED) for kind in kinds),
        texts=len(PROBES),
        ids=ids,
        end=str(tokenizer.eos_token),
    )


def _kinds(file: GgufFile) -> Sequence[int]:
    """What each token is; ordinary ones where the file does not say."""
    return file.tokenizer("token_type") or [1] * len(file.tokenizer("tokens"))


def _family(file: GgufFile) -> str:
    pre = file.tokenizer("pre")
    if pre not in _FAMILY_OF:
        found = f"is split by {pre!r}, which fedse does not know" if pre else "does not say how text is split"
        raise ModelError(f"the tokenizer of {file.path} {found}", f"{_MEND}; known: {', '.join(_FAMILY_OF)}")
    return _FAMILY_OF[pre]


def _vocabulary_problems(file: GgufFile, tokenizer: PreTrainedTokenizerFast) -> Iterator[str]:
    tokens, vocabulary = file.tokenizer("tokens"), tokenizer.get_vocab()
    kinds = _kinds(file)
    if beyond := [token for token, index in vocabulary.items() if index >= len(tokens)]:
        yield f"{len(beyond)} tokens are not the file's ({beyond[0]!r}, …)"
    if moved := [
        token for index, token in enumerate(tokens) if kinds[index] in (1, _BYTE) and vocabulary.get(token) != index
    ]:
        yield f"{len(moved)} tokens have other ids than in the file ({moved[0]!r}, …)"
    for index, token in enumerate(tokens):
        if kinds[index] in (_CONTROL, _USER_DEFINED):
            found = tokenizer.encode(token, add_special_tokens=False)
            if found != [index]:
                yield f"the special token {token!r} is encoded as {_shown(found)} instead of [{index}]"
    for name, attribute in zip(_SPECIAL, ("bos", "eos", "unk", "pad"), strict=True):
        expected, found = file.tokenizer(f"{name}_token_id"), getattr(tokenizer, f"{attribute}_token_id")
        if expected is not None and found != expected:
            yield f"the {name} token is {found} instead of {expected}"
    if file.tokenizer("eos_token_id") is None:
        yield "the file names no token that ends a text"


def _split_problems(file: GgufFile, tokenizer: PreTrainedTokenizerFast) -> Iterator[str]:
    if file.tokenizer("model") == "gpt2":
        pieces = tuple(piece.replace("Ġ", " ").replace("Ċ", "\n") for piece in _pieces(tokenizer, _SPLIT_PROBE))
        if pieces != (expected := _SPLITS[_family(file)]):
            yield f"{_SPLIT_PROBE!r} is split into {pieces} instead of {expected}"


def _pieces(tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    return [piece for piece, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)]


def _own_encoder(file: GgufFile, tokenizer: PreTrainedTokenizerFast) -> Callable[[str], list[int]]:
    """Encodes by the file's vocabulary and merges, or scores, alone."""
    kind, tokens = file.tokenizer("model"), file.tokenizer("tokens")
    ids = {token: index for index, token in enumerate(tokens)}
    if kind == "gpt2":
        ranks = {tuple(merge.split(" ", 1)): rank for rank, merge in enumerate(file.tokenizer("merges"))}
        whole = file.tokenizer("pre") in _WHOLE_PIECES

        def encode(text: str) -> list[int]:
            parts = (
                [piece] if whole and piece in ids else _merged(list(piece), ranks) for piece in _pieces(tokenizer, text)
            )
            return [ids[part] for piece in parts for part in piece]

        return encode
    if kind == "llama":
        return _SentencePiece(file, ids).encode
    raise ModelError(
        f"the tokenizer of {file.path} is of the kind {kind!r}; fedse checks 'gpt2' and 'llama'",
        "name the model's folder in Hugging Face layout instead of the GGUF file",
    )


def _merged(parts: list[str], ranks: Mapping[tuple[str, ...], float]) -> list[str]:
    """Join the pair of the lowest rank, the leftmost of equals, until no pair has one."""
    while len(parts) > 1:
        rank, at = min((ranks.get(pair, float("inf")), at) for at, pair in enumerate(pairwise(parts)))
        if rank == float("inf"):
            break
        parts[at : at + 2] = ["".join(parts[at : at + 2])]
    return parts


class _SentencePiece:
    """Joins the pair that makes the best token; what is no token is spelled in bytes.

    A text begins with a space.  Where it does already, transformers adds none, and leaves that one out when it decodes.
    """

    def __init__(self, file: GgufFile, ids: Mapping[str, int]) -> None:
        self._ids = ids
        # Gemma's scores do not follow the order in which it merges; the order of its tokens does.
        ordered = file.architecture.startswith("gemma")
        scores = file.tokenizer("scores")
        self._costs = {token: float(index) if ordered else -scores[index] for token, index in ids.items()}
        space = file.tokenizer("add_space_prefix")
        self._prefix = "" if ordered or space is False else " "

    def encode(self, text: str) -> list[int]:
        parts = list((text if text.startswith(" ") else self._prefix + text).replace(" ", "▁"))
        while len(parts) > 1:
            costs = [(self._costs.get(one + two, float("inf")), at) for at, (one, two) in enumerate(pairwise(parts))]
            cost, at = min(costs)
            if cost == float("inf"):
                break
            parts[at : at + 2] = ["".join(parts[at : at + 2])]
        ids: list[int] = []
        for part in parts:
            ids += [self._ids[part]] if part in self._ids else [self._ids[f"<0x{byte:02X}>"] for byte in part.encode()]
        return ids


def _shown(ids: Sequence[int]) -> str:
    return f"[{', '.join(map(str, ids[:12]))}{', …' if len(ids) > 12 else ''}]"
