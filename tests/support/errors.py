"""Errors of tests."""

from __future__ import annotations


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group of errors, and in its groups; an error itself if it is no group."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]
