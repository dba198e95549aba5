"""The Airflow hook for 8x8 and for the store of calls."""
