"""Kinds of steps."""
