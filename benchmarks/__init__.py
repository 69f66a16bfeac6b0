"""Measures the service on this machine: load on a schedule, peers in the same run, results as JSON and a table."""
