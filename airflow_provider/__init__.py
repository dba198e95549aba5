"""Airflow hooks, operators, sensors, triggers and notifiers for phone calls. Importing this does not import Airflow."""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Return the description of the provider for Airflow (entry point `apache_airflow_provider`)."""
    from airflow_provider.provider_info import PROVIDER_INFO

    return PROVIDER_INFO
