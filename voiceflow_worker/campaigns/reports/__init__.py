"""The files of reports: CSV, Excel and HTML."""
