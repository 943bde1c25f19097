"""What a board runs before the worker: see to it that nothing outlives the connection, and nothing is written.

It stands alone, and is sent in front of :mod:`edgecnn.targets.worker` as one text. Between two frames the worker ends
when its stdin does; in the middle of a model, only this notices.
"""

import os
import select
import sys
import threading

#: Calls that are under way have a moment to end by themselves.
GRACE_S = 0.5


def leave_with_stdin() -> None:
    """End this process when nobody can write to its stdin any more."""
    hangup = select.poll()
    hangup.register(0, getattr(select, "POLLRDHUP", 0))  # POLLHUP is always told
    hangup.poll()
    threading.Event().wait(GRACE_S)
    os._exit(0)


def guard() -> None:
    """Watch stdin from a thread that sleeps, and leave the board as it is."""
    sys.path[:] = [place for place in sys.path if place]  # what lies in the home folder is no library
    sys.dont_write_bytecode = True
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it would write to the user's cache
    threading.Thread(target=leave_with_stdin, daemon=True).start()


if __name__ == "__main__":
    guard()
