"""Micro-batches of several server processes in one call; a failure stays with its own."""

import os
import select
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from image_categorizer_server.inference.model_process.merging import Merger
from image_categorizer_server.inference.runtimes import RuntimeLost
from image_categorizer_server.inference.runtimes.remote import Place, RemoteError, RemoteRuntime
from image_categorizer_server.inference.runtimes.slots import (
    SLOTS,
    Call,
    Layout,
    Offer,
    Slot,
    new_memory,
)

from tests.support.batching import POISON, Device
from tests.support.polling import wait_until

LAYOUT = Layout(input_bytes=8 * 12, rows=8, categories=1, feature_bytes=64)
OFFER = Offer(
    name="held", device="cpu", precision="fp32", max_size=8, calls_s={1: 0.01}, layout=LAYOUT
)
STICKY = RuntimeError("CUDA error: an illegal memory access was encountered")


class HeldRuntime:
    """Answers with each input's first byte, when the device is free."""

    name, device, precision, runners = "held", "cpu", "fp32", 1

    def __init__(self, device):
        self._device = device

    def predict(self, inputs, *, with_features=False):
        return self._device.predict(inputs, with_features)


class Machine:
    """The thread of a model, and the runtimes of server processes that use it."""

    def __init__(self, device, stack):
        self.device = device
        self.lost = []
        self.merger = Merger(HeldRuntime(device), 8, self.lost.append)
        self._stack = stack
        self._lines = []
        self._pool = stack.enter_context(ThreadPoolExecutor(16))
        stack.callback(self.merger.stop, 5)
        stack.callback(device.free.set)

    def place(self):
        """Returns a server process's end of a new slot."""
        memory = new_memory("test", LAYOUT.total_bytes)
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        place = Place(Slot(memory, LAYOUT), theirs)
        self.merger.add([Place(Slot(memory, LAYOUT), ours)])
        self._lines.append(ours)
        os.close(memory)
        return place

    def runtime(self, timeout_s=10.0):
        """Returns the runtime of one more server process."""
        link, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stack.enter_context(other)
        runtime = RemoteRuntime(link, OFFER, [self.place() for _ in range(SLOTS)], timeout_s)
        self._stack.callback(runtime.close)
        return runtime

    def ask(self, runtime, *values, **options):
        """Hands over one micro-batch; returns a future."""
        inputs = [np.full((2, 2, 3), value, np.uint8) for value in values]
        return self._pool.submit(runtime.predict, inputs, **options)

    def hold(self):
        """Holds the model in the call of a server process of its own."""
        self.device.free.clear()
        self.ask(self.runtime(), 0)
        wait_until(lambda: self.device.batches)

    def free(self, waiting):
        """Lets the model go on, once so many micro-batches wait for it."""
        wait_until(lambda: len(select.select(self._lines, [], [], 0)[0]) == waiting)
        self.device.free.set()

    @property
    def merged(self):
        """The values in each call after the held one."""
        return [sorted(batch) for batch in self.device.batches[1:]]


@pytest.fixture
def machine():
    with ExitStack() as stack:
        yield Machine(Device(), stack)


def shown(future):
    return [float(row[0]) for row in future.result(10).confidences]


def test_micro_batches_of_several_server_processes_become_one_call(machine):
    fronts = [machine.runtime() for _ in range(3)]
    machine.hold()
    asked = [
        machine.ask(fronts[0], 1, 2),
        machine.ask(fronts[1], 3),
        machine.ask(fronts[2], 4, 5, 6),
    ]
    machine.free(waiting=3)
    assert [shown(future) for future in asked] == [[1, 2], [3], [4, 5, 6]]
    assert machine.merged == [[1, 2, 3, 4, 5, 6]]


def test_a_call_is_no_larger_than_the_largest_micro_batch(machine):
    fronts = [machine.runtime() for _ in range(3)]
    machine.hold()
    asked = [machine.ask(front, *[n] * 5) for n, front in enumerate(fronts, 1)]
    machine.free(waiting=3)
    assert [shown(future) for future in asked] == [[n] * 5 for n in (1, 2, 3)]
    assert sorted(machine.merged) == [[1] * 5, [2] * 5, [3] * 5]


def test_only_those_who_ask_for_features_pay_for_them(machine):
    fronts = [machine.runtime() for _ in range(3)]
    machine.hold()
    with_features = machine.ask(fronts[0], 1, with_features=True)
    without = [machine.ask(front, 2) for front in fronts[1:]]
    machine.free(waiting=3)
    assert with_features.result(10).features.shape == (1, 1, 1, 1)
    assert [future.result(10).features for future in without] == [None, None]
    assert sorted(machine.merged) == [[1], [2, 2]]


def test_an_image_on_which_the_model_fails_concerns_its_own_server_process_only(machine):
    fronts = [machine.runtime() for _ in range(2)]
    machine.hold()
    asked = [machine.ask(fronts[0], 1, POISON), machine.ask(fronts[1], 2)]
    machine.free(waiting=2)
    with pytest.raises(RemoteError, match="RuntimeError: cannot"):
        asked[0].result(10)
    assert shown(asked[1]) == [2]
    assert shown(machine.ask(fronts[0], 3)) == [3]
    assert machine.lost == []


def test_less_is_merged_once_memory_has_run_out():
    with ExitStack() as stack:
        machine = Machine(Device(memory_images=4), stack)
        fronts = [machine.runtime() for _ in range(2)]
        for _ in range(2):
            machine.device.batches.clear()
            machine.hold()
            asked = [machine.ask(front, 1, 1, 1) for front in fronts]
            machine.free(waiting=2)
            assert [shown(future) for future in asked] == [[1] * 3] * 2
        assert machine.merged == [[1] * 3] * 2


def test_an_error_without_recovery_is_reported_and_no_call_is_repeated():
    with ExitStack() as stack:
        machine = Machine(Device(), stack)
        fronts = [machine.runtime() for _ in range(2)]
        machine.hold()
        asked = [machine.ask(front, 1) for front in fronts]
        wait_until(lambda: len(select.select(machine._lines, [], [], 0)[0]) == 2)
        machine.device.fail_with(STICKY)
        machine.device.free.set()
        for future in asked:
            with pytest.raises(RemoteError, match="CUDA error"):
                future.result(10)
        wait_until(lambda: len(machine.lost) == 2)
        assert machine.merged == [[1, 1]]


def test_the_end_of_the_model_process_fails_calls_at_once_and_later_ones_too(machine):
    front = machine.runtime(timeout_s=60)
    assert shown(machine.ask(front, 1)) == [1]
    assert machine.merger.stop(5)
    for _ in range(2):
        with pytest.raises(RuntimeLost):
            machine.ask(front, 2).result(10)


def test_a_call_that_takes_too_long_makes_the_runtime_lost(machine):
    front = machine.runtime(timeout_s=0.2)
    machine.hold()
    with pytest.raises(RuntimeLost):
        machine.ask(front, 1).result(10)
    machine.device.free.set()
    with pytest.raises(RuntimeLost):  # the slot may hold the late answer
        machine.ask(front, 2).result(10)


def test_a_model_that_hangs_is_seen_and_its_thread_does_not_hold_up_the_end(machine):
    machine.hold()
    wait_until(lambda: machine.merger.busy_s() > 0.05)
    assert not machine.merger.stop(0.05)
    machine.device.free.set()
    assert machine.merger.stop(5)
    assert machine.merger.busy_s() == 0


def test_what_a_killed_server_process_had_handed_over_is_not_computed(machine):
    front, killed = machine.runtime(), machine.place()
    machine.hold()
    killed.slot.inputs((1, 2, 2, 3))[:] = 7
    killed.line.send(Call(shape=(1, 2, 2, 3), with_features=True).packet())
    killed.line.close()
    asked = machine.ask(front, 1)
    machine.free(waiting=2)
    assert shown(asked) == [1]
    assert shown(machine.ask(front, 2)) == [2]
    assert machine.merged == [[1], [2]]


@pytest.mark.parametrize(
    "packet",
    [
        b"nonsense",
        Call(shape=(9, 2, 2, 3), with_features=False).packet(),
        Call(shape=(1, 20, 20, 3), with_features=False).packet(),
        Call(shape=(0, 2, 2, 3), with_features=False).packet(),
        Call(shape=(-1, -2, 2, 3), with_features=False).packet(),
    ],
)
def test_a_packet_that_does_not_fit_ends_its_own_connection_only(machine, packet):
    front, bad = machine.runtime(), machine.place()
    bad.line.settimeout(10)
    bad.line.send(packet)
    assert bad.line.recv(100) == b""
    bad.line.close()
    assert shown(machine.ask(front, 1)) == [1]
