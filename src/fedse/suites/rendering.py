"""A suite's table as text: Markdown to read, CSV to compute with, and the words that every form of it uses."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

from fedse.evaluation.bootstrap import Contrast, Estimate
from fedse.suites.table import SuiteTable, TableRow, TransferRow
from fedse.types import SuccessRate

LEVEL = 0.05
MACRO, WEIGHTED = "mean of environments", "mean of tasks"
COLUMNS = (
    *(
        "model",
        "section",
        "method",
        "label",
        "runs_of",
        "seeds",
        "failed",
        "planned",
        "statistic",
        "environment",
        "site",
    ),
    *("rate", "low", "high", "difference", "difference_low", "difference_high"),
    *("better", "worse", "p", "p_holm"),
)


def headings(table: SuiteTable) -> list[str]:
    """The columns of the main table."""
    return ["method", "seeds", *table.environments, MACRO, WEIGHTED, f"difference to {table.reference}"]


def cells(table: SuiteTable, row: TableRow) -> list[str]:
    """What the main table says of a method, column by column."""
    done = str(row.planned) if len(row.seeds) == row.planned else f"{len(row.seeds)}/{row.planned}"
    done += f", {len(row.failed)} failed" if row.failed else ""
    texts = [row.method.label, done]
    texts += [_rate(row.environments.get(name)) + _mark(row, name) for name in table.environments]
    return [*texts, _mean(row.macro), _mean(row.task_weighted), _difference(row)]


def legend(table: SuiteTable) -> str:
    """What the numbers and marks of the main table mean."""
    one_seed = any(len(row.seeds) == 1 for row in table.rows)
    caution = " With one training seed the intervals cover the choice of tasks, not the training." if one_seed else ""
    return (
        "Success on held-out tasks after the last round, in %, over all seeds, with 95 % intervals: a bootstrap over "
        "tasks and training seeds, or Wilson's for an environment with one episode a task, or with nothing but "
        "failures or successes. The primary endpoint is "
        f"the {MACRO}; its difference to {table.reference} is paired by seed and task, and bold where the interval "
        f"excludes zero. ▲ and ▼ mark environments in which a method is better or worse than {table.reference} (exact "
        f"test over tasks, p < {LEVEL:g} after Holm's correction over the environments).{caution}"
    )


def transfer_headings(table: SuiteTable) -> list[str]:
    """The columns of the table on the other sites."""
    return ["method", "adapter of", *table.environments, "mean of the others"]


def transfer_cells(table: SuiteTable, row: TransferRow) -> list[str]:
    """What that table says of one site's adapter, column by column; its own environment stands in brackets."""
    others = [rate.rate for name, rate in row.environments.items() if name != row.home]
    texts = []
    for name in table.environments:
        rate = row.environments.get(name)
        text = "–" if rate is None else _percent(rate.rate)
        texts.append(f"({text})" if name == row.home else text)
    return [row.method.label, row.site, *texts, _percent(math.fsum(others) / len(others))]


def has_difference(row: TableRow) -> bool:
    """The interval of the difference to the reference excludes zero."""
    return row.against is not None and not (row.against.macro.difference.low <= 0 <= row.against.macro.difference.high)


def markdown(table: SuiteTable) -> str:
    """The whole table, with what it means and what is missing."""
    parts = [f"# {table.title}", legend(table)]
    for model in table.models:
        heading = f", {model}" if len(table.models) > 1 else ""
        for section, is_ablation in (("Methods", False), ("Ablations", True)):
            rows = [row for row in table.rows if row.model == model and row.is_ablation is is_ablation]
            if rows:
                lines = [_bold_difference(row, cells(table, row)) for row in rows]
                parts += [f"## {section}{heading}", _table(headings(table), lines)]
        transfer = [transfer_cells(table, row) for row in table.transfer if row.model == model]
        if transfer:
            parts += [f"## On the other sites{heading}", _table(transfer_headings(table), transfer)]
    notes = [f"- {_name(table, row)}: {note}".replace("\n", "\n  ") for row in table.rows for note in row.notes]
    if notes:
        parts += ["## Notes", "\n".join(notes)]
    return "\n\n".join(parts) + "\n"


def csv_text(table: SuiteTable) -> str:
    """One row per method and statistic, as CSV (RFC 4180); rates in [0, 1]."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for row in table.rows:
        writer.writerows(_csv_rows(row))
    for found in table.transfer:
        common = {"model": found.model, "method": found.method.name, "label": found.method.label, "site": found.site}
        for name, rate in found.environments.items():
            writer.writerow(common | {"statistic": "transfer", "environment": name, "rate": _number(rate.rate)})
    return text.getvalue()


def _csv_rows(row: TableRow) -> Iterator[dict[str, Any]]:
    common = {
        "model": row.model,
        "section": "ablation" if row.is_ablation else "method",
        "method": row.method.name,
        "label": row.method.label,
        "runs_of": row.shared_with,
        "seeds": " ".join(str(seed) for seed in row.seeds),
        "failed": " ".join(str(seed) for seed in row.failed),
        "planned": row.planned,
    }
    against = row.against
    for name, rate in row.environments.items():
        found = common | {"statistic": "rate", "environment": name} | _numbers(rate.rate, rate.low, rate.high)
        if against is not None:
            there = against.environments[name]
            found |= _differences(there.rates)
            found |= {"better": there.better, "worse": there.worse, "p": _number(there.p)}
            found |= {"p_holm": _number(there.p_holm)}
        yield found
    for statistic in ("macro", "task_weighted"):
        mean: Estimate | None = getattr(row, statistic)
        if mean is None:
            yield common | {"statistic": statistic}
            continue
        difference = {} if against is None else _differences(getattr(against, statistic))
        yield common | {"statistic": statistic} | _numbers(mean.value, mean.low, mean.high) | difference


def _numbers(value: float, low: float, high: float) -> dict[str, str]:
    return {"rate": _number(value), "low": _number(low), "high": _number(high)}


def _differences(contrast: Contrast) -> dict[str, str]:
    found = contrast.difference
    names = ("difference", "difference_low", "difference_high")
    return dict(zip(names, map(_number, (found.value, found.low, found.high)), strict=True))


def _number(value: float) -> str:
    return f"{value:.10g}"


def _rate(rate: SuccessRate | None) -> str:
    return "–" if rate is None or not rate.episodes else _with_interval(rate.rate, rate.low, rate.high)


def _mean(estimate: Estimate | None) -> str:
    return "–" if estimate is None else _with_interval(estimate.value, estimate.low, estimate.high)


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{100 * value:.1f} [{100 * low:.0f}, {100 * high:.0f}]"


def _percent(rate: float) -> str:
    return "–" if math.isnan(rate) else f"{100 * rate:.1f}"


def _mark(row: TableRow, environment: str) -> str:
    if row.against is None or environment not in row.against.environments:
        return ""
    found = row.against.environments[environment]
    if found.p_holm >= LEVEL:
        return ""
    return " ▲" if found.rates.difference.value > 0 else " ▼"


def _difference(row: TableRow) -> str:
    if row.shared_with:
        return f"the runs of {row.shared_with}"
    if row.against is None:
        return "–"
    found = row.against.macro.difference
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _bold_difference(row: TableRow, texts: Sequence[str]) -> list[str]:
    return [*texts[:-1], f"**{texts[-1]}**"] if has_difference(row) and not row.shared_with else list(texts)


def _name(table: SuiteTable, row: TableRow) -> str:
    return f"{row.method.label}, {row.model}" if len(table.models) > 1 else row.method.label


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns but the first are flush right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(text.replace('|', '∣') for text in line)} |" for line in lines)
