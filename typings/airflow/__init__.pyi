# What the provider uses of Airflow, for the type checkers of this repository, which has no Airflow installed. Only
# names and signatures; what Airflow really does is judged by tests/airflow.

__version__: str
