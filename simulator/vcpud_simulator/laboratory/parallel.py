"""Many independent runs on all cores: with a progress bar, and nothing lost when it is interrupted.

Problem: a study is thousands of runs of a second each; it must use every core, show how far it is,
and go on where it was stopped.

Approach: joblib does the work. Each result is written, as soon as it is there, to a file named by
a hash of function, task and code; with `resume` what is on disk is not run again. Changed code is
another name, so a result of older code is never taken for one of today's; where it is known which
modules make a result, only a change of those or of what they import counts. Workers end with the
process that started them, even where that was killed. The backend is joblib's current one:
`joblib.parallel_config("dask")` around a call is how it leaves one machine.

References: joblib.readthedocs.io, "Embarrassingly parallel for loops".
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vcpud.errors import VcpudError
from vcpud_simulator.laboratory.provenance import code_digest

if TYPE_CHECKING:
    from rich.progress import Progress

Task = TypeVar("Task", bound=Hashable)
Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1
"""Of prctl(2), in linux/prctl.h."""

EXTRA = "pip install 'vcpud[laboratory]'"


class Cache:
    """Results on disk, one file each.

    Attributes:
        folder: Where they are.
        modules: Which modules make the result of a task; None where that is not known: then any of
            vcpud's may.
    """

    def __init__(
        self, folder: Path, modules: Callable[[Any], tuple[str, ...]] | None = None
    ) -> None:
        self.folder = folder
        self.modules = modules

    def path(self, function: Callable[[Any], Any], task: object) -> Path:
        """Where the result of `function(task)` is kept; `repr(task)` must say all there is to it."""
        roots = () if self.modules is None else self.modules(task)
        words = (function.__module__, function.__qualname__, code_digest(*roots), repr(task))
        name = hashlib.sha256("\0".join(words).encode()).hexdigest()[:32]
        return self.folder / f"{name}.pickle"

    def load(self, function: Callable[[Any], Any], task: object) -> tuple[bool, Any]:
        """Whether there is a whole result, and it."""
        try:
            return True, pickle.loads(self.path(function, task).read_bytes())  # noqa: S301 - ours
        except (OSError, pickle.UnpicklingError, EOFError):
            return False, None

    def store(self, function: Callable[[Any], Any], task: object, result: object) -> None:
        """Write a result whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(function, task)
        descriptor, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                pickle.dump(result, file)
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise


def run_all(  # noqa: PLR0913 - all but two by name
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    jobs: int | None = None,
    cache: Cache | None = None,
    resume: bool = False,
    label: str = "",
) -> dict[Task, Result]:
    """Run `function` on every distinct task, first things first.

    Args:
        function: A module-level function; it and the tasks are sent to other processes.
        tasks: Frozen values whose `repr` says everything; equal ones are run once.
        jobs: Processes at a time; None for one a core, 1 for this process.
        cache: Where results are kept.
        resume: Whether to take what is there.
        label: For the progress bar on standard error.

    Returns:
        The results by task, in the order of the tasks.

    Raises:
        VcpudError: The packages of the laboratory are missing.
    """
    wanted = list(dict.fromkeys(tasks))
    found: dict[Task, Result] = {}
    if cache is not None and resume:
        for task in wanted:
            there, result = cache.load(function, task)
            if there:
                found[task] = result
    missing = [task for task in wanted if task not in found]
    progress = _progress() if missing else None
    if progress is None:
        return {task: found[task] for task in wanted}
    with progress:
        bar = progress.add_task(label or function.__name__, total=len(wanted))
        progress.advance(bar, len(found))
        for task, result in _results(function, missing, jobs):
            found[task] = result
            if cache is not None:
                cache.store(function, task, result)
            progress.advance(bar)
    return {task: found[task] for task in wanted}


def _results(
    function: Callable[[Task], Result], tasks: list[Task], jobs: int | None
) -> Iterator[tuple[Task, Result]]:
    if jobs == 1:
        for task in tasks:
            yield task, function(task)
        return
    joblib = _joblib()
    # One task at a time: batches would have the last core work alone at the end.
    work = joblib.Parallel(
        n_jobs=jobs or joblib.cpu_count(), batch_size=1, return_as="generator_unordered"
    )
    ours = os.getpid()
    yield from work(joblib.delayed(_pair)(function, task, ours) for task in tasks)


def _pair(function: Callable[[Task], Result], task: Task, sender: int) -> tuple[Task, Result]:
    if os.getppid() == sender:  # else it is a thread, or a worker of somebody else's
        _end_with(sender)
    return task, function(task)


@functools.cache
def _end_with(parent: int) -> None:
    """Have this worker killed when its parent is gone, however that has ended.

    It would wait for ever to hand over its result: it holds the pipe's other end itself, so that nothing
    tells it that nobody reads.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def _joblib() -> Any:
    try:
        import joblib  # type: ignore[import-untyped] # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise VcpudError(f"this needs joblib: {EXTRA}") from error
    return joblib


def _progress() -> Progress:
    try:
        from rich.console import Console  # noqa: PLC0415 - of an extra
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
    except ImportError as error:
        raise VcpudError(f"this needs rich: {EXTRA}") from error
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        disable=not sys.stderr.isatty(),
    )
