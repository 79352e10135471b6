"""`python -m iqazoo` is `iqazoo`."""

import sys

from iqazoo.cli import main

sys.exit(main())
