"""The model sees what it is there to see: each planted bug is reported in a life that is sound without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from stablestudio.store.database import Database
from tests.unit.sales.shop import CAT

from .machine import How, Sales, staged
from .planted import PLANTS
from .world import Fate


class Life:
    """One life of a sale, told in the machine's own rules, each followed by its checks."""

    def __init__(self, machine: type[Sales], *, deaths: int = 0) -> None:
        self._sales = machine()
        self._sales.begin(deaths=deaths, ending=[])

    def pay(self, *fates: Fate, park: bool = False, which: int = 0, **how: Any) -> None:
        defaults: dict[str, Any] = {"body": CAT, "other": False, "key": None, "session": None, "hold_s": 0}
        self._then(self._sales.pay, which, **defaults | how, how=How(fates=list(fates), park=park))

    def go_on(self, kind: str, *fates: Fate, park: bool = False, which: int = 0) -> None:
        self._then(self._sales.go_on, which, kind=kind, index=0, how=How(fates=list(fates), park=park))

    def answer(self, fate: Fate, *, which: int = 0) -> None:
        self._then(self._sales.answer, which, fate=fate)

    def kill(self, *, landed: bool) -> None:
        self._then(self._sales.kill, 0, landed=landed)

    def forget_workflow(self) -> None:
        self._then(self._sales.forget_workflow, 0)

    def let_time_pass(self, seconds: int) -> None:
        self._then(self._sales.let_time_pass, seconds)

    def _then(self, rule: Callable[..., None], *arguments: Any, **named: Any) -> None:
        self._sales.is_sound = False  # until its checks have passed: what has broken does not go on
        rule(*arguments, **named)
        self._sales.nothing_is_wrong()

    def end(self) -> None:
        self._sales.teardown()


def _refund_without_an_answer(life: Life) -> None:
    life.pay(other=True)
    life.go_on("make", Fate.LATER)
    life.go_on("refund", Fate.DONE)
    life.let_time_pass(10)
    life.go_on("refund", Fate.LOST)


def _vendor_without_an_answer(life: Life) -> None:
    life.pay()
    life.go_on("make", Fate.DONE)
    life.let_time_pass(10)
    life.go_on("make")


def _settlement_without_an_answer(life: Life) -> None:
    life.pay(Fate.DONE)


def _settlement_that_takes_long(life: Life) -> None:
    life.pay(Fate.LATER)


def _charge_without_an_answer(life: Life) -> None:
    life.pay(hold_s=600)
    life.go_on("make")
    life.go_on("make", Fate.DONE)


def _second_settlement_without_an_answer(life: Life) -> None:
    life.pay(Fate.LOST)
    life.let_time_pass(60)
    life.go_on("reconcile", Fate.YES, Fate.DONE)


def _cancel_while_the_vendor_works(life: Life) -> None:
    life.pay()
    life.go_on("make", Fate.YES, Fate.LOST)
    life.go_on("cancel", Fate.NO)


def _cancel_while_the_vendor_is_asked(life: Life) -> None:
    life.pay()
    life.go_on("make", park=True)
    life.go_on("cancel")
    life.answer(Fate.YES)


def _death_after_the_commit(life: Life) -> None:
    life.pay()


def _two_payments_for_one_key(life: Life) -> None:
    life.pay(key="key")
    life.pay(key="key")


def _death_while_settling(life: Life) -> None:
    life.pay(park=True)
    life.kill(landed=True)


def _late_worker(life: Life) -> None:
    life.pay()
    life.go_on("make", Fate.YES, Fate.LOST)
    life.go_on("make", Fate.YES, park=True)
    life.let_time_pass(90_000)
    life.forget_workflow()
    life.go_on("sweep")
    life.go_on("refund")
    life.answer(Fate.YES)


def _late_twin(life: Life) -> None:
    life.pay()
    life.go_on("make", Fate.YES, Fate.LOST)
    life.go_on("make", park=True)
    life.go_on("make")
    life.go_on("make")
    life.let_time_pass(10)
    life.answer(Fate.YES)


def _same_payment_again(life: Life) -> None:
    life.pay()
    life.go_on("pay again")


def _second_worker(life: Life) -> None:
    life.pay()
    life.go_on("make", park=True)
    life.go_on("make", which=1)
    life.let_time_pass(60)
    life.go_on("make", which=1)
    life.answer(Fate.YES)


def _death_after_keeping(life: Life) -> None:
    life.pay()
    life.go_on("make")
    life.let_time_pass(10)
    life.go_on("make", Fate.NO)


def _stranded_for_a_day_after_keeping(life: Life) -> None:
    life.pay()
    life.go_on("make")
    life.let_time_pass(90_000)
    life.forget_workflow()
    life.go_on("sweep")


@dataclass(frozen=True, slots=True)
class Case:
    """A bug, a life that it breaks, what the model says to that, and where a process dies meanwhile."""

    bug: str
    life: Callable[[Life], None]
    breach: str
    failpoint: str = ""
    store: str = "sqlite"


_CASES = [
    Case("refund_signed_anew", _refund_without_an_answer, "an order was refunded twice"),
    Case("lost_answer_taken_for_a_refusal", _vendor_without_an_answer, "the vendor was asked twice"),
    Case("unknown_settlement_refused", _settlement_without_an_answer, "told that nothing was charged"),
    Case("unknown_settlement_refused", _settlement_that_takes_long, "given back, and no chain said no"),
    Case("unknown_charge_refused", _charge_without_an_answer, "given back, and no chain said no"),
    Case("unknown_again_refused", _second_settlement_without_an_answer, "given back, and no chain said no"),
    Case("cancelled_unasked", _cancel_while_the_vendor_works, "cancelled, and the vendor works"),
    Case("cancelled_unasked", _cancel_while_the_vendor_is_asked, "cancelled while the vendor may take it"),
    Case("job_in_a_second_commit", _death_after_the_commit, "paid, and there is no job", "sale.committed"),
    Case("settled_before_the_claim", _two_payments_for_one_key, "money that belongs to no sale"),
    Case("settled_before_the_claim", _death_while_settling, "money that belongs to no sale"),
    Case("credentials_claimed_by_many", _same_payment_again, "a credential bought two orders"),
    Case("own_question_forgotten", _second_worker, "the vendor was asked twice"),
    Case("leases_not_looked_at", _second_worker, "the vendor was asked twice", store="postgres"),
    Case("kept_result_forgotten", _death_after_keeping, "failed, and its result was kept", "make.kept"),
    Case("kept_result_forgotten", _stranded_for_a_day_after_keeping, "failed, and its result was kept", "make.kept"),
    Case("closed_again", _late_worker, "no cause"),
    Case("closed_again", _late_twin, "it had ended as"),
]


each_case = pytest.mark.parametrize(
    ("databases", "case"),
    [pytest.param(case.store, case, id=f"{case.bug}{case.life.__name__}") for case in _CASES],
    indirect=["databases"],
)


def _live(case: Case, databases: list[Database], monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(staged(databases, case.failpoint, monkeypatch), deaths=1 if case.failpoint else 0)
    try:
        case.life(life)
    finally:
        life.end()


@each_case
def test_a_planted_bug_is_reported(databases: list[Database], case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTS[case.bug](monkeypatch)
    with pytest.raises(AssertionError, match=case.breach):
        _live(case, databases, monkeypatch)


@each_case
def test_the_same_life_without_the_bug_is_sound(
    databases: list[Database], case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    _live(case, databases, monkeypatch)


def test_every_bug_is_planted() -> None:
    assert {case.bug for case in _CASES} == PLANTS.keys()
