"""Campaign files of any format: the detection of the format, and the readers of workbooks and Parquet files."""
