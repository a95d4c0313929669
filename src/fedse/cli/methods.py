"""``fedse methods``: the methods that come with fedse."""

from __future__ import annotations

from fedse.cli.console import examples, show_table

EXAMPLES = examples("fedse methods", "fedse run --preset quickstart --method fedit")


def methods() -> None:
    """List the methods for ``fedse run --method`` and for suites, with the settings that make them."""
    from fedse.settings import flat_settings, method_names, read_method

    rows = []
    for method in map(read_method, method_names()):
        settings = flat_settings(method.set).items()
        shown = (f"{path}={str(value).lower() if isinstance(value, bool) else value}" for path, value in settings)
        rows.append((method.name, method.label, method.description, ", ".join(shown)))
    headings = ("name", "label", "what it is", "settings")
    show_table(headings, rows, texts=headings)
