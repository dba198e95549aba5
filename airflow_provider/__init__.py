"""Airflow hooks, operators, sensors, triggers and notifiers for phone calls.

It imports only the front door, `voiceflow_worker`, never its rooms, so that an Airflow deployment and the library can
move on their own. Importing this package loads nothing of Airflow.
"""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """What Airflow wants to know of a provider (entry point `apache_airflow_provider`)."""
    from airflow_provider.provider_info import PROVIDER_INFO

    return PROVIDER_INFO
