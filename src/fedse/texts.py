"""Text at the borders: made sound where it comes in from others, harmless where it goes to a terminal or a shell."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

#: Half of a character (a lone surrogate): JSON can spell it, but no file and no tokenizer takes it.
_HALF = re.compile("[\ud800-\udfff]")
_HALF_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")
_INSTEAD = "\ufffd"

#: Control characters, with which a text could move the cursor, recolour the terminal or ask it to type; but for tab and
#: newline.  Unicode has pictures of the first 32 and of DEL.
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"}
_CONTROLS |= {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), ord(_INSTEAD))


def counted(count: float, thing: str) -> str:
    """A number of things, as in ``1 run``, ``2 runs``, ``2 successes`` and ``2 trajectories``."""
    if count == 1:
        return f"{count:g} {thing}"
    ending = "ies" if thing.endswith("y") else "es" if thing.endswith("s") else "s"
    return f"{count if isinstance(count, int) else f'{count:g}'} {thing.removesuffix('y')}{ending}"


def command(begin: str, *words: object) -> str:
    """A command as one types it: ``begin`` as it is, then words, those with spaces in quotation marks."""
    return f"{begin} {shlex.join(map(str, words))}"


def well_formed(text: str) -> str:
    """The text with U+FFFD for every half of a character, so that it can be written and tokenized."""
    return _HALF.sub(_INSTEAD, text)


def visible(text: str) -> str:
    """The text with a picture for every control character, so that a terminal obeys none; as long as it was."""
    return text.translate(_CONTROLS)


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8, without the byte order mark that some editors put before it.

    Raises:
        OSError: if it cannot be read.
        UnicodeDecodeError: if it is no UTF-8.
    """
    return path.read_text(encoding="utf-8-sig")


def parse_json(content: bytes | str) -> Any:
    """JSON data, with or without a byte order mark, its texts :func:`well_formed`.

    Raises:
        ValueError: if it is no JSON, or nested too deeply.
    """
    text = content if isinstance(content, str) else content.decode(json.detect_encoding(content), "surrogatepass")
    try:
        data = json.loads(text.removeprefix("\ufeff"))
    except RecursionError as cause:
        raise ValueError("it is nested too deeply") from cause
    return _well_formed_data(data) if _HALF.search(text) or _HALF_ESCAPED.search(text) else data


def _well_formed_data(data: Any) -> Any:
    if isinstance(data, str):
        return well_formed(data)
    if isinstance(data, list):
        return [_well_formed_data(item) for item in data]
    if isinstance(data, dict):
        return {well_formed(key): _well_formed_data(value) for key, value in data.items()}
    return data
