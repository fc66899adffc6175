#!/usr/lib/excise/bin/python -I
"""The command `excise`. -I: neither the caller's environment nor the current folder says what is imported."""

import sys

from excise_agent.cli import main

sys.exit(main())
