"""A stop is asked for once, however often it arrives; another one later ends the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from depthlight.core import signals
from depthlight.core.signals import StopFlag, StopRequestedError


def test_a_stop_that_arrives_twice_is_one_stop():
    before = signal.getsignal(signal.SIGTERM)
    with StopFlag() as stop:
        stop.check()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested == signal.SIGTERM
        with pytest.raises(StopRequestedError):
            stop.check()
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_one_later_leaves_at_once():
    code = (
        "import os, signal, time\n"
        "from depthlight.core import signals\n"
        "signals.SAME_STOP = 0.05\n"
        "with signals.StopFlag():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.2)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (128 + signal.SIGINT, "")
    assert signals.SAME_STOP <= 2
