"""`python3 -m eqdyn`."""

import sys

from eqdyn.cli import main

sys.exit(main())
