import pytest

from depthlight.train.schedule import ScheduleConfig, learning_rate, settle


def test_warm_up_then_constant_for_ever() -> None:
    config = ScheduleConfig(lr=1.0, warmup=100)
    rates = [learning_rate(config, n) for n in range(0, 101, 10)]
    assert rates == sorted(rates) and 0 < rates[0] < 0.02
    assert learning_rate(config, 100) == learning_rate(config, 10**9) == 1.0


def test_the_decay_asked_for_later_leaves_the_past_alone() -> None:
    open_ended = ScheduleConfig(lr=1.0, warmup=100)
    asked = ScheduleConfig(lr=1.0, warmup=100, decay_at=5000, samples=6000, floor=0.1)
    assert all(learning_rate(asked, n) == learning_rate(open_ended, n) for n in range(0, 5001, 50))
    decay = [learning_rate(asked, n) for n in range(5000, 6001, 100)]
    assert decay == sorted(decay, reverse=True)
    assert decay[-1] == pytest.approx(0.1) and learning_rate(asked, 7000) == pytest.approx(0.1)


def test_one_cycle_peaks_after_the_warm_up() -> None:
    config = ScheduleConfig(kind="onecycle", lr=2e-4, warmup=1000, samples=10_000, floor=0.0)
    rates = [learning_rate(config, n) for n in range(0, 10_001, 100)]
    assert max(rates) == learning_rate(config, 1000) == 2e-4
    assert rates[-1] == pytest.approx(0) and learning_rate(config, 5500) == pytest.approx(1e-4)


def test_a_budget_becomes_numbers_when_its_decay_is_due() -> None:
    config = ScheduleConfig(core_hours=2.0, decay_share=0.15)
    assert settle(config, 5000, 1.69) == config
    settled = settle(config, 5000, 1.70)
    assert settled.decay_at == 5000
    assert settled.samples == pytest.approx(5000 * 2.0 / 1.70, abs=1)
    assert settle(settled, 5500, 1.9) == settled
    assert settle(ScheduleConfig(), 5000, 99.0) == ScheduleConfig()
