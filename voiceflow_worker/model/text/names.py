"""Patterns of queue names and sub-account ids."""

from __future__ import annotations

import re

QUEUE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,15}")
"""The pattern of a queue name. A name has at most 16 characters, so that a job id with a POST number fits into the 50
characters of a `clientRequestId`."""

SUB_ACCOUNT_ID = re.compile(r"[A-Za-z0-9\-._&]{3,50}")
"""The pattern of a sub-account id (8x8 voice API reference)."""
