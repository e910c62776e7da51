"""Completion and help, put over the shell's own: who presses Tab asks the `assistant` first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from IPython.core.completer import Completion as Shown
    from IPython.core.interactiveshell import InteractiveShell

    from ..protocol.answers import Completion
    from .assistant import Assistant

Ask = Callable[[], "Assistant"]
"""Gives the assistant; it is made, and what it needs is loaded, with the first Tab."""

TYPED_MATCHES = "_jupyter_types_experimental"


def install(shell: InteractiveShell, ask: Ask) -> Callable[[], None]:
    """Let the shell ask the assistant first; return what puts back what was there."""
    judge: Any = shell.input_transformer_manager
    undo = [replace(judge, "check_complete", _judging(ask, judge.check_complete))]
    kernel: Any = getattr(shell, "kernel", None)
    if not hasattr(kernel, "do_complete"):  # a terminal, or a kernel not made of ipykernel
        completer: Any = shell.Completer
        completions = _completing_in_terminal(ask, completer.completions)
        undo.append(replace(completer, "completions", completions))
    else:
        undo.append(replace(kernel, "do_complete", _completing(ask, kernel.do_complete)))
        undo.append(replace(kernel, "do_inspect", _inspecting(ask, kernel.do_inspect)))

    def restore() -> None:
        for step in undo:
            step()

    return restore


def replace(owner: Any, name: str, function: Callable[..., Any]) -> Callable[[], None]:
    """Put a function over a method of one object; return what takes it off again.

    What somebody has put over ours since stays, and so ours below it.
    """
    missing = object()
    before = vars(owner).get(name, missing)
    setattr(owner, name, function)

    def restore() -> None:
        if vars(owner).get(name) is not function:
            return
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)

    return restore


def _completing(ask: Ask, local: Callable[..., Any]) -> Callable[..., Any]:
    def do_complete(code: str, cursor_pos: int | None) -> Any:
        """Answer a front end's ``complete_request``."""
        cursor = len(code) if cursor_pos is None else cursor_pos
        found = ask().complete(code, cursor)
        if found is None:
            return local(code, cursor_pos)
        return {
            "status": "ok",
            "matches": found.matches,
            "cursor_start": found.start,
            "cursor_end": found.end,
            "metadata": found.metadata,
        }

    return do_complete


def _inspecting(ask: Ask, local: Callable[..., Any]) -> Callable[..., Any]:
    def do_inspect(
        code: str, cursor_pos: int, detail_level: int = 0, *more: Any, **named: Any
    ) -> Any:
        """Answer a front end's ``inspect_request``."""
        found = ask().inspect(code, cursor_pos, detail_level)
        if found is None:
            return local(code, cursor_pos, detail_level, *more, **named)
        if isinstance(found, str):
            return local(found, len(found), detail_level, *more, **named)
        return {
            "status": "ok",
            "found": found.found,
            "data": found.data,
            "metadata": found.metadata,
        }

    return do_inspect


def _judging(ask: Ask, local: Callable[..., Any]) -> Callable[..., Any]:
    def check_complete(cell: str) -> Any:
        """Return status and indentation, as IPython's own."""
        found = ask().is_complete(cell)
        if found is None:
            return local(cell)
        return found.status, len(found.indent) if found.status == "incomplete" else None

    return check_complete


def _completing_in_terminal(ask: Ask, local: Callable[..., Any]) -> Callable[..., Iterator[Shown]]:
    def completions(text: str, offset: int) -> Iterator[Shown]:
        """Yield what the terminal's menu shows."""
        found = ask().complete(text, offset)
        if found is None:
            yield from local(text, offset)
            return
        from IPython.core.completer import Completion as Shown

        for one in found.metadata.get(TYPED_MATCHES) or _untyped(found):
            # A line break would be typed, and an escape sequence obeyed.
            if one["text"].isprintable():
                signature = cast(str, one.get("signature", ""))
                kind = cast(str, one.get("type", ""))
                yield Shown(one["start"], one["end"], one["text"], type=kind, signature=signature)

    return completions


def _untyped(found: Completion) -> list[dict[str, Any]]:
    return [{"start": found.start, "end": found.end, "text": one} for one in found.matches]
