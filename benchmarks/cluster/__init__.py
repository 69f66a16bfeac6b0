"""Measures the service with its pods on a real cluster, beside what others do there: in one run, on one machine."""
