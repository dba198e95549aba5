"""Airflow hooks, operators, sensors, triggers and notifiers for phone calls.

It imports only the public package `voiceflow_worker`, so that the two can be upgraded independently. Importing this
package does not import Airflow.
"""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """The provider's description for Airflow (entry point `apache_airflow_provider`)."""
    from airflow_provider.provider_info import PROVIDER_INFO

    return PROVIDER_INFO
