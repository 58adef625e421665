from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlight.core.errors import CheckFailedError, DepthlightError, InputError, UnknownNameError
from depthlight.eval.assertions import check_assertions, parse_assertion

RESULT = {
    "model": "sgbm",
    "mean": {"epe": 1.5, "d1": 9},
    "mean_noc": None,
    "scenes": {"v1.2-Art": {"all": {"epe": 0.25}}, "v1": {"all": {"epe": 4.0}}},
}


@pytest.mark.parametrize(
    "check",
    [
        "mean.epe<=1.5",
        "mean.epe >= 1.5",
        " mean.d1 == 9 ",
        "mean.epe!=1",
        "mean.epe<1.6e0",
        "mean.d1>-1",
        "scenes.v1.2-Art.all.epe<0.3",
        "scenes.v1.all.epe==4",
    ],
)
def test_checks_that_hold(check: str) -> None:
    check_assertions(RESULT, [check])


def test_a_failed_check_names_the_figure_and_its_value() -> None:
    with pytest.raises(CheckFailedError, match=r"mean\.epe<=1 does not hold: mean\.epe is 1\.5") as caught:
        check_assertions(RESULT, ["mean.d1<=9", "mean.epe<=1.0", "mean.d1<2"])
    assert caught.value.exit_status == 1
    assert len(caught.value.details["failures"]) == 2


def test_a_figure_without_a_value_does_not_hold() -> None:
    with pytest.raises(CheckFailedError, match="has no value"):
        check_assertions(RESULT, ["mean_noc.epe>=0"])


@pytest.mark.parametrize(
    "check", ["", "mean.epe", "mean.epe<=", "<=1", "mean.epe<=one", "mean.epe<=nan", "a<1<2", "a=1"]
)
def test_what_cannot_be_read_is_refused(check: str) -> None:
    with pytest.raises(InputError, match="cannot read the check"):
        parse_assertion(check)


def test_a_misspelt_figure_is_offered_the_right_one() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'mean\.epe'"):
        check_assertions(RESULT, ["mean.eep<1"])
    with pytest.raises(InputError, match="not a number"):
        check_assertions(RESULT, ["model<1"])
    with pytest.raises(InputError, match="below a number"):
        check_assertions(RESULT, ["mean.epe.x<1"])


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_either_read_or_refused(text: str) -> None:
    try:
        assertion = parse_assertion(text)
    except DepthlightError:
        return
    assert parse_assertion(str(assertion)).path == assertion.path
