import pytest

from fedse.errors import UnknownNameError
from fedse.experience import Verdict, get_selection, select
from fedse.types import StopReason
from helpers.made_episodes import episode

CASES = [
    (episode(1), "success"),
    (episode(2, truncated=True), "success"),
    (episode(3, stop=StopReason.TURN_LIMIT), "success"),
    (episode(4, success=False), "failure"),
    (episode(5, success=False, stop=StopReason.TURN_LIMIT), "turn_limit"),
    (episode(6, success=False, stop=StopReason.CONTEXT_LIMIT), "context_limit"),
    (episode(9, success=False, stop=StopReason.REPETITION), "repetition"),
    (episode(7, success=None, stop=StopReason.ERROR), "error"),
]


@pytest.mark.parametrize(("trajectory", "reason"), CASES)
def test_success_keeps_successes_only(trajectory, reason):
    assert get_selection("success")(trajectory) == Verdict(reason == "success", reason)


@pytest.mark.parametrize(("trajectory", "reason"), CASES)
def test_none_keeps_everything_but_faults(trajectory, reason):
    assert get_selection("none")(trajectory) == Verdict(reason != "error", reason)


def test_every_stop_reason_has_a_case():
    assert {trajectory.stop for trajectory, _ in CASES} == set(StopReason)


def test_selecting_keeps_the_order_and_counts_the_reasons():
    trajectories = [trajectory for trajectory, _ in CASES] + [episode(8, success=False)]
    report = select(get_selection("success"), trajectories)
    assert report.kept == tuple(trajectories[:3])
    assert report.kept_reasons == {"success": 3}
    assert report.dropped_reasons == {
        "failure": 2,
        "turn_limit": 1,
        "context_limit": 1,
        "repetition": 1,
        "error": 1,
    }
    report = select(get_selection("none"), trajectories)
    assert len(report.kept) == 8
    assert report.kept_reasons == {
        "success": 3,
        "failure": 2,
        "turn_limit": 1,
        "context_limit": 1,
        "repetition": 1,
    }
    assert report.dropped_reasons == {"error": 1}


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no filter 'sucess'[\s\S]*did you mean success\? known: success, none"):
        get_selection("sucess")
