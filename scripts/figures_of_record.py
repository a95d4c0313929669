"""The figures of docs/: drawn from the records in results/, as a report draws them.

    python scripts/figures_of_record.py

docs/assets/figures has a folder for each entry of SHOWN; a test draws them anew and compares.
"""

from __future__ import annotations

from pathlib import Path

from fedse.report.charts import all_figures
from fedse.report.figures import Figure, write_figures
from fedse.report.study import read_study

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "assets" / "figures"

#: Folder of figures → the records they are drawn from, folders under results/ as a pattern; and the figures' names.
SHOWN = {
    "quickstart": ("quickstart", ["success-mean"]),
    "exploring": ("exploring", ["success-mean", "success-mean-2"]),
    "from-nothing": ("from-nothing", ["success-mean"]),
    "few-shown": ("few-shown", ["success-mean"]),
    "nano": (
        "nano",
        [
            "difference-fed-se",
            "exploration-fed-se",
            "transfer-self-evolution",
            "conflict-dilution",
            "conflict-cosine-b",
        ],
    ),
    "nano-ablations": ("nano-ablations", ["ablation-fed-se"]),
    "smollm2": ("smollm2", ["difference-fed-se", "exploration-fed-se"]),
}


def figures_of(name: str) -> list[Figure]:
    """The figures of one folder.

    Raises:
        KeyError: if the records give no figure of a name that is to be shown.
    """
    pattern, shown = SHOWN[name]
    study = read_study(sorted((ROOT / "results").glob(pattern)))
    drawn = {figure.name: figure for part in all_figures(study, study.standings()).values() for figure in part}
    return [drawn[figure] for figure in shown]


def main() -> None:
    """Write them all."""
    for name in SHOWN:
        for path in write_figures(figures_of(name), FIGURES / name, kinds=("svg",)):
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
