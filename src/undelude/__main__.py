"""`python -m undelude`."""

import sys

from undelude._cli.app import main

sys.exit(main())
