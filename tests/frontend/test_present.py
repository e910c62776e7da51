"""Where something else than the notebook takes a cell's outputs, it takes the other kernel's
too."""

import pytest

from tests import frontend
from tests.frontend import Desk, error_lines, kinds, plain, transcript

desk, lasting_desk = frontend.desk, frontend.lasting_desk

RICH = """\
import sys
from IPython.display import HTML, display
print('to stdout'); print('to stderr', file=sys.stderr)
display(HTML('<b>bold</b>'), metadata={'text/html': {'isolated': True}})
6 * 7"""

DEFINE_RICH = f"rich = {RICH!r}"


def test_capture_takes_text_and_displays(desk: Desk) -> None:
    desk.run(DEFINE_RICH).ok()
    run = desk.run("%%capture taken\nget_ipython().run_cell_magic('remote', 'k', rich)").ok()
    assert run.outputs == []
    assert desk.value("taken.stdout, taken.stderr") == ("to stdout\n", "to stderr\n")
    shown = desk.value("[(one.data, one.metadata) for one in taken.outputs]")
    (bold, result) = shown
    assert bold[0]["text/html"] == "<b>bold</b>"
    assert bold[1] == {"text/html": {"isolated": True}}
    assert result[0] == {"text/plain": "42"}


def test_capture_around_the_magic_line_takes_its_text(desk: Desk) -> None:
    run = desk.run("%%capture taken\n%remote k print('there')").ok()
    assert run.outputs == []
    assert desk.value("taken.stdout") == "there\n"


def test_capture_output_takes_text_and_displays_and_only_inside(desk: Desk) -> None:
    desk.run(DEFINE_RICH).ok()
    code = """\
from IPython.utils.capture import capture_output
with capture_output() as taken:
    get_ipython().run_cell_magic('remote', 'k', rich)
get_ipython().run_cell_magic('remote', 'k', "print('outside')")"""
    run = desk.run(code).ok()
    assert transcript(run) == "outside\n"
    assert desk.value("taken.stdout, taken.stderr, len(taken.outputs)") == (
        "to stdout\n",
        "to stderr\n",
        2,
    )


@pytest.mark.parametrize("name, other", [("stdout", "stderr"), ("stderr", "stdout")])
def test_a_redirected_stream_is_taken_and_the_other_is_not(
    desk: Desk, name: str, other: str
) -> None:
    desk.run(DEFINE_RICH).ok()
    code = f"""\
import contextlib, io
with contextlib.redirect_{name}(io.StringIO()) as taken:
    get_ipython().run_cell_magic('remote', 'k', rich)"""
    run = desk.run(code).ok()
    assert desk.value("taken.getvalue()") == f"to {name}\n"
    assert (run.stdout + run.stderr) == f"to {other}\n"
    # Displays are no text: redirecting does not take a local cell's either.
    shown = [one.content["data"]["text/plain"] for one in run.outputs if "data" in one.content]
    assert shown == ["<IPython.core.display.HTML object>", "42"]


def test_a_stream_of_somebody_s_own_gets_the_text(desk: Desk) -> None:
    code = """\
import sys
class Shouting:
    def __init__(self, stream): self.stream = stream
    def write(self, text): return self.stream.write(text.upper())
    def flush(self): self.stream.flush()
mine, sys.stdout = sys.stdout, Shouting(sys.stdout)
try:
    get_ipython().run_cell_magic('remote', 'k', "print('loud')")
finally:
    sys.stdout = mine"""
    assert desk.run(code).ok().stdout == "LOUD\n"


HOOK = """\
taken = []
publisher = get_ipython().display_pub
def hook(message):
    taken.append(message)
    {passing}
publisher.register_hook(hook)
try:
    get_ipython().run_cell_magic('remote', 'k', code)
finally:
    publisher.unregister_hook(hook)"""

DISPLAYS = """\
from IPython.display import clear_output, display
display({'text/plain': 'new'}, raw=True, metadata={'m': 1}, display_id='of the hook')
display({'text/plain': 'changed'}, raw=True, display_id='of the hook', update=True)
clear_output(wait=True)
print('text')"""


@pytest.mark.parametrize("passing, passed", [("", False), ("return message", True)])
def test_a_publish_hook_sees_every_display_and_decides(
    desk: Desk, passing: str, passed: bool
) -> None:
    run = desk.run(f"code = {DISPLAYS!r}\n" + HOOK.format(passing=passing)).ok()
    seen = desk.value("[(one['msg_type'], one['content']) for one in taken]")
    display_id = {"display_id": "of the hook"}
    assert seen == [
        (
            "display_data",
            {"data": {"text/plain": "new"}, "metadata": {"m": 1}, "transient": display_id},
        ),
        (
            "update_display_data",
            {"data": {"text/plain": "changed"}, "metadata": {}, "transient": display_id},
        ),
        ("clear_output", {"wait": True}),
    ]
    displays = ["display_data", "update_display_data", "clear_output"]
    assert kinds(run) == ([*displays, "stream"] if passed else ["stream"])
    assert run.stdout == "text\n"


def test_what_a_publish_hook_passes_belongs_to_the_local_cell(desk: Desk) -> None:
    run = desk.run(f"code = {DISPLAYS!r}\n" + HOOK.format(passing="return message")).ok()
    assert {message["header"]["session"] for message in run.messages} == {
        desk.host.run("1").messages[0]["header"]["session"]
    }
    assert len({message["header"]["msg_id"] for message in run.messages}) == len(run.messages)


def test_an_error_among_the_outputs_keeps_its_place(desk: Desk) -> None:
    code = """\
print('before')
try:
    1 / 0
except Exception:
    get_ipython().showtraceback()
print('after')"""
    desk.run(f"code = {code!r}").ok()
    run = desk.run(HOOK.format(passing="return message")).ok()
    assert transcript(run) == "before\n<error>\nafter\n"
    assert error_lines(run)[0] == "[k]"
    assert error_lines(run)[-1] == "ZeroDivisionError: division by zero"


def test_a_failing_cell_s_error_is_shown_once(desk: Desk) -> None:
    desk.run("code = \"print('before')\\n1 / 0\"").ok()
    run = desk.run(HOOK.format(passing="return message"))
    assert transcript(run) == "before\n<error>\n"
    assert run.reply["ename"] == "ZeroDivisionError"


def test_a_failing_cell_ends_in_a_capture_as_a_local_one_does(desk: Desk) -> None:
    here, there = desk.run("%%capture taken\n1 / 0"), desk.run("%%capture taken\n%remote k 1 / 0")
    assert (there.status, kinds(there)) == (here.status, kinds(here))
    assert plain(there.error).splitlines()[-1:] == plain(here.error).splitlines()[-1:]


def test_text_before_and_after_stays_in_its_place(desk: Desk) -> None:
    code = """\
from IPython.utils.capture import capture_output
with capture_output() as taken:
    for i in range(50):
        print(f'{i} before')
        get_ipython().run_line_magic('remote', f'k print("{i} there")')
        print(f'{i} after')"""
    assert desk.run(code).ok().outputs == []
    expected = [f"{i} {where}" for i in range(50) for where in ("before", "there", "after")]
    assert desk.value("taken.stdout").splitlines() == expected


def test_a_display_hook_of_a_cell_s_result_sees_it(desk: Desk) -> None:
    code = """\
import sys
taken, before = [], sys.displayhook
sys.displayhook = taken.append
try:
    get_ipython().run_cell_magic('remote', 'k', "print('text')")
finally:
    sys.displayhook = before"""
    assert desk.run(code).ok().stdout == "text\n"
