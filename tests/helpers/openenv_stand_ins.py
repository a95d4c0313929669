"""Stands in for what OpenEnv imports beside its client and never uses in it: run before its import."""

import sys
from types import ModuleType


def _stand_in(name: str, **content: object) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module


_stand_in("fastmcp", Client=type("Client", (), {}))
_stand_in("fastmcp.client")
_stand_in("fastmcp.client.client", CallToolResult=type("CallToolResult", (), {}))
_stand_in("mcp")
_stand_in("mcp.types", TextContent=type("TextContent", (), {}))
sys.modules["gradio"] = None  # type: ignore[assignment]
