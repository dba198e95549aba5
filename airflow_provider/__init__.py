"""Airflow hooks, operators, sensors, triggers and notifiers for phone calls.

Empty so far. What comes here imports only the front door, `voiceflow_worker`, never its rooms, so that an Airflow
deployment and the library can move on their own.
"""
