"""Providers: where models answer."""
