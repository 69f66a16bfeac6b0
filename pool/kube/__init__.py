"""Sandboxes as pods: the Kubernetes backend. The only place that may import its client."""
