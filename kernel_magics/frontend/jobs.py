"""The magics that ask what became of background cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.core.magic_arguments import argument
from IPython.display import display

from .arguments import magic_arguments, parse, usage

if TYPE_CHECKING:
    from ..kernels.jobs import Job
    from .session import LocalSession


@magics_class
class JobMagics(Magics):
    """Magics for cells that run in the background."""

    def __init__(self, session: LocalSession) -> None:
        super().__init__(session.shell)
        self._session = session

    @magic_arguments()
    @line_magic
    @usage
    def remote_jobs(self, line: str) -> None:
        """Show the background cells: state, kernel, how long they ran, what they run.

        ::

            %remote_jobs
        """
        from . import view

        parse(self.remote_jobs, line)
        display(view.jobs_table(list(self._session.pool.jobs)))

    @magic_arguments()
    @argument("--wait", action="store_true", help="until it is over; Ctrl-C ends the waiting only")
    @argument("job", nargs="?", help="its number, as %%remote_jobs has it; the last one without")
    @line_magic
    @usage
    def remote_result(self, line: str) -> Job:
        """Show the outputs of a background cell again, all that there are by now.

        ::

            %remote_result
            job = %remote_result 3 --wait
        """
        from . import background

        args = parse(self.remote_result, line)
        jobs = self._session.pool.jobs
        if args.job is not None and not args.job.isdecimal():
            raise UsageError(f"a job is named by its number, not {args.job!r}")
        job = jobs.last() if args.job is None else jobs[int(args.job)]
        if args.wait:
            job.wait()
        background.show_again(self._session, job)
        return job
