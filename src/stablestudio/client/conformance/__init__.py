"""Does a seller keep the rules that stock clients rely on? Questions are asked over HTTP, and answers judged without any I/O."""

from stablestudio.client.conformance.rules import AREAS, RULES, Finding, Rule, Severity
from stablestudio.client.conformance.survey import Report, survey

__all__ = ["AREAS", "RULES", "Finding", "Report", "Rule", "Severity", "survey"]
