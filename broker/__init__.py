"""The HTTP face: the only place that knows HTTP, the command line and the environment."""
