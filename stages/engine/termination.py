"""SIGTERM, by which clusters end a job: a training ends after the step it is at, which is saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_fabric import Fabric

EXIT_CODE = 128 + signal.SIGTERM


class Terminated(BaseException):
    """SIGTERM came. No Exception, so that nothing takes it for a damaged clip.

    step: after which all ranks end together, and which is saved; None: this process ends at once.
    """

    def __init__(self, step: int | None = None) -> None:
        saved = "" if step is None else f" after step {step}, which is saved"
        super().__init__(f"ended by SIGTERM{saved}; the same command goes on where it was")
        self.step = step


class Termination:
    """Whether SIGTERM came, to this process or to any other of the training.

    Between `begin` and `end` it is only noted; before and after, it raises Terminated at once.
    """

    def __init__(self) -> None:
        self._asked = self._noting = False
        self._group: Any = None  # a group of its own, so that its messages overtake no others
        self._sent: tuple[Any, Any] | None = None  # an exchange under way, and what it exchanges

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Inside, SIGTERM comes here; only a main thread is ever told of one."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._come)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _come(self, *_: Any) -> None:
        self._asked = True
        if not self._noting:
            raise Terminated

    def begin(self, fabric: Fabric) -> None:
        """From now on, only note it."""
        if fabric.world_size > 1 and self._group is None:
            from torch import distributed

            self._group = distributed.new_group(backend="gloo")  # no wait for the GPU
        self._noting = True

    def agreed(self) -> bool:
        """Return whether to end now: the same answer on all ranks, which must all call it.

        Ranks are asked without a wait: the answer is that of the last call.
        """
        if self._group is None:
            return self._asked
        import torch
        from torch import distributed

        answer = self._answer()
        flag = torch.tensor(int(self._asked))
        maximum = distributed.ReduceOp.MAX
        work = distributed.all_reduce(flag, maximum, group=self._group, async_op=True)
        self._sent = work, flag
        return answer

    def end(self) -> None:
        """From now on, SIGTERM ends the process at once; all ranks must call it."""
        self._answer()
        self._noting = False

    def _answer(self) -> bool:
        if self._sent is None:
            return False
        work, flag = self._sent
        work.wait()
        self._sent = None
        return bool(flag)
