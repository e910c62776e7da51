"""Widgets of another kernel, as a front end meets them: real ipywidgets, a scripted front end."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests import frontend
from tests.frontend import Desk, joined, remotely
from tests.support import steps
from tests.support.hosts import CellRun, Output

desk, lasting_desk, new_desk = frontend.desk, frontend.lasting_desk_newest_first, frontend.new_desk

SLIDER = """\
import ipywidgets as w
from IPython.display import display
s = w.IntSlider(value=3)
s.observe(lambda change: print('now', change.new), 'value')
display(s)"""

CONTROL = "jupyter.widget.control"


def model_id(run: CellRun, name: str = "IntSliderModel") -> str:
    """The comm of the model of that name that a cell has opened."""
    (opened,) = [
        one["comm_id"]
        for one in run.of_type("comm_open")
        if one["data"]["state"].get("_model_name") == name
    ]
    return str(opened)


def say(desk: Desk, comm_id: str, data: dict[str, Any], **how: Any) -> CellRun:
    """What a front end says on a comm, and all that this leads to."""
    return desk.host.send("comm_msg", {"comm_id": comm_id, "data": data}, **how)


def update(desk: Desk, comm_id: str, **state: Any) -> CellRun:
    """Set traits of a widget, as its view does."""
    return say(desk, comm_id, {"method": "update", "state": state, "buffer_paths": []})


def comms(desk: Desk) -> dict[str, Any]:
    """All comms that the front end finds."""
    return dict(desk.host.ask("comm_info_request")["comms"])


def data_of(run: CellRun, comm_id: str) -> list[dict[str, Any]]:
    return [one["data"] for one in run.of_type("comm_msg") if one["comm_id"] == comm_id]


def wait(desk: Desk, condition: Callable[[], object], run: CellRun) -> None:
    desk.host.wait_for(condition, what=lambda: f"{run}, {run.messages}")


def test_a_model_is_here_before_its_view(desk: Desk) -> None:
    run = desk.remote(SLIDER).ok()
    kinds = [one.msg_type for one in run.outputs]
    assert kinds == ["comm_open"] * 3 + ["display_data"]
    view = run.of_type("display_data")[0]["data"]["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == model_id(run)
    assert run.outputs[0].metadata["version"].startswith("2.")


def test_a_slider_moves_there_and_its_callback_prints_here(desk: Desk) -> None:
    slider = model_id(desk.remote(SLIDER).ok())
    moved = update(desk, slider, value=7)
    wait(desk, lambda: moved.stdout, moved)
    assert moved.stdout == "now 7\n"
    assert desk.remote("s.value").ok().result == "7"


def test_a_value_that_is_set_there_is_shown_here(desk: Desk) -> None:
    slider = model_id(desk.remote(SLIDER).ok())
    run = desk.remote("s.value = 9").ok()
    assert {"method": "update", "state": {"value": 9}, "buffer_paths": []} in data_of(run, slider)
    assert run.stdout == "now 9\n"


@pytest.mark.full
def test_an_echo_answers_the_message_that_led_to_it(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    slider = model_id(
        desk.remote("import os; os.environ['JUPYTER_WIDGETS_ECHO'] = '1'\n" + SLIDER).ok()
    )
    moved = update(desk, slider, value=5)
    wait(desk, lambda: moved.of_type("comm_msg"), moved)
    assert data_of(moved, slider)[0]["method"] == "echo_update"


@pytest.mark.full
def test_a_callback_runs_while_no_cell_does_and_while_none_has_for_long(desk: Desk) -> None:
    run = desk.remote("b = w.Button(); b.on_click(lambda _: print('clicked')); b", "").ok()
    button = model_id(run, "ButtonModel")
    for _ in range(70):  # more cells than are remembered
        desk.remote("1")
    for _ in range(3):
        clicked = say(desk, button, {"method": "custom", "content": {"event": "click"}})
        wait(desk, lambda: clicked.stdout, clicked)  # noqa: B023
        assert clicked.stdout == "clicked\n"


def test_an_error_in_a_callback_is_shown(desk: Desk) -> None:
    run = desk.remote("b = w.Button(); b.on_click(lambda _: 1 / 0); b").ok()
    clicked = say(
        desk, model_id(run, "ButtonModel"), {"method": "custom", "content": {"event": "click"}}
    )
    wait(desk, lambda: "ZeroDivisionError" in clicked.error + clicked.stderr, clicked)


def test_a_callback_that_asks_gets_an_end_of_file(desk: Desk) -> None:
    code = "b = w.Button(); b.on_click(lambda _: input('well? ')); b"
    run = desk.remote(code).ok()
    clicked = say(
        desk, model_id(run, "ButtonModel"), {"method": "custom", "content": {"event": "click"}}
    )
    wait(desk, lambda: "Error" in clicked.error + clicked.stderr, clicked)
    assert desk.remote("6 * 7").ok().result == "42"


def test_buffers_pass_whole_in_both_directions(desk: Desk) -> None:
    code = """\
i = w.Image(value=b'\\x00\\xff' * 50_000)
got = []
i.on_msg(lambda widget, content, buffers: (
    got.append(bytes(buffers[0])), widget.send({'back': 1}, [buffers[0], b'two'])))
i"""
    run = desk.remote(code).ok()
    image = model_id(run, "ImageModel")
    (opened,) = [one for one in run.outputs if one.content.get("comm_id") == image]
    assert opened.buffers == [b"\x00\xff" * 50_000]
    assert opened.content["data"]["buffer_paths"] == [["value"]]

    sent = bytes(range(256)) * 1000
    said = say(desk, image, {"method": "custom", "content": {}}, buffers=[sent])
    wait(desk, lambda: said.of_type("comm_msg"), said)
    (answer,) = [one for one in said.outputs if one.msg_type == "comm_msg"]
    assert answer.buffers == [sent, b"two"]
    assert desk.remote("len(got[0]), got[0][:3]").ok().result == "(256000, b'\\x00\\x01\\x02')"


def test_an_output_widget_captures_the_cell_that_it_stands_in(desk: Desk) -> None:
    code = "out = w.Output()\nwith out:\n    print('caught')\nprint('free')"
    run = desk.remote(code).ok()
    output = model_id(run, "OutputModel")
    captured = [one["state"]["msg_id"] for one in data_of(run, output)]
    assert captured == [run.msg_id, ""]
    order = [
        one.content["data"]["state"]["msg_id"]
        if one.msg_type == "comm_msg"
        else one.content["text"]
        for one in joined(run)
        if one.msg_type != "comm_open"
    ]
    assert order == [run.msg_id, "caught\n", "", "free\n"]


def test_an_output_widget_captures_what_a_callback_prints(desk: Desk) -> None:
    code = """\
out, b = w.Output(), w.Button()
@out.capture()
def clicked(_): print('caught')
b.on_click(clicked)
display(b, out)"""
    run = desk.remote(code).ok()
    click = {"method": "custom", "content": {"event": "click"}}
    clicked = say(desk, model_id(run, "ButtonModel"), click)
    wait(desk, lambda: len(data_of(clicked, model_id(run, "OutputModel"))) == 2, clicked)
    captured = [one["state"]["msg_id"] for one in data_of(clicked, model_id(run, "OutputModel"))]
    assert captured == [clicked.msg_id, ""]
    assert clicked.stdout == "caught\n"


def test_the_front_end_lists_the_widgets_and_asks_each_for_its_state(desk: Desk) -> None:
    slider = model_id(desk.remote(SLIDER).ok())
    assert comms(desk)[slider] == {"target_name": "jupyter.widget"}
    asked = say(desk, slider, {"method": "request_state"})
    wait(desk, lambda: data_of(asked, slider), asked)
    assert data_of(asked, slider)[0]["state"]["value"] == 3


@pytest.mark.parametrize("here", [False, True], ids=["not-here", "here-too"])
def test_a_page_that_is_loaded_again_gets_all_widgets_at_once(
    new_desk: Callable[..., Desk], here: bool
) -> None:
    desk = new_desk()
    expected = set()
    if here:
        own = desk.run("import ipywidgets as w; w.FloatSlider(value=0.5)").ok()
        expected |= {one["comm_id"] for one in own.of_type("comm_open")}
    code = SLIDER + "\nout = w.Output()\nim = w.Image(value=b'png')"
    run = desk.remote(code).ok()
    expected |= {one["comm_id"] for one in run.of_type("comm_open")}

    states, buffers = request_states(desk)

    assert set(states["states"]) == expected
    assert states["states"][model_id(run)]["state"]["value"] == 3
    paths = dict(zip([tuple(path) for path in states["buffer_paths"]], buffers, strict=True))
    assert paths[model_id(run, "ImageModel"), "state", "value"] == b"png"


def open_control(desk: Desk, **how: Any) -> str:
    control = uuid.uuid4().hex
    opening = {"comm_id": control, "target_name": CONTROL, "data": {}}
    desk.host.send("comm_open", opening, metadata={"version": "1.0.0"}, **how)
    return control


def request_states(desk: Desk, **how: Any) -> tuple[dict[str, Any], list[bytes]]:
    """Do as ipywidgets' manager does when a page was loaded."""
    control = open_control(desk, **how)
    asked = say(desk, control, {"method": "request_states"}, **how)
    wait(desk, lambda: answers(asked, control), asked)
    answer = answers(asked, control)[0]
    assert answer.msg_type == "comm_msg", f"the comm was closed: {asked.messages}"
    return answer.content["data"], answer.buffers


def answers(run: CellRun, comm_id: str) -> list[Output]:
    return [one for one in run.outputs if one.content.get("comm_id") == comm_id]


@pytest.mark.full
def test_a_page_that_is_loaded_again_gets_the_widgets_of_a_busy_kernel(
    new_desk: Callable[..., Desk],
) -> None:
    desk = new_desk()
    slider = model_id(desk.remote(SLIDER).ok())
    with desk.kernel.busy():
        states, _ = request_states(desk, subshell=subshell(desk))
    assert states["states"][slider]["state"]["value"] == 3


@pytest.mark.full
@pytest.mark.parametrize("age", frontend.NEWEST_FIRST)
def test_a_kernel_that_cannot_answer_leaves_the_page_to_ask_for_each_widget(
    new_desk: Callable[..., Desk], age: frontend.Age
) -> None:
    desk = new_desk(age)
    desk.remote(SLIDER).ok()
    with desk.kernel.busy(spin=True):
        control = open_control(desk)
        asked = say(desk, control, {"method": "request_states"})
        wait(desk, lambda: answers(asked, control), asked)
        assert answers(asked, control)[0].msg_type == "comm_close"


def test_the_front_end_closes_a_widget(desk: Desk) -> None:
    slider = model_id(desk.remote(SLIDER).ok())
    desk.remote("s.comm.on_close(lambda msg: print('closed', msg['content']['comm_id']))").ok()
    closed = desk.host.send("comm_close", {"comm_id": slider, "data": {}})
    wait(desk, lambda: closed.stdout, closed)
    assert closed.stdout == f"closed {slider}\n"
    assert slider not in comms(desk)


def test_a_widget_that_is_closed_there_is_closed_here(desk: Desk) -> None:
    slider = model_id(desk.remote(SLIDER).ok())
    run = desk.remote("s.close()").ok()
    assert slider in [one["comm_id"] for one in run.of_type("comm_close")]
    assert slider not in comms(desk)


def test_the_death_of_its_kernel_closes_a_widget(desk: Desk) -> None:
    with desk.owned() as own:
        run = desk.remote(SLIDER, kernel=own).ok()
        opened = {one["comm_id"] for one in run.of_type("comm_open")}
        died = desk.remote("import os; os._exit(1)", kernel=own)
        assert died.reply["ename"] == "KernelDied"
        wait(desk, lambda: {one["comm_id"] for one in run.of_type("comm_close")} == opened, run)
        assert not opened & set(comms(desk))


def test_a_restart_closes_the_widgets_of_before(desk: Desk) -> None:
    with desk.owned() as own:
        run = desk.remote(SLIDER, kernel=own).ok()
        desk.run(f"%kernel_restart {own}").ok()
        assert {one["comm_id"] for one in run.of_type("comm_close")} == {
            one["comm_id"] for one in run.of_type("comm_open")
        }
        again = desk.remote(SLIDER, kernel=own).ok()
        assert update_prints(desk, model_id(again)) == "now 8\n"


def update_prints(desk: Desk, slider: str, value: int = 8) -> str:
    moved = update(desk, slider, value=value)
    wait(desk, lambda: moved.stdout, moved)
    return moved.stdout


def test_a_thread_there_moves_a_progress_bar_of_a_cell_that_is_over(desk: Desk) -> None:
    code = """\
import threading
go, bar = threading.Event(), w.IntProgress()
def work():
    go.wait()
    bar.value = 50
worker = threading.Thread(target=work); worker.start()
bar"""
    run = desk.remote(code).ok()
    bar = model_id(run, "IntProgressModel")
    after = desk.remote("go.set(); worker.join()").ok()
    # ipykernel takes what a thread says for the latest cell's (7) or for that of its begin (6).
    said = {"method": "update", "state": {"value": 50}, "buffer_paths": []}
    wait(desk, lambda: said in data_of(run, bar) + data_of(after, bar), after)


def test_what_another_client_sets_is_shown_here(desk: Desk) -> None:
    run = desk.remote(SLIDER).ok()
    slider = model_id(run)
    desk.kernel.ask("s.value = 11")
    said = {"method": "update", "state": {"value": 11}, "buffer_paths": []}
    wait(desk, lambda: said in data_of(run, slider), run)


def test_widgets_of_another_client_are_not_ours(desk: Desk) -> None:
    before = comms(desk)
    desk.remote("import ipywidgets as w").ok()
    desk.kernel.ask("theirs = w.IntSlider(); theirs.value = 1")
    desk.remote("theirs.value = 2").ok()
    assert comms(desk) == before


@pytest.mark.parametrize("first", ["", "%%capture\n"], ids=["quiet", "capture"])
def test_a_widget_that_is_made_unseen_can_be_shown_later(desk: Desk, first: str) -> None:
    run = desk.run(first + remotely(SLIDER, *([] if first else ["-q"]))).ok()
    assert {one.msg_type for one in run.outputs} == {"comm_open"}
    shown = desk.remote("s").ok().of_type("execute_result")[0]["data"]
    assert shown["application/vnd.jupyter.widget-view+json"]["model_id"] == model_id(run)
    assert update_prints(desk, model_id(run)) == "now 8\n"


def test_a_widget_that_is_made_in_the_background_moves(desk: Desk) -> None:
    run = desk.remote(SLIDER, "--bg").ok()
    wait(desk, lambda: len(run.of_type("comm_open")) == 3, run)
    assert update_prints(desk, model_id(run)) == "now 8\n"


@pytest.mark.full
@pytest.mark.parametrize("grouping", ["kernel", "merge"])
def test_each_of_several_kernels_has_its_own_widgets(desk: Desk, grouping: str) -> None:
    code = "me = input('name? ')\n" + SLIDER.replace("'now'", "me") + "\nout = w.Output()\n"
    code += "with out: print('free')"
    with desk.owned() as own:
        names = iter("ab")
        run = desk.remote(
            code,
            "--group-outputs",
            grouping,
            kernel=f"k,{own}",
            on_input=lambda prompt, password: next(names),
        ).ok()
        sliders = [
            one["comm_id"]
            for one in run.of_type("comm_open")
            if one["data"]["state"]["_model_name"] == "IntSliderModel"
        ]
        assert len(sliders) == 2
        assert {update_prints(desk, slider) for slider in sliders} == {"a 8\n", "b 8\n"}
        # Capturing by the cell would take the other kernel's outputs as well.
        captures = [one["data"]["state"].get("msg_id") for one in run.of_type("comm_msg")]
        assert set(captures) <= {"", None}
        assert run.stdout.count("free") == 2


def open_comm(desk: Desk, target: str) -> tuple[CellRun, str]:
    comm_id = uuid.uuid4().hex
    content = {"comm_id": comm_id, "target_name": target, "data": {"hello": 1}}
    return desk.host.send("comm_open", content), comm_id


TARGET = """\
def opened(comm, message):
    comm.on_msg(lambda m: comm.send({'got': m['content']['data'], 'by': NAME}))
    comm.send({'opened': message['content']['data']})
get_ipython().kernel.comm_manager.register_target('ours', opened)"""


def test_the_front_end_opens_a_comm_to_the_kernel_that_knows_its_target(desk: Desk) -> None:
    desk.remote(f"NAME = 'k'\n{TARGET}").ok()
    with desk.owned() as own:
        desk.remote("1", kernel=own).ok()  # used last, and does not know it
        opened, comm = open_comm(desk, "ours")
        told = say(desk, comm, {"x": 2})
        wait(desk, lambda: told.of_type("comm_msg") or opened.of_type("comm_msg")[1:], told)
    said = data_of(opened, comm) + data_of(told, comm)
    assert {"opened": {"hello": 1}} in said
    assert {"got": {"x": 2}, "by": "k"} in said
    assert comm in comms(desk)


def test_a_comm_whose_target_nobody_knows_is_closed(desk: Desk) -> None:
    desk.remote("1").ok()
    with desk.owned() as own:
        desk.remote("1", kernel=own).ok()
        opened, comm = open_comm(desk, "nobodys")
        wait(desk, lambda: opened.of_type("comm_close"), opened)
    assert comm not in comms(desk)


def test_a_target_of_this_kernel_stays_its_own(desk: Desk) -> None:
    desk.remote(f"NAME = 'k'\n{TARGET}").ok()
    desk.run(f"NAME = 'here'\n{TARGET}").ok()
    _, comm = open_comm(desk, "ours")
    told = say(desk, comm, {"x": 2})
    wait(desk, lambda: told.of_type("comm_msg"), told)
    assert data_of(told, comm) == [{"got": {"x": 2}, "by": "here"}]
    desk.run("get_ipython().kernel.comm_manager.targets.pop('ours')").ok()


def test_a_huge_message_of_a_widget_passes(desk: Desk) -> None:
    slider = model_id(desk.remote(SLIDER).ok())
    run = desk.remote("s.send({'text': 'x' * 3_000_000})").ok()
    assert [len(one["content"]["text"]) for one in data_of(run, slider)] == [3_000_000]


def subshell(desk: Desk) -> str:
    """One of the notebook's own kernel, as JupyterLab makes one for widgets."""
    return str(desk.host.ask("create_subshell_request", channel="control")["subshell_id"])


@pytest.fixture
def new_versions(new_desk: Callable[..., Desk]) -> Desk:
    """Those have subshells."""
    return new_desk("newest")


@pytest.mark.full
def test_a_callback_runs_while_a_cell_runs_here(new_versions: Desk) -> None:
    desk = new_versions
    slider = model_id(desk.remote(SLIDER).ok())
    lasting = desk.host.start("print('begun', flush=True); input()")
    wait(desk, lambda: "begun" in lasting.stdout, lasting)
    state = {"method": "update", "state": {"value": 4}, "buffer_paths": []}
    moved = say(desk, slider, state, subshell=subshell(desk))
    moved.wait_idle()
    # The front end is told last that it is over: nothing of the callback may come after that.
    assert moved.stdout == "now 4\n"
    assert moved.messages[-1]["content"] == {"execution_state": "idle"}
    assert not lasting.done
    desk.host.type_line("")
    lasting.wait()


@pytest.mark.full
def test_a_callback_waits_for_the_cell_that_runs_there(new_versions: Desk) -> None:
    """As it would here: ipykernel 7.4 hands a comm's messages to whom it spoke from last."""
    desk = new_versions
    slider = model_id(desk.remote(SLIDER).ok())
    lasting = desk.begin("import time\nwhile True: time.sleep(0.01)")
    state = {"method": "update", "state": {"value": 4}, "buffer_paths": []}
    moved = say(desk, slider, state, subshell=subshell(desk))
    desk.host.interrupt()
    lasting.wait()
    moved.wait_idle()
    assert moved.stdout == "now 4\n"


def test_a_front_end_without_subshells_is_served_after_the_cell(desk: Desk) -> None:
    slider = model_id(desk.remote(SLIDER).ok())
    lasting = desk.begin("import time\nwhile True: time.sleep(0.01)")
    moved = update(desk, slider, value=4)
    desk.host.interrupt()
    lasting.wait()
    wait(desk, lambda: moved.stdout, moved)
    assert moved.stdout == "now 4\n"


@pytest.mark.full
def test_after_unloading_nothing_is_left_of_it(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    before = "get_ipython().kernel.shell_handlers['comm_open'].__qualname__"
    run = desk.remote(SLIDER).ok()
    assert "FrontEndComms" in desk.value(before)
    desk.run("%unload_ext kernel_magics").ok()
    assert desk.value(before) == "CommManager.comm_open"
    assert desk.value("type(get_ipython().kernel.comm_manager.comms).__name__") == "dict"
    assert comms(desk) == {}
    assert len(run.of_type("comm_close")) == len(run.of_type("comm_open"))


@pytest.mark.full
def test_a_kernel_cannot_take_or_close_comms_of_others(new_desk: Callable[..., Desk]) -> None:
    desk = new_desk()
    own = desk.run("import ipywidgets as w\nmine = w.IntSlider(); mine").ok()
    theirs = model_id(desk.remote(SLIDER).ok())
    lies: list[Any] = [
        {"comm_id": comm_id, "target_name": "jupyter.widget", "data": {"state": {}}}
        for comm_id in (model_id(own), theirs)
    ]
    nonsense: list[Any] = [
        {},
        {"comm_id": 5, "target_name": "jupyter.widget", "data": {}},
        {"comm_id": "", "data": {}},
        {"comm_id": "new", "target_name": {}, "data": []},
    ]
    script = [
        steps.busy(),
        *(steps.publish("comm_open", lie) for lie in lies + nonsense),
        *(steps.publish("comm_msg", one) for one in lies + nonsense),
        *(steps.publish("comm_close", one) for one in lies + nonsense),
        steps.stream("true"),
        steps.reply(),
        steps.idle(),
    ]
    with desk.fake(script) as _:
        run = desk.remote("x", kernel="fake").ok()
        assert run.stdout == "true"
        said = {(one.msg_type, one.content.get("comm_id")) for one in run.outputs[:-1]}
        assert said == {("comm_open", "new"), ("comm_msg", "new"), ("comm_close", "new")}
    assert {model_id(own), theirs} <= set(comms(desk))
    assert update_prints(desk, theirs) == "now 8\n"
    asked = say(desk, model_id(own), {"method": "request_state"})
    wait(desk, lambda: data_of(asked, model_id(own)), asked)
