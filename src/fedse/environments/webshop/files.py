"""Catalogues in the original's file formats."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fedse.environments.webshop.products import MISSING_PRICE, NO_ATTRIBUTES, Product, paid_price
from fedse.errors import ConfigError
from fedse.storage import atomic_write
from fedse.texts import parse_json

#: The small catalogue of the original, which AgentGym serves, comes before the full one.
_ITEMS = ("items_shuffle_1000.json", "items_shuffle.json")
_AMOUNT = re.compile(r"\$\s*([\d,]*\.?\d+)")
_LONGEST_ASIN = 10
_KINDS: Mapping[type, str] = {str: "a text", list: "a list", dict: "an object"}
_T = TypeVar("_T")
_MEND = "give the folder with the original's items_shuffle and items_ins_v2 files, or the items file itself"


def read_catalogue(path: Path, prices: Mapping[str, float] | None = None) -> list[Product]:
    """The products of the original's data files, in their order, normalised as the original does.

    Args:
        path: the file ``items_shuffle….json``, beside which ``items_ins_v2….json`` lies, or the folder of both; either
            may be gzipped.  In a folder with several, the one of 1,000 products is taken.
        prices: asin → price to be paid; otherwise see :func:`~fedse.environments.webshop.products.paid_price`.

    Raises:
        ConfigError: if a file is missing, unreadable or not in that format.
    """
    items_file = _items_file(path)
    wishes_file = items_file.with_name(items_file.name.replace("items_shuffle", "items_ins_v2", 1))
    items, wishes = read_json(items_file, list), read_json(wishes_file, dict)
    products: dict[str, Product] = {}
    for number, item in enumerate(items):
        try:
            asin = _checked(_checked(item, dict, "it")["asin"], str, "asin")
            if asin == "nan" or len(asin) > _LONGEST_ASIN or asin in products:
                continue
            products[asin] = _product(item, wishes.get(asin, {}), prices)
        except (KeyError, TypeError, ValueError) as cause:
            told = f"{cause} is missing" if isinstance(cause, KeyError) else str(cause)
            what = f"webshop: {items_file} is not in the original's format; product {number}: {told}"
            raise ConfigError(what, _MEND) from cause
    return list(products.values())


def write_catalogue(products: Sequence[Product], folder: Path) -> None:
    """Write a catalogue so that the original engine loads it, and so that :func:`read_catalogue` gives it back.

    Args:
        products: the catalogue; with 1,000 products its files are named like the original's small ones.
        folder: where to; made if missing.

    Raises:
        StorageError: if a file cannot be written.
    """
    items_name = _ITEMS[0] if len(products) == 1000 else _ITEMS[1]
    wishes: dict[str, dict[str, Any]] = {}
    for product in products:
        wishes[product.asin] = {"attributes": list(product.attributes)}
        if product.instruction:
            wishes[product.asin] |= {"instruction": product.instruction, "instruction_attributes": list(product.wanted)}
    for name, content in (
        (items_name, [_item(product) for product in products]),
        (items_name.replace("items_shuffle", "items_ins_v2"), wishes),
        # Instructions written by people; the original reads the file even when it does not use it.
        ("items_human_ins.json", {}),
    ):
        atomic_write(folder / name, json.dumps(content, ensure_ascii=False))


def _product(item: Mapping[str, Any], wish: Any, prices: Mapping[str, float] | None) -> Product:
    bullets = item["small_description"]
    shown = _prices(_checked(item["pricing"] or "", str, "pricing"))
    told = _checked(wish, dict, "its wish")
    wanted = _texts(told.get("instruction_attributes", []), "instruction_attributes")
    if told.get("instruction") and not wanted:
        raise ValueError(f"the instruction of {item['asin']} names no attributes")
    return Product(
        asin=item["asin"],
        title=_checked(item["name"], str, "name"),
        description=_checked(item["full_description"] or "", str, "full_description"),
        bullets=_texts([bullets] if isinstance(bullets, str) else bullets or [], "small_description"),
        category=_checked(item["category"], str, "category"),
        query=_checked(item["query"], str, "query").lower().strip(),
        breadcrumb=_checked(item["product_category"], str, "product_category"),
        prices=shown,
        price=paid_price(item["asin"], shown) if prices is None else prices[item["asin"]],
        options=_options(_checked(item["customization_options"] or {}, dict, "customization_options")),
        attributes=_texts(told["attributes"], "attributes") if "attributes" in told else NO_ATTRIBUTES,
        instruction=_checked(told.get("instruction") or "", str, "instruction"),
        wanted=wanted,
    )


def _checked(value: Any, kind: type[_T], place: str) -> _T:
    """A value of a product, if it is of the kind that the format has there.

    Raises:
        ValueError: saying what it is instead.
    """
    if not isinstance(value, kind):
        found = "null" if value is None else _KINDS.get(type(value), "a number")
        raise ValueError(f"{place} is {found}, not {_KINDS[kind]}")
    return value


def _texts(values: Any, place: str) -> tuple[str, ...]:
    return tuple(_checked(value, str, f"{place}[{at}]") for at, value in enumerate(_checked(values, list, place)))


def _prices(pricing: str) -> tuple[float, ...]:
    amounts = tuple(float(amount.replace(",", "")) for amount in _AMOUNT.findall(pricing))
    return amounts[:2] or MISSING_PRICE


def _options(groups: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {
        name.lower(): tuple(
            _checked(_checked(entry, dict, f"an entry of {name!r}")["value"], str, f"a value of {name!r}")
            .strip()
            .replace("/", " | ")
            .lower()
            for entry in _checked(entries, list, f"the option {name!r}")
        )
        for name, entries in groups.items()
        if entries is not None
    }


def _item(product: Product) -> dict[str, Any]:
    return {
        "asin": product.asin,
        "name": product.title,
        "full_description": product.description,
        "small_description": list(product.bullets),
        "pricing": "" if product.prices == MISSING_PRICE else "".join(f"${price:,.2f}" for price in product.prices),
        "category": product.category,
        "query": product.query,
        "product_category": product.breadcrumb,
        "customization_options": {
            name: [{"value": value, "image": None} for value in values] for name, values in product.options.items()
        },
        "images": [f"https://shop.invalid/{product.asin}.jpg"],
    }


def _items_file(path: Path) -> Path:
    if not path.is_dir():
        if not path.name.startswith("items_shuffle"):
            raise ConfigError(f"webshop: there is no folder {path}, and it is not named like an items file", _MEND)
        return _present(path)
    for name in _ITEMS:
        if (path / name).is_file() or (path / f"{name}.gz").is_file():
            return _present(path / name)
    raise ConfigError(f"webshop: the folder {path} holds no {' or '.join(_ITEMS)}", _MEND)


def read_json(path: Path, kind: type = dict) -> Any:
    """The content of a JSON file, or of its gzipped or plain sibling.

    Raises:
        ConfigError: if there is none, or it holds something else than a ``kind``, which is ``dict`` or ``list``.
    """
    path = _present(path)
    try:
        content = path.read_bytes()
        data = parse_json(gzip.decompress(content) if path.suffix == ".gz" else content)
    except (OSError, EOFError, zlib.error, ValueError) as cause:
        raise ConfigError(f"webshop: {path} cannot be read: {cause}", _MEND) from cause
    if not isinstance(data, kind):
        raise ConfigError(f"webshop: {path} holds {type(data).__name__}, expected {kind.__name__}", _MEND)
    return data


def _present(path: Path) -> Path:
    sibling = path.with_suffix("") if path.suffix == ".gz" else path.with_name(f"{path.name}.gz")
    for candidate in (path, sibling):
        if candidate.is_file():
            return candidate
    raise ConfigError(f"webshop: there is no file {path}", _MEND)
