"""The one entry point: Lightning's `fit`, `validate`, `test`, `predict`, and the stages of this project."""

import sys
import warnings

from errors import InputError


def main(args: list[str] | None = None) -> int:
    """Run one command; returns the exit status, 2 for input that the user can mend."""
    arguments = sys.argv[1:] if args is None else list(args)
    # Advice for developers of Lightning and torch, not for whoever cleans a folder of images.
    for text in (".*LeafSpec.*", ".*num_workers.*", ".*treespec.*", ".*tensorboardX.*", ".*logging interval.*"):
        warnings.filterwarnings("ignore", text)
    from stages.command import dispatch

    try:
        dispatch(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command continues where it was", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
