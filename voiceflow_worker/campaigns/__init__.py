"""Campaigns: files of calls read into a queue, and reports of the results."""
