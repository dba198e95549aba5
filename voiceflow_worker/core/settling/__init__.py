"""Settling: answers, summaries, log rows and decisions of people become the next state of a job."""
