"""The suite on every machine of a Dask cluster, one process a machine at a time."""
