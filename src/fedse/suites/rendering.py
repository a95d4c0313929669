"""A suite's table as text: Markdown to read, CSV to compute with, and the words that every form of it uses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from fedse.evaluation.bootstrap import Contrast, Estimate
from fedse.evaluation.rates import MEANS
from fedse.results.formatting import NONE, bounds, csv_text, excludes_zero, markdown_table, points
from fedse.results.standings import LEVEL
from fedse.runs.rounds import owner_label
from fedse.suites.table import SuiteTable, TableRow, TransferRow
from fedse.types import SuccessRate

(MACRO, _), (WEIGHTED, _) = MEANS
_RATE = ("rate", "low", "high")
_DIFFERENCE = ("difference", "difference_low", "difference_high")
COLUMNS = (
    *("model", "section", "method", "label", "runs_of", "seeds", "failed", "planned"),
    *("statistic", "environment", "site", *_RATE, *_DIFFERENCE, "better", "worse", "p", "p_holm"),
)


def headings(table: SuiteTable) -> list[str]:
    """The columns of the main table."""
    return ["method", "seeds", *table.environments, MACRO, WEIGHTED, f"difference to {table.reference}"]


def cells(table: SuiteTable, row: TableRow) -> list[str]:
    """What the main table says of a method, column by column."""
    standing = row.standing
    done, planned = len(standing.seeds), standing.group.planned
    seeds = str(planned) if done == planned else f"{done}/{planned}"
    seeds += f", {len(row.failed)} failed" if row.failed else ""
    rates = [f"{_rate(standing.rates.get(name))} {standing.mark_in(name)}".rstrip() for name in table.environments]
    means = map(_mean, (standing.means.macro, standing.means.task_weighted))
    return [row.method.label, seeds, *rates, *means, _difference(row)]


def legend(table: SuiteTable) -> str:
    """What the numbers and marks of the main table mean."""
    one_seed = any(len(row.standing.seeds) == 1 for row in table.rows)
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
    texts = {name: _number_in_percent(rate.rate) for name, rate in row.environments.items()}
    if row.home:
        texts[row.home] = f"({texts.get(row.home, NONE)})"
    others = [rate.rate for name, rate in row.environments.items() if name != row.home]
    mean = _number_in_percent(math.fsum(others) / len(others))
    return [row.method.label, owner_label(row.owner), *(texts.get(name, NONE) for name in table.environments), mean]


def has_difference(row: TableRow) -> bool:
    """The interval of the difference to the reference excludes zero."""
    return row.standing.gain is not None and excludes_zero(row.standing.gain)


def parts(table: SuiteTable) -> Iterator[tuple[str, list[str], list[TableRow] | list[TransferRow]]]:
    """(title, headings, rows) of every table that there is: methods, ablations and transfer, model by model."""
    for model in table.models:
        of_model = f", {model}" if len(table.models) > 1 else ""
        for title, is_ablation in (("Methods", False), ("Ablations", True)):
            if rows := table.of(model, is_ablation=is_ablation):
                yield f"{title}{of_model}", headings(table), rows
        if transfer := [row for row in table.transfer if row.model == model]:
            yield f"On the other sites{of_model}", transfer_headings(table), transfer


def markdown(table: SuiteTable) -> str:
    """The whole table, with what it means and what is missing."""
    texts = [f"# {table.title}", legend(table)]
    for title, heads, rows in parts(table):
        lines = [_bold(table, row) if isinstance(row, TableRow) else transfer_cells(table, row) for row in rows]
        texts += [f"## {title}", markdown_table(heads, lines, numbers_from=1)]
    if notes := [f"- {_name(table, row)}: {note}" for row in table.rows for note in row.notes]:
        texts += ["## Notes", "\n".join(note.replace("\n", "\n  ") for note in notes)]
    return "\n\n".join(texts) + "\n"


def as_csv(table: SuiteTable) -> str:
    """One row per method and statistic, as CSV (RFC 4180); rates in [0, 1]."""
    rows = [line for row in table.rows for line in _csv_rows(row)]
    for row in table.transfer:
        common = {"model": row.model, "method": row.method.name, "label": row.method.label, "site": row.owner}
        for name, rate in row.environments.items():
            rows.append(common | {"statistic": "transfer", "environment": name, "rate": _number(rate.rate)})
    return csv_text(COLUMNS, rows)


def _csv_rows(row: TableRow) -> Iterator[dict[str, Any]]:
    standing = row.standing
    common = {
        "model": row.model,
        "section": "ablation" if row.is_ablation else "method",
        "method": row.method.name,
        "label": row.method.label,
        "runs_of": row.shared_with,
        "seeds": " ".join(str(seed) for seed in standing.seeds),
        "failed": " ".join(str(seed) for seed in row.failed),
        "planned": standing.group.planned,
    }
    for name, rate in standing.rates.items():
        line = common | {"statistic": "rate", "environment": name} | _numbers(_RATE, rate.rate, rate)
        if (against := standing.against_in(name)) is not None:
            line |= _difference_numbers(against.rates) | {"better": against.better, "worse": against.worse}
            line |= {"p": _number(against.p), "p_holm": _number(against.p_holm)}
        yield line
    for statistic in ("macro", "task_weighted"):
        line = common | {"statistic": statistic}
        mean: Estimate | None = getattr(standing.means, statistic)
        if mean is not None:
            line |= _numbers(_RATE, mean.value, mean)
            if standing.comparison is not None:
                line |= _difference_numbers(getattr(standing.comparison, statistic))
        yield line


def _numbers(columns: Sequence[str], value: float, interval: SuccessRate | Estimate) -> dict[str, str]:
    return dict(zip(columns, map(_number, (value, interval.low, interval.high)), strict=True))


def _difference_numbers(contrast: Contrast) -> dict[str, Any]:
    return _numbers(_DIFFERENCE, contrast.difference.value, contrast.difference)


def _number(value: float) -> str:
    return f"{value:.10g}"


def _number_in_percent(rate: float) -> str:
    return NONE if math.isnan(rate) else f"{100 * rate:.1f}"


def _rate(rate: SuccessRate | None) -> str:
    return NONE if rate is None or not rate.episodes else _with_bounds(rate.rate, rate)


def _mean(estimate: Estimate | None) -> str:
    return NONE if estimate is None else _with_bounds(estimate.value, estimate)


def _with_bounds(value: float, interval: SuccessRate | Estimate) -> str:
    return f"{_number_in_percent(value)} [{bounds(interval, between=', ')}]"


def _difference(row: TableRow) -> str:
    if row.shared_with:
        return f"the runs of {row.shared_with}"
    return NONE if row.standing.gain is None else points(row.standing.gain)


def _bold(table: SuiteTable, row: TableRow) -> list[str]:
    """The cells of a method; its difference is bold where its interval excludes zero."""
    texts = cells(table, row)
    return [*texts[:-1], f"**{texts[-1]}**"] if has_difference(row) and not row.shared_with else texts


def _name(table: SuiteTable, row: TableRow) -> str:
    return f"{row.method.label}, {row.model}" if len(table.models) > 1 else row.method.label
