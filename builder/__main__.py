# PYTHON_ARGCOMPLETE_OK
"""``python -m builder``, the same as ``sa-med2d``."""

import sys

from builder.command_line import main

if __name__ == "__main__":
    sys.exit(main())
