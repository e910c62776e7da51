"""Jobs without a front end: what becomes of one, whoever shows it."""

from __future__ import annotations

import asyncio

import pytest

from kernel_magics.errors import NoSuchJob, RemoteError
from kernel_magics.kernels import jobs as jobs_module
from kernel_magics.kernels.jobs import Job, Jobs
from kernel_magics.kernels.kernel import Kernel
from kernel_magics.protocol.message import Message
from tests.support.waiting import PATIENCE, wait_until


def begin(jobs: Jobs, kernel: Kernel, code: str, show: object = lambda item: None) -> Job:
    job = jobs.new(kernel, code)
    jobs.start(job, sink=None, show=show, ended=lambda job: None)  # type: ignore[arg-type]
    return job


def test_outputs_that_cannot_be_shown_are_kept_and_the_job_ends(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(item: Message | str) -> None:
        raise BrokenPipeError

    job = begin(Jobs(), kernel, "print('said'); 6 * 7", broken)
    assert job.result(PATIENCE).status == "ok"
    assert [each["output_type"] for each in job.outputs] == ["stream", "execute_result"]
    assert "could not be shown" in caplog.text


def test_who_is_told_of_the_end_and_fails_keeps_nothing_from_ending(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(execution: object) -> None:
        raise RuntimeError

    first = kernel.submit("1", then=fail)
    assert first.wait().status == "ok"
    assert kernel.run("print('next')").stdout == "next\n"
    wait_until(lambda: kernel.running is None, what="nothing runs")
    assert "could not be shown" in caplog.text


def test_it_can_be_awaited_and_whoever_is_cancelled_cancels_nobody_else(kernel: Kernel) -> None:
    async def wait_and_leave(job: Job) -> str:
        waiting = asyncio.ensure_future(_await(job))
        await asyncio.sleep(0)
        waiting.cancel()
        return (await job).status

    async def _await(job: Job) -> object:
        return await job

    job = begin(Jobs(), kernel, "import time; time.sleep(0.2)")
    assert asyncio.run(wait_and_leave(job)) == "ok"


def test_those_that_are_over_are_forgotten_but_the_last_ones(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "REMEMBERED", 2)
    jobs = Jobs()
    made = []
    for code in ("1", "1 / 0", "3", "4"):
        made.append(begin(jobs, kernel, code))
        made[-1].wait()
    assert [job.number for job in jobs] == [2, 3, 4]  # the new one came on top of two
    with pytest.raises(NoSuchJob, match="no job 1; there are 2, 3, 4"):
        jobs[1]
    assert jobs.last() is made[-1]
    with pytest.raises(RemoteError):
        jobs[2].result()
