"""Federated self-evolution of LLM agents (Fed-SE, arXiv 2512.08870).

    import fedse

    result = fedse.run(fedse.load_config("quickstart"), "runs/mine")

Programs use the names of this package.  A name is imported when it is first used, so ``import fedse`` takes no time.
The file ``__init__.pyi`` lists the names.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module

# Read when torch is loaded.  Threads that have nothing to do sleep instead of spinning: beside a busy process two that
# spin were nineteen times slower than two that sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@cache
def _homes() -> dict[str, str]:
    """Name → the module that it is imported from, as the stub says."""
    import ast
    from importlib import resources

    stub = ast.parse((resources.files(__name__) / "__init__.pyi").read_text(encoding="utf-8"))
    imports = (statement for statement in stub.body if isinstance(statement, ast.ImportFrom))
    return {name.name: str(statement.module) for statement in imports for name in statement.names}


def __getattr__(name: str) -> object:
    value: object
    if name == "__version__":
        from importlib.metadata import version

        value = version("fedse")
    elif name == "__all__":
        value = sorted(_homes())
    elif name in _homes():
        value = getattr(import_module(_homes()[name]), name)
    else:
        from fedse.names import did_you_mean

        raise AttributeError(f"module 'fedse' has no attribute {name!r}; {did_you_mean(name, _homes())}".rstrip("; "))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_homes(), "__version__"})
