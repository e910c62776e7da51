"""What a huge message costs the notebook that only passes it on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import frontend
from tests.frontend import Desk
from tests.support import steps

pytestmark = pytest.mark.full

desk, lasting_desk = frontend.desk, frontend.lasting_desk_newest_first

HUGE = 200_000_000
"""Bytes of one display."""

MOST = 2.5
"""Times the message, beside what the notebook needs anyway."""


def memory(pid: int, what: str) -> int:
    """Bytes: ``VmRSS`` now, or ``VmHWM``, the most that ever were."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("image", [True, False], ids=["a display", "printed text"])
def test_a_huge_message_is_not_kept_many_times(desk: Desk, image: bool) -> None:
    huge = steps.display("x", image_png="A" * HUGE) if image else steps.stream("A" * HUGE)
    desk.run("%config KernelMagics.text_limit = 10**9").ok()
    with desk.fake([steps.busy(), steps.stream("before"), steps.reply(), steps.idle()]):
        desk.remote("1", kernel="fake").ok()  # what is loaded once is not the message's
    pid = desk.host.pid
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the most begins anew
    before = memory(pid, "VmRSS")
    with desk.fake([steps.busy(), huge, steps.reply(), steps.idle()]):
        desk.remote("1", kernel="fake").ok()
    most = memory(pid, "VmHWM") - before
    assert HUGE <= most <= MOST * HUGE, f"{most / HUGE:.2f} times the message"
    desk.run("%config KernelMagics.text_limit = 10_000_000").ok()
