"""YAML as fedse reads and writes it: plain data only, with the scalars of YAML 1.2.

PyYAML follows YAML 1.1, in which ``5e-5`` is text, ``no`` is false and ``12:30`` is 750: traps in a configuration.  So
PyYAML parses the structure here, and scalars are read and written by the core schema of YAML 1.2
(https://yaml.org/spec/1.2.2/#103-core-schema), without its octal and hexadecimal numbers.  Repeated keys and
foreign tags are refused, and so are aliases that repeat more than a configuration can have to say: ten lines of them
can stand for billions of values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import yaml

from fedse.texts import well_formed


class _Scalar(NamedTuple):
    kind: str
    pattern: re.Pattern[str]
    first: list[str]  # the characters it may begin with
    read: Callable[[str], Any]


_SCALARS = (
    _Scalar("null", re.compile(r"(?:~|null|Null|NULL|)\Z"), [*"~nN", ""], lambda _: None),
    _Scalar(
        "bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), [*"tTfF"], lambda text: text.lower() == "true"
    ),
    _Scalar("int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z"), [*"-+0123456789"], int),
    _Scalar(
        "float",
        re.compile(
            r"(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        [*"-+.0123456789"],
        lambda text: float(re.sub(r"\.(?=[a-zA-Z])", "", text)),
    ),
)
_DEEPEST = 30
#: What aliases may repeat in all: values, and the characters in them.
_MOST_REPEATED = 100_000
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.BaseLoader):
    """Parses the structure, and tags scalars as they resolve."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (declared by the base class; add_implicit_resolver fills it)


class _Dumper(yaml.SafeDumper):
    """Quotes text that would otherwise resolve to something else."""

    yaml_implicit_resolvers = {}  # noqa: RUF012


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Escape whatever is no plain character: PyYAML's single quotes turn some line breaks into others."""
    return dumper.represent_scalar(f"{_TAG}str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)
for _scalar in _SCALARS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _scalar.kind, _scalar.pattern, _scalar.first)


def parse_yaml(text: str) -> Any:
    """The plain data (mappings with text keys, lists, text, numbers, booleans, null) that a YAML text holds.

    Raises:
        ValueError: saying where the text is not YAML, or holds something else than plain data.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
        return None if node is None else _Reader().plain(node, ())
    except yaml.MarkedYAMLError as cause:
        mark = cause.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"{cause.problem}{where}") from cause
    except yaml.YAMLError as cause:
        raise ValueError(" ".join(str(cause).split())) from cause
    except RecursionError as cause:
        raise ValueError("it is nested too deeply") from cause


def dump_yaml(data: Any) -> str:
    """A YAML text that :func:`parse_yaml` turns back into ``data``; keys keep their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Reader:
    """Makes plain data of the nodes of one text."""

    def __init__(self) -> None:
        self._met: set[int] = set()
        self._repeated = 0

    def plain(self, node: yaml.Node, parents: tuple[yaml.Node, ...]) -> Any:
        if any(node is parent for parent in parents):
            raise _error("a node contains itself", node)
        if len(parents) > _DEEPEST:
            raise _error("it is nested too deeply", node)
        self._count(node)
        inside = (*parents, node)
        if isinstance(node, yaml.CollectionNode) and node.tag not in (f"{_TAG}seq", f"{_TAG}map"):
            raise _error(f"the tag {node.tag!r} is not supported", node)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item, inside) for item in node.value]
        if isinstance(node, yaml.MappingNode):
            mapping: dict[str, Any] = {}
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise _error("a key must be text", key)
                if key.value in mapping:
                    raise _error(f"the key {key.value!r} is there twice", key)
                mapping[_text(key)] = self.plain(value, inside)
            return mapping
        return _plain_scalar(node)

    def _count(self, node: yaml.Node) -> None:
        """Refuse when aliases have repeated too much; what is written out is as long as the text itself."""
        if id(node) in self._met:
            self._repeated += 1 + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
            if self._repeated > _MOST_REPEATED:
                raise _error(f"its aliases repeat more than {_MOST_REPEATED:,} values and characters", node)
        self._met.add(id(node))


def _plain_scalar(node: yaml.Node) -> Any:
    text = _text(node)
    if node.tag == f"{_TAG}str":
        return text
    for scalar in _SCALARS:
        if node.tag == _TAG + scalar.kind and scalar.pattern.match(text):
            return scalar.read(text)
    raise _error(f"{text!r} is not of the kind that its tag {node.tag!r} says", node)


def _text(node: yaml.Node) -> str:
    text: str = node.value
    if well_formed(text) != text:  # an escape can smuggle it in
        raise _error("it holds half of a character (a lone surrogate)", node)
    return text


def _error(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
