"""Tocsin keeps a self-hosted web server standing."""

__version__ = "0.1.0"
