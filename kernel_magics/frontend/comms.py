"""Widgets: comms between the front end of this session and the kernels that cells ran in.

For each comm that a kernel opens, a proxy is put among the comms of the kernel that this session
is. So the front end finds it there, and what it says is passed on. Proxies only hand over:
ZeroMQ sockets belong to the I/O thread. What a kernel says is published here as it is, in its
place among the outputs: a view is never seen before its model. Of what widgets are, two things are
known: the `Output` widget's name for the cell it captures, and the comm by which a page that was
loaded again asks for the state of all widgets at once (:mod:`.widget_states`)."""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import KernelMagicsError, ProtocolError
from ..protocol.message import FULL_CHECK, Message, pack
from .output import LocalIOPub, RawRelay

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ..kernels.kernel import Kernel

log = logging.getLogger("kernel_magics")

REMEMBERED = 256
"""Requests of which is known what they are called here."""

ENDS = 1024
"""Bytes at both ends of a large content in which its comm id is looked for; it is not unpacked."""

_COMM_ID = re.compile(rb'"comm_id":\s?"([^"\\]{1,200})"')
_TARGET = re.compile(rb'"target_name":\s?"([^"\\]{1,200})"')

Raw = dict[str, Any]
"""A message as ipykernel hands it to its handlers: ``header``, ``content``, ``buffers``, ..."""


def local_comms(shell: InteractiveShell, iopub: LocalIOPub | None) -> FrontEndComms | None:
    """Return the comms of this session's front end; None where it has none that we know."""
    kernel: Any = getattr(shell, "kernel", None)
    if iopub is None or not hasattr(kernel, "comm_manager"):
        return None
    return FrontEndComms(kernel, iopub)


class Proxy:
    """The local end of one comm of a kernel, as the local comm manager knows it.

    Its methods are called by ipykernel: in the main thread, or in that of a subshell.
    """

    def __init__(self, comm_id: str, target: str, comms: KernelComms, relay: RawRelay) -> None:
        self.comm_id = comm_id
        self.target_name = target
        self.relay = relay
        """Publishes in the cell that the comm was opened in."""
        self._comms = comms
        self._closed = False  # set by the comm manager

    def handle_msg(self, message: Raw) -> None:
        """Pass on what the front end says."""
        self._comms.forward("comm_msg", message)

    def handle_close(self, message: Raw) -> None:
        """Pass on that the front end has closed it."""
        self._comms.forget(self.comm_id)
        self._comms.forward("comm_close", message)


class FrontEndComms:
    """All comms between one front end and the kernels behind this session.

    ``kernel`` is the ipykernel that this session is.
    """

    def __init__(self, kernel: Any, iopub: LocalIOPub) -> None:
        self.iopub = iopub
        self.manager = kernel.comm_manager
        self._handlers: dict[str, Callable[..., Any]] = kernel.shell_handlers
        self._kernels: dict[Kernel, KernelComms] = {}  # the one that was used last is the last
        self._open_here = self._handlers["comm_open"]

    def install(self) -> Callable[[], None]:
        """Be asked when the front end opens a comm; return what undoes that."""
        before = self.manager.comms
        self.manager.comms = Shared(before)
        self._handlers["comm_open"] = self._opened

        def restore() -> None:
            if self._handlers["comm_open"] == self._opened:
                self._handlers["comm_open"] = self._open_here
            self.manager.comms = dict(self.manager.comms)

        return restore

    def of(self, kernel: Kernel) -> KernelComms:
        """Return the comms with one kernel, which is going to be used."""
        comms = self._kernels.pop(kernel, None)
        if comms is None:
            comms = KernelComms(self, kernel)
            kernel.route_comms(comms)
        self._kernels[kernel] = comms
        return comms

    def drop(self, kernel: Kernel) -> None:
        """There are none any more."""
        self._kernels.pop(kernel, None)

    def __iter__(self) -> Iterator[KernelComms]:
        """Those with each kernel, the one that was used last first."""
        return iter(list(self._kernels.values())[::-1])

    def relay(self, comms: KernelComms, message: Raw) -> RawRelay:
        """Return what publishes a kernel's outputs as the answer to a message of the front end."""
        kernel = comms.kernel
        return RawRelay(kernel.name, self.iopub, kernel.reactor, message["header"], 0, comms)

    def _opened(self, stream: Any, ident: Any, message: Raw) -> Any:
        """Find out whose the comm is that the front end opens."""
        from .widget_states import CONTROL, StatesComm

        content = message["content"]
        target = content.get("target_name")
        there = list(self)
        if target == CONTROL and any(comms.proxies for comms in there):
            self.manager.register_comm(StatesComm(self, message, self.manager.targets.get(CONTROL)))
        elif target == CONTROL or target in self.manager.targets or not there:
            return self._open_here(stream, ident, message)
        else:
            self._open_there(message, there)
        return None

    def _open_there(self, message: Raw, there: list[KernelComms]) -> None:
        """Have a kernel open its end: of those that know the target, the one used last."""
        first, *others = there
        offer = Offer(message, first, self.relay(first, message), others)
        first.add(offer)
        offer.make()


class Offer(Proxy):
    """A comm that the front end has opened. A kernel that does not know its target closes it at
    once, and then the next one is asked."""

    def __init__(
        self, opening: Raw, comms: KernelComms, relay: RawRelay, others: list[KernelComms]
    ) -> None:
        content = opening["content"]
        super().__init__(str(content["comm_id"]), str(content["target_name"]), comms, relay)
        self._others = others
        self._said = [("comm_open", opening)]
        # Whoever is asked gets all that was said, and once. What is over at once comes back to us.
        self._lock = threading.RLock()

    def make(self) -> None:
        """Say to the kernel what the front end has said so far."""
        with self._lock:
            self._make()

    def handle_msg(self, message: Raw) -> None:
        """Pass on what the front end says, also to the next kernel if this one refuses."""
        with self._lock:
            undecided = bool(self._others)
            if undecided:
                self._said.append(("comm_msg", message))
                self._comms.forward("comm_msg", message, wait=False)
        if not undecided:
            super().handle_msg(message)

    def refused(self) -> bool:
        """Ask the next kernel; return False if there is none. On the I/O thread."""
        with self._lock:
            if not self._others:
                return False
            self._comms = self._others.pop(0)
            self._comms.add(self)
            self._make()
            return True

    def _make(self) -> None:
        comms = self._comms
        for msg_type, message in self._said:
            if comms is self._comms:
                done = comms.forward(msg_type, message, wait=False)
                if msg_type == "comm_open" and done is not None:
                    done.add_done_callback(partial(self._decided, comms))

    def _decided(self, comms: KernelComms, done: Future[None]) -> None:
        """A kernel is through with it. If it had refused, another one has been asked by now."""
        if comms is not self._comms:
            return
        if done.exception() is None:
            with self._lock:
                self._others, self._said = [], []
        elif not self.refused():
            comms.close(self)


class KernelComms:
    """The comms between the front end and one kernel; a `Router`.

    On the I/O thread, but for what proxies call.
    """

    def __init__(self, all_of_them: FrontEndComms, kernel: Kernel) -> None:
        self.kernel = kernel
        self.proxies: dict[str, Proxy] = {}
        self._all = all_of_them
        # What requests are called there and here, which only `Output` widgets ask for.
        self._here: OrderedDict[str, str] = OrderedDict()
        self._there: OrderedDict[str, str] = OrderedDict()

    # What the kernel says.

    def received(self, message: Message, relay: RawRelay, *, capture: bool = True) -> None:
        """Publish a comm message by ``relay``, in its place among a cell's outputs.

        With ``capture`` an `Output` widget may capture the outputs of that cell.
        """
        self._note(message.parent_id, relay.parent_id if capture else "")
        try:
            comm_id, target = _address(message)
            if message.type == "comm_open":
                if comm_id in self._all.manager.comms:
                    raise ProtocolError("a comm is opened that is open already")  # or another's
                self.add(Proxy(comm_id, target, self, relay))
            elif message.type == "comm_close" and self._is_refusal(comm_id):
                return
            elif comm_id not in self.proxies:
                return  # of somebody else's front end
            relay.emit(message, self._translated(message))
            if message.type == "comm_close":
                self.forget(comm_id)
        except ProtocolError as error:
            log.warning("! %s: a comm message was dropped: %s", self.kernel.name, error)

    def stray(self, message: Message) -> None:
        """Publish what nobody here has asked for, in the cell that the comm was opened in."""
        try:
            comm_id, _ = _address(message)
            message.check()
        except ProtocolError:
            return
        if message.type != "comm_open" and (proxy := self.proxies.get(comm_id)) is not None:
            self.received(message, proxy.relay)

    def ended(self) -> None:
        """Close them all, here and in the front end."""
        self.kernel.route_comms(None)
        self._all.drop(self.kernel)
        for proxy in list(self.proxies.values()):
            self.close(proxy)

    def close(self, proxy: Proxy) -> None:
        """Close one, here and in the front end."""
        self.forget(proxy.comm_id)
        content = {"comm_id": proxy.comm_id, "data": {}}
        proxy.relay.emit(self._all.iopub.session.message("comm_close", content))
        proxy.relay.publish()

    def add(self, proxy: Proxy) -> None:
        """Let the front end find it here."""
        self.proxies[proxy.comm_id] = proxy
        self._all.manager.register_comm(proxy)

    def forget(self, comm_id: str) -> None:
        """It is closed; from any thread, and a second time this does nothing."""
        if (proxy := self.proxies.pop(comm_id, None)) is not None:
            comms = self._all.manager.comms
            if comms.get(comm_id) is proxy:
                del comms[comm_id]

    def _is_refusal(self, comm_id: str) -> bool:
        proxy = self.proxies.get(comm_id)
        if not isinstance(proxy, Offer) or not proxy.refused():
            return False
        del self.proxies[comm_id]  # it is the next one's
        return True

    def translated_states(self, data: Raw) -> Raw:
        """Return all states of the kernel's widgets, with the names that hold here."""
        states = {
            model: _with_name(state, self._here) if isinstance(state, dict) else state
            for model, state in data["states"].items()
        }
        return data | {"states": states}

    def _note(self, there: str, here: str) -> None:
        for names, name, meaning in ((self._here, there, here), (self._there, here, there)):
            names[name] = meaning
            if len(names) > REMEMBERED:
                names.popitem(last=False)

    def _translated(self, message: Message) -> bytes | None:
        """Return the content with the id that a captured cell has here; None: as it is.

        An `Output` widget tells its view to catch what answers to the request that runs.
        """
        packed = message.parts[3]
        if len(packed) > FULL_CHECK or b'"msg_id"' not in packed:
            return None
        content = message.content
        data = content.get("data")
        named = _with_name(data, self._here) if isinstance(data, dict) else data
        return None if named is data else pack(content | {"data": named})

    # What the front end says.

    def forward(self, msg_type: str, message: Raw, *, wait: bool = True) -> Future[None] | None:
        """Pass a message on; what it leads to is published as the answer to it. None: it cannot be.

        In a subshell of the session's own kernel this waits until the other kernel is through, so
        that the front end is told so at the right time. In the main thread, where cells have to go
        on, it does not.
        """
        beside = message["header"].get("subshell_id") is not None
        content = message["content"]
        if isinstance(data := content.get("data"), dict):
            content = content | {"data": _with_name(data, self._there)}
        try:
            done = self.kernel.forward(
                msg_type,
                content,
                self._all.relay(self, message),
                metadata=message.get("metadata"),
                buffers=message.get("buffers") or (),
                beside=beside,
            )
            if wait and beside and threading.current_thread() is not threading.main_thread():
                done.result()
                self._all.iopub.settle()
        except KernelMagicsError as error:
            log.info("= %s: a comm message was not passed on: %s", self.kernel.name, error)
            return None
        return done


class Shared(dict[str, Any]):
    """The comms of a comm manager, which the I/O thread changes as well: whoever goes through them
    goes through a copy."""

    def items(self) -> Any:
        """Return them as they are now."""
        return list(super().items())

    def keys(self) -> Any:
        """Return their ids as they are now."""
        return list(super().keys())

    def values(self) -> Any:
        """Return their comms as they are now."""
        return list(super().values())


def _address(message: Message) -> tuple[str, str]:
    """Return the comm id and the target's name, which only `comm_open` has.

    Raises:
        ProtocolError: there is no id in it.
    """
    packed = message.parts[3]
    if len(packed) > FULL_CHECK:
        # ipykernel writes them behind the data, others before it.
        for end in (packed[-ENDS:], packed[:ENDS]):
            if (found := _COMM_ID.findall(end)) and b'"data"' not in end[end.rfind(found[-1]) :]:
                targets = _TARGET.findall(end)
                return found[-1].decode(), targets[-1].decode() if targets else ""
    comm_id, target = message.content.get("comm_id"), message.content.get("target_name")
    if not isinstance(comm_id, str) or not comm_id:
        raise ProtocolError(f"{message.type} without a comm_id")
    return comm_id, target if isinstance(target, str) else ""


def _with_name(data: Raw, names: Mapping[str, str]) -> Raw:
    """Return the data of a widget's message with the other name of the request that it captures;
    as they are when there is none."""
    state = data.get("state")
    msg_id = state.get("msg_id") if isinstance(state, dict) else None
    if not isinstance(msg_id, str) or not msg_id or names.get(msg_id, msg_id) == msg_id:
        return data
    assert isinstance(state, dict)
    return data | {"state": state | {"msg_id": names[msg_id]}}
