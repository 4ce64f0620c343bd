"""Events that have left PostgreSQL: Parquet files that hold them, prove them and give them back."""
