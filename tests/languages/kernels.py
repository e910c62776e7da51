"""The kernels, and the rows of each."""

from __future__ import annotations

from collections.abc import Sequence

from tests.languages.acts import (
    answered,
    ask_for_help,
    ask_for_help_in_vain,
    interrupt_busy,
    interrupt_idle,
    look_at_table,
    many_lines,
    press_stop,
    press_tab,
    twice,
)
from tests.languages.rows import BOTH, About, Row

KERNELS: list[About] = []
ROWS: list[Row] = []


def kernel(name: str, title: str, start: str, words: str = "") -> None:
    """Begin the rows of one more kernel."""
    KERNELS.append(About(name, title, start, words))


def row(topic: str, code: str, *shows: str, **more: object) -> None:
    """A row of the kernel that was begun last."""
    ROWS.append(Row(KERNELS[-1].name, topic, code, shows, **more))  # type: ignore[arg-type]


def usual(
    *,
    tab: tuple[str, str],
    inspected: tuple[str, str],
    language: str,
    many: str,
    of: str = "1000",
    remark: str = "",
) -> None:
    """Rows that every kernel has."""
    row("many lines", many, f"all {of} lines", act=many_lines, remark=remark)
    row("Tab", tab[0], tab[1], act=press_tab)
    vain = inspected[1] == "no help"
    row("help", *inspected, act=ask_for_help_in_vain if vain else ask_for_help)
    row("its language", "%kernels", language, act=look_at_table)
    idle = "asked {k} to interrupt what runs there; it is idle"
    row("interrupt while idle", "%kernel_interrupt k", idle, act=interrupt_idle, whose=BOTH)


def stoppable(what: str, code: str, *shows: str, remark: str = "") -> None:
    """A cell that Ctrl-C and ``%kernel_interrupt`` end."""
    row(f"Ctrl-C while it {what}", code, *shows, act=press_stop, whose=BOTH, remark=remark)
    said = "asked {k} to interrupt what runs there; it is idle"
    row(f"interrupt while it {what}", code, said, act=interrupt_busy, whose=BOTH)


def unstoppable(what: str, code: str) -> None:
    """A cell that nothing ends but the kernel's end."""
    row(
        f"Ctrl-C while it {what}",
        code,
        "stderr: [{k}] has not stopped yet…",
        "ends: Abandoned: …",
        act=press_stop,
        whose=BOTH,
        remark="at the second Ctrl-C; the code runs on",
    )
    said = "asked {k} to interrupt what runs there; it is busy still"
    again = " (%kernel_restart {k} would end it)"
    row(f"interrupt while it {what}", code, said + again, act=interrupt_busy)
    row(f"interrupt of theirs while it {what}", code, said, act=interrupt_busy, whose=("theirs",))


# Python.

PYTHON = {
    "error": "1 / 0",
    "html": "from IPython.display import *; display(HTML('<b>x</b>'))",
    "png": "from IPython.display import *; display(Image(b'\\x89PNG', format='png'))",
    "update": "from IPython.display import *\nh = display('one', display_id='d'); h.update('two')",
    "clear": "from IPython.display import *; clear_output(wait=True)",
    "many": "for n in range(1000): print(n + 1)",
}


def python(error: str) -> None:
    row("printed text", "print('hi')", "stdout: hi")
    row("text on stderr", "import sys; print('hi', file=sys.stderr)", "stderr: hi")
    row("the value of a cell", "1 + 1", "result (text/plain): 2")
    row("an error", PYTHON["error"], f"ends: {error}")
    row("HTML", PYTHON["html"], "display (text/html, text/plain): <IPython…HTML object>")
    row("a picture", PYTHON["png"], "display (image/png, text/plain): <IPython…Image object>")
    row(
        "a display that changes",
        PYTHON["update"],
        "display (text/plain): 'one'",
        "update (text/plain): 'two'",
    )
    row("a clear", PYTHON["clear"], "clear (wait: True)")
    row(
        "a question",
        "input('q? ')",
        "asks: [{k}] q? ",
        "result (text/plain): 'an answer'",
        act=answered,
    )


def refused(error: str) -> None:
    row(
        "a question nobody can answer", "input('q? ')", f"ends: {error}",
        remark="as under nbclient",
    )  # fmt: skip


for name, title, start in (
    ("python3", "Python (ipykernel 7.4)", "%kernel_start python3 --name k"),
    ("floor", "Python (ipykernel 6.29)", "%kernel_start --python PATH --name k"),
):
    kernel(name, title, start)
    python("ZeroDivisionError: division by zero")
    refused("StdinNotImplementedError: …")
    usual(
        tab=("whi", "offers: while"),
        inspected=("print", "help (text/plain)"),
        language="python",
        many=PYTHON["many"],
    )

kernel(
    "xpython",
    "Python (xeus-python 0.19)",
    "%kernel_start xpython --name k",
    "It says ok to an interrupt and goes on. SIGINT ends it, busy or idle, so it is sent none.",
)
python("<class 'ZeroDivisionError'>: division by zero")
refused("<class 'RuntimeError'>: This frontend does not support input requests")
usual(
    tab=("prin", "offers: print"),
    inspected=("print", "help (text/html, text/plain)"),
    language="python",
    many="for n in range(400): print(n + 1)",
    of="400",
    remark="two messages a line; beyond 1000 that wait it drops some, also the one that says idle",
)
unstoppable("computes", "print('begun')\nwhile True: pass")
unstoppable("waits", "print('begun')\nimport time; time.sleep(600)")

# R.

kernel("ir", "R (IRkernel 1.3)", "%kernel_start ir --name k")
row("printed text", "cat('hi\\n')", "stdout: hi")
row("text on stderr", "message('hi')", "stderr: hi")
row(
    "the value of a cell",
    "1 + 1",
    "display (text/html, text/latex, text/markdown, text/plain): [1] 2",
    remark="a display, without a number",
)
row("an error", "stop('no')", "ends: ERROR: Error in …: no")
row("code that is no R", "1 +", "ends: ERROR: Error in parse…")
row("HTML", "IRdisplay::display_html('<b>x</b>')", "display (text/html): <b>x</b>")
row("a picture", "plot(1)", "display (image/png, text/plain): plot without title")
row("a clear", "IRdisplay::clear_output(TRUE)", "clear (wait: True)")
row("a question", "cat(readline('q? '))", "asks: [{k}] q? ", "stdout: an answer", act=answered)
row("a question nobody can answer", "utf8ToInt(readline('q? '))", "…")
usual(
    tab=("prin", "offers: …print…"),
    inspected=("print", "help (text/html, text/latex, text/plain)"),
    language="R",
    many="for (n in 1:1000) cat(n, '\\n')",
)
INTERRUPTED = "ends: Aborted: this cell was interrupted in {k} and did not run to its end"
stoppable("computes", "cat('begun\\n')\nwhile (TRUE) {}", INTERRUPTED)
stoppable("waits", "cat('begun\\n')\nSys.sleep(600)", INTERRUPTED)

# JavaScript.

kernel(
    "jslab",
    "JavaScript (tslab 1.0)",
    "%kernel_start jslab --cwd FOLDER --name k",
    "It has to be started in a folder with `@types/node`.",
)
row("printed text", "console.log('hi')", "stdout: hi")
row("text on stderr", "console.error('hi')", "stderr: hi")
row("the value of a cell", "1 + 1", "stdout: 2", remark="as text")
row(
    "an error",
    "throw new Error('no')",
    "stderr: …Error: no…",
    "ends: RemoteError:",
    remark="as text; the kernel gives it no name",
)
row(
    "a cell directly behind one that failed",
    "no_such_thing",
    "('error', 'aborted')",
    act=twice,
    remark="not run: for 0.2 s after an error it runs nothing",
)
row("HTML", "require('tslab').display.html('<b>x</b>')", "display (text/html): <b>x</b>")
row(
    "a picture",
    "require('tslab').display.png(new Uint8Array([137, 80]))",
    "display (image/png):",
)
row(
    "a display that changes",
    "const d = require('tslab').newDisplay(); d.text('one'); d.text('two')",
    "display (text/plain): one",
    "update (text/plain): two",
)
usual(
    tab=("consol", "offers: console"),
    inspected=("console", "help (text/plain)"),
    language="javascript",
    many="for (let n = 1; n <= 200; n++) console.log(n)",
    of="200",
    remark="of more than some 450 at once tslab drops some, its idle too, with every client",
)
stoppable("computes", "console.log('begun'); while (true) {}", "stderr: …SIGINT…", "…")
stoppable(
    "waits",
    "console.log('begun'); await new Promise(done => setTimeout(done, 600000))",
    "stderr: …Interrupted asynchronously…",
    "…",
)

# TypeScript.

kernel("deno", "TypeScript (Deno 2.9)", "%kernel_start deno --name k")
row("printed text", "console.log('hi')", "stdout: hi")
row("text on stderr", "console.error('hi')", "stderr: hi")
row("the value of a cell", "1 + 1", "result (text/plain): 2")
row("an error", "throw new Error('no')", "ends: Error: no")
row("HTML", "Deno.jupyter.html`<b>x</b>`", "result (text/html): <b>x</b>")
row(
    "a picture",
    "await Deno.jupyter.display({'image/png': 'iVBORw=='}, {raw: true})",
    "display (image/png):",
)
row(
    "a display that changes",
    "const show = (kind, text) => Deno.jupyter.broadcast(kind,\n"
    "  {data: {'text/plain': text}, metadata: {}, transient: {display_id: 'd'}});\n"
    "await show('display_data', 'one'); await show('update_display_data', 'two')",
    "display (text/plain): one",
    "update (text/plain): two",
)
row("a question", "prompt('q? ')", "asks: [{k}] q? ", "…an answer…", act=answered)
row("a question nobody can answer", "prompt('q? ')", remark="it is `null`, and the cell is ok")
usual(
    tab=("consol", "offers: console"),
    inspected=("console", "no help"),
    language="typescript",
    many="for (let n = 1; n <= 1000; n++) console.log(n)",
)
stoppable("computes", "console.log('begun'); while (true) {}", "…")
unstoppable("waits", "console.log('begun'); await new Promise(done => setTimeout(done, 600000))")

# bash.

kernel("bash", "bash (bash_kernel 0.10)", "%kernel_start bash --name k")
row("printed text", "echo hi", "stdout: hi")
row("text on stderr", "echo hi >&2", "stdout: hi", remark="on stdout: it is one terminal")
row("an error", "false", "error: : 1", "ends: RemoteError: 1", remark="the exit status")
row(
    "a command that does not exist", "nosuch", "stdout: …not found", "error: : 127",
    "ends: RemoteError: 127",
)  # fmt: skip
row("HTML", "echo '<b>x</b>' | displayHTML", "display (text/html): <b>x</b>")
usual(
    tab=("ech", "offers: echo"),
    inspected=("echo", "no help"),
    language="bash",
    many="for n in {1..1000}; do echo $n; done",
)
stoppable("computes", "echo begun; while :; do :; done", INTERRUPTED)
stoppable("waits", "(echo begun; exec sleep 600)", INTERRUPTED)
stoppable("asks", "echo begun; read x", INTERRUPTED, remark="nobody can answer bash's `read`")

# Octave, Scheme, gnuplot.

kernel("octave", "Octave (octave_kernel 1.1)", "%kernel_start octave --name k")
row("printed text", "disp('hi')", "stdout: hi")
row("text on stderr", "fprintf(stderr, 'hi\\n')", "stdout: hi")
row("the value of a cell", "1 + 1", "stdout: ans = 2", remark="as text")
row("an error", "error('no')", "stdout: error: no", remark="text, and the cell is ok")
usual(
    tab=("prin", "offers: print…"),
    inspected=("disp", "help (text/plain)"),
    language="octave",
    many="for n = 1:1000 disp(n); end",
)
stoppable("computes", "disp('begun'); while true; end", remark="the kernel calls the cell ok")
stoppable("waits", "disp('begun'); pause(600)", "…", remark="the kernel calls the cell ok")

kernel("scheme", "Scheme (calysto_scheme 2.1)", "%kernel_start scheme --name k")
row("printed text", '(display "hi")', "stdout: hi")
row("the value of a cell", "(+ 1 1)", "result (text/plain): 2")
row("an error", "(car 1)", "stderr: …car called on non-pair 1", "…", remark="as text")
usual(
    tab=("disp", "offers: display"),
    inspected=("car", "…"),
    language="scheme",
    many="(for-each (lambda (n) (print (+ n 1))) (range 100))",
    of="100",
    remark="beyond 1000 messages that wait it drops some, as all do that stand on ipykernel",
)
stoppable(
    "computes",
    '(begin (display "begun") (letrec ((f (lambda (n) (f n)))) (f 1)))',
    "stderr: …KeyboardInterrupt: Keyboard interrupt",
    "…",
)

kernel("gnuplot", "gnuplot (gnuplot_kernel 0.5)", "%kernel_start gnuplot --name k")
row(
    "printed text",
    "print 'hi'",
    "stdout: Failed to read and display image…",
    "result (text/plain): hi",
)
row("an error", "nosuch", "stderr: …invalid command", "…", remark="as text")
row("a picture", "plot sin(x)", "display (image/png, …")
row("help", "plot", "help (text/plain)", act=ask_for_help)
row("its language", "%kernels", "gnuplot", act=look_at_table)

NEXT: dict[str, tuple[str, str]] = {
    "python3": ("print('next')", "next"),
    "floor": ("print('next')", "next"),
    "xpython": ("print('next')", "next"),
    "ir": ("cat('next\\n')", "next"),
    "jslab": ("console.log('next')", "next"),
    "deno": ("console.log('next')", "next"),
    "bash": ("echo next", "next"),
    "octave": ("disp('next')", "next"),
    "scheme": ('(display "next")', "next"),
    "gnuplot": ("print 'next'", "next"),
}
"""A cell that works after every row, and what it prints."""


def rows_of(*kernels: str) -> Sequence[Row]:
    return [each for each in ROWS if each.kernel in kernels]
