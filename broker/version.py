"""Which service this is. Apart, so that the command line says it without loading the service."""

SERVICE_VERSION = "0.1.0"
