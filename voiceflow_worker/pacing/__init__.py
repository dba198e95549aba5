"""Pacing within one process; the pace of a queue over all its workers is the store's business."""
