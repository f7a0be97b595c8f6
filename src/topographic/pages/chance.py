"""What a page about a model at chance says once, in place of tables of noise."""

from topographic.evaluation.results import Findings, Table
from topographic.evaluation.wording import counted, p_value

__all__ = ["chance_of_part", "chance_of_table"]

_LEVEL = 0.05
_ACCURACY = ("pairs", "accuracy", "low", "high")  # columns of minimal pairs, whose chance is 0.5


def chance_of_part(findings: Findings) -> str:
    """Why nothing of a part is told from chance; nothing where some table is, or none was tested."""
    tested = [one for one in findings.tables if _is_tested(one)]
    reasons = [chance_of_table(one) for one in tested]
    return reasons[0] if reasons and all(reasons) else ""


def chance_of_table(table: Table) -> str:
    """Why nothing of a table is told from chance; nothing where something is, or nothing was tested."""
    if not _is_tested(table):
        return ""
    if set(_ACCURACY) <= set(table.columns):
        rows = [row for row in table.rows if row.get("accuracy") is not None]
        if not all(row["low"] <= 0.5 <= row["high"] for row in rows):
            return ""
        most = max(rows, key=lambda row: row["pairs"])
        overall = f"{most['accuracy']:.2f} of {counted(most['pairs'], 'pair')}, {most['low']:.2f} to {most['high']:.2f}"
        return f"every interval of the accuracy holds the 0.5 of chance (overall {overall})"
    found = _probabilities(table)
    if min(found) <= _LEVEL:
        return ""
    return f"no effect shown: the smallest of {counted(len(found), 'p value')} is {p_value(min(found))}"


def _is_tested(table: Table) -> bool:
    if set(_ACCURACY) <= set(table.columns):
        return any(row.get("accuracy") is not None for row in table.rows)
    return bool(_probabilities(table))


def _probabilities(table: Table) -> list[float]:
    """Every p of a table; only those corrected where some are."""
    columns = [column for column in table.columns if column == "p" or column.startswith("p (")]
    corrected = [column for column in columns if "corrected" in column]
    cells = (row.get(column) for row in table.rows for column in corrected or columns)
    return [float(cell) for cell in cells if isinstance(cell, int | float) and cell == cell]
