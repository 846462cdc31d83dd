"""The one entry point: Lightning's `fit`, `validate`, `test`, `predict`, and the stages of this project."""

import gc
import os
import sys
import warnings
from typing import NoReturn

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.interrupts import Interrupts, end_interrupted, end_ranks, is_interrupt
from poison_and_defend.core.processes.stopping import STOPPED_STATUS, Stopped


def main(args: list[str] | None = None) -> int:
    """Run one command; returns the exit status, 2 for input that the user can mend."""
    arguments = sys.argv[1:] if args is None else list(args)
    # Advice for developers of Lightning and torch, not for whoever cleans a folder of images.
    # What is logged here is the same on all ranks, or a metric that knows of them.
    ignored = (
        ".*LeafSpec.*",
        ".*num_workers.*",
        ".*treespec.*",
        ".*tensorboardX.*",
        ".*logging interval.*",
        ".*sync_dist=True.*",
    )
    for text in ignored:
        warnings.filterwarnings("ignore", text)
    if "SLURM_JOB_ID" not in os.environ:
        # That srun exists is no news to whoever is on a login node.
        warnings.filterwarnings("ignore", ".*`srun` command is available.*")
    # A notebook's, which need not be installed beside us, would fail in every import of matplotlib; files need none.
    os.environ["MPLBACKEND"] = "agg"
    with Interrupts() as interrupts:
        return _run(arguments, interrupts)


def _run(arguments: list[str], interrupts: Interrupts) -> int:
    try:
        # Here, so that an interrupt is answered while it is imported, too.
        from poison_and_defend.cli.dispatch import dispatch

        dispatch(arguments)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return STOPPED_STATUS
    except (KeyboardInterrupt, SystemExit) as stopped:
        if not (interrupts.came or is_interrupt(stopped)):
            raise
        return end_interrupted(stopped)
    except Exception as error:
        if interrupts.came:
            return end_interrupted(error)
        cause: BaseException | None = error
        # The argument parser wraps what a constructor raises in errors of its own.
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        end_ranks()
        print(f"error: {cause}", file=sys.stderr)
        return 2
    return 0


def console() -> NoReturn:
    """The console script: run the command line's command and leave with its status."""
    status = main()
    # Looking through all that torch imported for cycles, before it goes anyway, takes seconds.
    gc.freeze()
    sys.exit(status)
