"""The shim that runs inside a sandbox: zygote, supervisor and armed child. Standard library only."""

VERSION = "0.1.0"
