"""`stablestudio validate`: hold a seller against the rules that stock clients rely on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import click

from stablestudio.cli.faults import SERVICE
from stablestudio.cli.output import Output
from stablestudio.cli.running import speaks
from stablestudio.client.conformance import AREAS, Finding, Report, Severity, survey

_NAMED = 3


@click.command()
@click.argument("url")
@speaks
def validate(out: Output, *, url: str) -> None:
    """Ask the seller at URL some hundred questions, and tell which rules of x402, MPP and their clients it breaks.

    Nothing is bought or signed. Asked are its own origin only, at most 30 of the routes that its document sells, four
    questions at a time; one of them is a body of 16 MB. Exit code 0: no errors; 6: errors, or nobody answers.
    """
    progress = out.progress()
    report = survey(url, on_progress=lambda done, of: progress.update("asking", 100 * done / of))
    progress.clear()
    out.result(_document(report), *_lines(report))
    if report.of(Severity.ERROR):
        click.get_current_context().exit(SERVICE)


def _document(report: Report) -> dict[str, Any]:
    return {
        "success": not report.of(Severity.ERROR),
        "origin": report.origin,
        "requests": report.requests,
        "routes": {"selling": report.selling, "asked": report.asked},
        "areas": list(report.areas),
        "errors": report.broken(Severity.ERROR),
        "warnings": report.broken(Severity.WARNING),
        "findings": [
            {
                "rule": each.rule.code,
                "severity": each.rule.severity.value,
                "area": each.rule.area,
                "where": each.where,
                "problem": each.problem,
                "source": each.rule.source,
                "mend": each.rule.mend,
            }
            for each in report.findings
        ],
    }


def _lines(report: Report) -> list[str]:
    part = "" if report.asked == report.selling else f", {report.asked} of them asked"
    head = f"{report.origin}: {report.selling} routes sell{part}. {report.requests} requests; nothing was paid."
    width = max(map(len, AREAS))
    areas = [f"  {area:<{width}}  {_verdict(report, area)}" for area in AREAS]
    errors, warnings = report.of(Severity.ERROR), report.of(Severity.WARNING)
    told = [line for findings in (errors, warnings) for line in _grouped(findings)]
    if not report.findings:
        return [head, *areas, "No findings: stock clients can buy here."]
    count = ", ".join(_count(report.broken(severity), severity.value) for severity in Severity)
    last = "Next: mend the errors, then run this again." if errors else "No errors: stock clients can buy here."
    return [head, *areas, "", *told, f"{count}. {last}"]


def _verdict(report: Report, area: str) -> str:
    broken = {finding.rule for finding in report.findings if finding.rule.area == area}
    numbers = [(severity, sum(rule.severity is severity for rule in broken)) for severity in Severity]
    counts = [_count(number, severity.value) for severity, number in numbers if number]
    return ", ".join(counts) or ("ok" if area in report.areas else "not seen")


def _grouped(findings: Sequence[Finding]) -> list[str]:
    """Return each broken rule once, with what was seen first and how often it was seen."""
    lines: list[str] = []
    for rule, group in groupby(sorted(findings, key=_code), key=lambda finding: finding.rule):
        seen = list(group)
        places = [f"    at     {each.where}: {each.problem}" for each in seen[:_NAMED]]
        rest = [f"           and {len(seen) - _NAMED} more"] if len(seen) > _NAMED else []
        lines += [f"{rule.severity.value} {rule.code}", *places, *rest]
        lines += [f"    rule   {rule.source}", f"    mend   {rule.mend}", ""]
    return lines


def _code(finding: Finding) -> str:
    return finding.rule.code


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
