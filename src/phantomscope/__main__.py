"""`python -m phantomscope`."""

import sys

from phantomscope.cli import main

sys.exit(main())
