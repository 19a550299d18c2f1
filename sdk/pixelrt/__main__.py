"""`python -m pixelrt`."""

from __future__ import annotations

import sys

from pixelrt.cli import main

sys.exit(main())
