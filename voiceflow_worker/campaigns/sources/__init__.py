"""Campaign files of any format: the format detected, and workbooks and Parquet files read."""
