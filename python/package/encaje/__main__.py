"""The command ``encaje``, also as ``python -m encaje``."""

import signal
import sys

from encaje._encaje import main as _main
from encaje._program import COMMAND


def main() -> None:
    """Run the program with the arguments of this process, and exit with its code."""
    # The program has its own ways with signals.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(_main(COMMAND, sys.argv[1:]))


if __name__ == "__main__":
    main()
